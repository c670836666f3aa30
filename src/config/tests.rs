use super::*;

fn load(sources: &Sources) -> Settings {
    Settings::load(sources).unwrap()
}

#[test]
fn later_layers_win_and_say_where_they_come_from() {
    let sources = Sources {
        agent_files: Vec::new(),
        repository_file: Some(("/r/orchestra.toml".into(), "jobs = 2\n[profile.claude]\nmodel = 'a'".into())),
        user_file: Some(("/u/config.toml".into(), "jobs = 3\ndefault-profile = 'replay'".into())),
        git_config: vec![source::GitValue::new("jobs", "5", "/u/.gitconfig", false)],
        environment: vec![("JOBS".into(), "6".into()), ("LOG".into(), "debug".into())],
        flags: Vec::new(),
    };
    let settings = load(&sources);
    assert_eq!(settings.jobs(), 6);
    assert_eq!(settings.default_profile().unwrap(), "replay");
    assert_eq!(settings.setting("profile.claude.model").unwrap().origin.to_string(), "/r/orchestra.toml");
    let said: Vec<_> = settings.said("jobs").iter().map(|said| said.origin.to_string()).collect();
    assert_eq!(
        said,
        ["built in", "/r/orchestra.toml", "/u/config.toml", "git config (/u/.gitconfig)", "ORCHESTRA_JOBS"]
    );
}

#[test]
fn what_the_repository_wants_to_run_waits_for_approval() {
    let text = "[profile.x]\nprogram = 'command'\ncommand = ['sh', '-c', 'evil']\nmodel = 'm'";
    let sources =
        Sources { repository_file: Some(("/r/orchestra.toml".into(), text.into())), ..Sources::default() };
    let settings = load(&sources);
    let error = settings.profile("x").unwrap_err();
    assert_eq!(
        error.to_string(),
        "use `profile.x.command`, `profile.x.program`: the repository names it, and you have not approved it"
    );
    assert!(settings.profile("claude").is_ok(), "other profiles are not concerned");
    assert_eq!(settings.approved(true).profile("x").unwrap().command, ["sh", "-c", "evil"]);
    let local = vec![source::GitValue::new("profile.claude.command", "evil", ".git/config", true)];
    let settings = load(&Sources { git_config: local, ..Sources::default() });
    assert!(matches!(settings.profile("claude"), Err(Error::NotApproved { .. })));
}

#[test]
fn a_repository_can_only_make_the_sandbox_stricter() {
    let own_is_silent = |settings: &Settings| settings.setting("profile.claude.sandbox").is_none();
    let level = |repository: &str, user: &str, local: &str, variable: &str| {
        let file = |text: &str| Some(("f".to_owned(), text.to_owned())).filter(|_| !text.is_empty());
        let local = (!local.is_empty()).then(|| source::GitValue::new("sandbox", local, ".git/config", true));
        let variable = (!variable.is_empty()).then(|| ("SANDBOX".to_owned(), variable.to_owned()));
        let settings = load(&Sources {
            agent_files: Vec::new(),
            repository_file: file(repository),
            user_file: file(user),
            git_config: local.into_iter().collect(),
            environment: variable.into_iter().collect(),
            flags: Vec::new(),
        });
        assert_eq!(settings.sandbox("claude"), settings.clone().approved(true).sandbox("claude"));
        assert_eq!(settings.sandbox("claude"), settings.profile("claude").unwrap().sandbox);
        if own_is_silent(&settings) && settings.setting("sandbox").is_some() {
            let shown = settings.setting("sandbox").unwrap().value.to_string();
            assert_eq!(shown, settings.sandbox("claude").word(), "what is listed is what counts");
        }
        settings.sandbox("claude").word()
    };
    let (all, own) = ("sandbox = 'landlock'", "profile.claude.sandbox = 'bubblewrap'");
    let (none, own_none) = ("sandbox = 'none'", "profile.claude.sandbox = 'none'");
    assert_eq!(level("", "", "", ""), "none");
    assert_eq!(level(all, "", "", ""), "landlock");
    assert_eq!(level(all, none, "", ""), "landlock", "stricter");
    assert_eq!(level(none, all, "", ""), "landlock", "not weaker");
    assert_eq!(level("", all, "none", ""), "landlock", "not weaker by git's configuration either");
    assert_eq!(level(own_none, all, "", ""), "landlock");
    assert_eq!(level(own, all, "", ""), "bubblewrap");
    assert_eq!(level("", own, "landlock", ""), "bubblewrap");
    assert_eq!(level("", &format!("{all}\n{own_none}"), "", ""), "none", "the user's profile, not all");
    assert_eq!(level(own, "", "", "none"), "none", "this once");
    assert_eq!(level("", "", "", "bubblewrap"), "bubblewrap");
}

#[test]
fn wrong_values_and_unknown_keys_are_told_apart() {
    let file = |text: &str| Sources {
        user_file: Some(("/u/config.toml".into(), text.into())),
        ..Sources::default()
    };
    let error = Settings::load(&file("jobs = 'many'")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "use `jobs` from /u/config.toml: a number from 1 to 256 is expected, not `many`"
    );
    let settings = load(&file("job = 3\n[profile.x]\nmodle = 'a'\n[profile.y.env]\nA = 'b'"));
    let unknown: Vec<_> = settings.unknown().iter().map(|unknown| unknown.key.as_str()).collect();
    assert_eq!(unknown, ["job", "profile.x.modle"]);
}
