//! What an agent's process sees of the user's environment: a list of what it may, never all but something.

use crate::config::Profile;
use crate::model::Agent;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Variables that every agent gets.
const PASSED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "GOPATH",
    "JAVA_HOME",
    "NVM_DIR",
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "IS_SANDBOX",
];
/// Beginnings of names of variables that every agent gets.
const PASSED_PREFIXES: &[&str] = &["LC_"];
const CLAUDE: &str = "claude";
/// Beginnings of names that one program needs: how it reaches its model and proves who the user is.
///
/// Not what tells a program that it runs inside another session of its kind.
const PROGRAM_PREFIXES: &[(&str, &[&str])] = &[
    (
        CLAUDE,
        &["ANTHROPIC_", "CLAUDE_", "DISABLE_", "MCP_", "BASH_DEFAULT_", "BASH_MAX_", "VERTEX_", "CLOUD_ML_"],
    ),
    ("api", &["ANTHROPIC_"]),
    ("codex", &["OPENAI_", "CODEX_", "AZURE_OPENAI_", "RUST_LOG"]),
    (
        "gemini",
        &[
            "GEMINI_",
            "GOOGLE_API_KEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_CLOUD_",
            "GOOGLE_GEMINI_",
            "GOOGLE_GENAI_",
            "GOOGLE_VERTEX_",
            "CODE_ASSIST_ENDPOINT",
        ],
    ),
    // What the program behind it needs the profile passes on.
    ("acp", &[]),
];

/// Beginnings of names that count only if another variable is set: clouds that host the model.
const CLOUD_PREFIXES: &[(&str, &str, &str)] = &[
    (CLAUDE, "CLAUDE_CODE_USE_BEDROCK", "AWS_"),
    (CLAUDE, "CLAUDE_CODE_USE_VERTEX", "GOOGLE_"),
    (CLAUDE, "CLAUDE_CODE_USE_VERTEX", "GCLOUD_"),
];
/// Variables of those that begin so which belong to a session that we may run in ourselves.
const WITHHELD: &[&str] = &[
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_CODE_SSE_PORT",
    "CLAUDE_CODE_SESSION_ID",
    "CODEX_MANAGED_BY_NPM",
    "CODEX_SANDBOX",
    "CODEX_SANDBOX_NETWORK_DISABLED",
    "CODEX_THREAD_ID",
    "GEMINI_CLI",
    "GEMINI_CLI_IDE_AUTH_TOKEN",
    "GEMINI_CLI_IDE_PID",
    "GEMINI_CLI_IDE_SERVER_PORT",
    "GEMINI_CLI_IDE_WORKSPACE_PATH",
    "GEMINI_PTY_INFO",
    "GEMINI_SANDBOX",
];

/// Variables that say whose account a program uses and where its model is: a limit is one of those. What only says how
/// the program works is none, nor is a token that is made anew from time to time for the same account.
const ACCOUNTS: &[(&str, &[&str])] = &[
    (
        CLAUDE,
        &[
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "ANTHROPIC_BASE_URL",
            "ANTHROPIC_BEDROCK_BASE_URL",
            "ANTHROPIC_CUSTOM_HEADERS",
            "ANTHROPIC_FOUNDRY_API_KEY",
            "ANTHROPIC_FOUNDRY_BASE_URL",
            "ANTHROPIC_FOUNDRY_RESOURCE",
            "ANTHROPIC_VERTEX_BASE_URL",
            "ANTHROPIC_VERTEX_PROJECT_ID",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "CLAUDE_CODE_USE_BEDROCK",
            "CLAUDE_CODE_USE_FOUNDRY",
            "CLAUDE_CODE_USE_VERTEX",
            "CLAUDE_CONFIG_DIR",
            "CLOUD_ML_REGION",
        ],
    ),
    ("api", &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_CUSTOM_HEADERS"]),
    (
        "codex",
        &[
            "AZURE_OPENAI_API_KEY",
            "AZURE_OPENAI_ENDPOINT",
            "CODEX_API_KEY",
            "CODEX_HOME",
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
            "OPENAI_ORGANIZATION",
            "OPENAI_ORG_ID",
            "OPENAI_PROJECT",
        ],
    ),
    (
        "gemini",
        &[
            "CODE_ASSIST_ENDPOINT",
            "GEMINI_API_KEY",
            "GEMINI_CLI_HOME",
            "GOOGLE_API_KEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_CLOUD_LOCATION",
            "GOOGLE_CLOUD_PROJECT",
            "GOOGLE_CLOUD_PROJECT_ID",
            "GOOGLE_GEMINI_BASE_URL",
            "GOOGLE_GENAI_USE_GCA",
            "GOOGLE_GENAI_USE_VERTEXAI",
            "GOOGLE_VERTEX_BASE_URL",
        ],
    ),
];
/// The same where another variable is set: who the user is in a cloud that hosts the model.
const CLOUD_ACCOUNTS: &[(&str, &str, &[&str])] = &[
    (
        CLAUDE,
        "CLAUDE_CODE_USE_BEDROCK",
        &["AWS_ACCESS_KEY_ID", "AWS_BEARER_TOKEN_BEDROCK", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_REGION"],
    ),
    (
        CLAUDE,
        "CLAUDE_CODE_USE_VERTEX",
        &["GCLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"],
    ),
];

/// Puts together the environment of a run of `agent`.
///
/// `ours` is the user's environment, `program_dir` where our own executable lies (it comes last in `PATH`, so that
/// `git orchestra` is found from the worktree and shadows nothing).
pub fn environment(
    ours: &BTreeMap<OsString, OsString>,
    profile: &Profile,
    agent: &Agent,
    run: u32,
    program_dir: Option<&Path>,
) -> BTreeMap<OsString, OsString> {
    put_together(ours, &profile.program, &profile.pass_env, &profile.env, agent, run, program_dir)
}

/// The same for a command that makes a worktree of `agent` ready or tears it down: nothing that its program needs to
/// reach its model, and of the rest of the user's environment what `pass_env` names.
pub(super) fn of_hook(
    ours: &BTreeMap<OsString, OsString>,
    pass_env: &[String],
    agent: &Agent,
    run: u32,
    program_dir: Option<&Path>,
) -> BTreeMap<OsString, OsString> {
    put_together(ours, "", pass_env, &BTreeMap::new(), agent, run, program_dir)
}

/// The same for what is run on what a merge made: there is no agent, and no `git orchestra` where what agents wrote
/// could call it.
pub(super) fn of_gate(
    ours: &BTreeMap<OsString, OsString>,
    pass_env: &[String],
) -> BTreeMap<OsString, OsString> {
    passed(ours, "", pass_env)
}

/// Adds where everything is. Names of branches are given without `refs/heads/`.
pub(super) fn add_places(
    env: &mut BTreeMap<OsString, OsString>,
    agent: &Agent,
    worktree: &Path,
    main_worktree: &Path,
) {
    let mut set = |key: &str, value: &OsStr| env.insert(key.into(), value.to_owned());
    set("GIT_ORCHESTRA_WORKTREE", worktree.as_os_str());
    set("GIT_ORCHESTRA_MAIN_WORKTREE", main_worktree.as_os_str());
    set("GIT_ORCHESTRA_BRANCH", short(&agent.branch).as_ref());
    set("GIT_ORCHESTRA_BASE", agent.base.as_str().as_ref());
    if let Some(target) = &agent.target {
        set("GIT_ORCHESTRA_TARGET", short(target).as_ref());
    }
}

/// Adds to what git is told by the environment.
pub(super) fn add_git_config(env: &mut BTreeMap<OsString, OsString>, settings: &[(&str, &str)]) {
    let count = env.get(OsStr::new("GIT_CONFIG_COUNT")).and_then(|count| count.to_str()?.parse().ok());
    let count: usize = count.unwrap_or(0);
    for (at, (key, value)) in (count..).zip(settings) {
        env.insert(format!("GIT_CONFIG_KEY_{at}").into(), key.into());
        env.insert(format!("GIT_CONFIG_VALUE_{at}").into(), value.into());
    }
    env.insert("GIT_CONFIG_COUNT".into(), (count + settings.len()).to_string().into());
}

fn short(branch: &str) -> &str {
    branch.strip_prefix("refs/heads/").unwrap_or(branch)
}

/// What `program` may see of the user's environment, and what every program is told.
fn passed(
    ours: &BTreeMap<OsString, OsString>,
    program: &str,
    pass_env: &[String],
) -> BTreeMap<OsString, OsString> {
    let program = as_known(program);
    let prefixes: Vec<&str> = PROGRAM_PREFIXES
        .iter()
        .filter(|(of, _)| *of == program)
        .flat_map(|(_, prefixes)| prefixes.iter().copied())
        .chain(PASSED_PREFIXES.iter().copied())
        .chain(
            CLOUD_PREFIXES
                .iter()
                .filter(|(of, switch, _)| *of == program && ours.contains_key(OsStr::new(switch)))
                .map(|(_, _, prefix)| *prefix),
        )
        .collect();
    let may = |key: &OsStr| {
        key.to_str().is_some_and(|key| {
            PASSED.contains(&key)
                || prefixes.iter().any(|prefix| key.starts_with(prefix)) && !WITHHELD.contains(&key)
                || pass_env.iter().any(|name| name == key)
        })
    };
    let mut env: BTreeMap<OsString, OsString> =
        ours.iter().filter(|(key, _)| may(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    // Nobody is there to answer a pager, an editor or a password prompt.
    for (key, value) in [
        ("TERM", "dumb"),
        ("PAGER", "cat"),
        ("GIT_PAGER", "cat"),
        ("GIT_EDITOR", ":"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("NO_COLOR", "1"),
        // By itself git syncs neither loose objects nor refs: a power cut would leave a branch that cannot be read.
        ("GIT_CONFIG_COUNT", "2"),
        ("GIT_CONFIG_KEY_0", "core.fsync"),
        ("GIT_CONFIG_VALUE_0", "committed,reference"),
        ("GIT_CONFIG_KEY_1", "core.fsyncMethod"),
        ("GIT_CONFIG_VALUE_1", "batch"),
    ] {
        env.insert(key.into(), value.into());
    }
    env
}

fn put_together(
    ours: &BTreeMap<OsString, OsString>,
    program: &str,
    pass_env: &[String],
    set_env: &BTreeMap<String, String>,
    agent: &Agent,
    run: u32,
    program_dir: Option<&Path>,
) -> BTreeMap<OsString, OsString> {
    let mut env = passed(ours, program, pass_env);
    let mut set = |key: &str, value: &OsStr| env.insert(key.into(), value.to_owned());
    for (key, value) in set_env {
        set(key, value.as_ref());
    }
    set("GIT_ORCHESTRA_AGENT", agent.id.as_str().as_ref());
    set("GIT_ORCHESTRA_AGENT_NAME", agent.name.as_str().as_ref());
    if let Some(task) = &agent.task {
        set("GIT_ORCHESTRA_TASK", task.as_str().as_ref());
    }
    set(super::lease::LeaseInfo::MARK, format!("{}/{run}", agent.id).as_ref());
    if let Some(dir) = program_dir {
        let path = env.get(OsStr::new("PATH")).cloned().unwrap_or_default();
        let dirs = std::env::split_paths(&path).chain([dir.to_owned()]);
        if let Ok(path) = std::env::join_paths(dirs) {
            env.insert("PATH".into(), path);
        }
    }
    env
}

/// The program whose variables it needs: that of the two which needs more.
fn as_known(program: &str) -> &str {
    if program == "hybrid" { CLAUDE } else { program }
}

/// Whether `program` has a model of its own, whose limits stand in its way.
pub(super) fn has_model(program: &str) -> bool {
    PROGRAM_PREFIXES.iter().any(|(name, _)| *name == as_known(program))
}

/// Whether a variable of a run's environment says whose account `program` uses, or where.
pub(super) fn is_of_account(program: &str, env: &BTreeMap<OsString, OsString>, name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let program = as_known(program);
    let own = ACCOUNTS.iter().filter(|(of, _)| *of == program).flat_map(|(_, names)| *names);
    let cloud = CLOUD_ACCOUNTS
        .iter()
        .filter(|(of, switch, _)| *of == program && env.contains_key(OsStr::new(switch)))
        .flat_map(|(.., names)| *names);
    name == "HOME" || own.chain(cloud).any(|of_account| *of_account == name)
}

#[cfg(test)]
mod tests {
    use super::super::testing_agent;
    use super::*;
    use crate::config::{Settings, Sources};

    #[test]
    fn secrets_that_nobody_named_stay_out() {
        let ours: BTreeMap<OsString, OsString> = [
            ("PATH", "/usr/bin"),
            ("HOME", "/home/ada"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("GITHUB_TOKEN", "x"),
            ("ANTHROPIC_API_KEY", "x"),
            ("LC_ALL", "C"),
            ("GIT_DIR", "/elsewhere"),
            ("EXTRA", "1"),
        ]
        .map(|(key, value)| (key.into(), value.into()))
        .into();
        let mut profile = Settings::load(&Sources::default()).unwrap().profile("command").unwrap();
        profile.pass_env = vec!["EXTRA".to_owned()];
        profile.env.insert("FOO".to_owned(), "bar".to_owned());
        let agent = testing_agent("heron");
        let env = environment(&ours, &profile, &agent, 2, Some(Path::new("/opt/bin")));
        let get = |key: &str| env.get(OsStr::new(key)).and_then(|value| value.to_str());
        for absent in ["AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "ANTHROPIC_API_KEY", "GIT_DIR"] {
            assert_eq!(get(absent), None, "{absent}");
        }
        assert_eq!(get("PATH"), Some("/usr/bin:/opt/bin"));
        assert_eq!((get("LC_ALL"), get("EXTRA"), get("FOO")), (Some("C"), Some("1"), Some("bar")));
        assert_eq!(get("GIT_ORCHESTRA_AGENT"), Some(agent.id.as_str()));
        assert_eq!(get("GIT_ORCHESTRA_RUN"), Some(format!("{}/2", agent.id).as_str()));
        profile.program = "claude".to_owned();
        let env = environment(&ours, &profile, &agent, 1, None);
        assert!(!env.contains_key(OsStr::new("AWS_SECRET_ACCESS_KEY")));
        assert!(
            env.contains_key(OsStr::new("ANTHROPIC_API_KEY"))
                && !env.contains_key(OsStr::new("GITHUB_TOKEN"))
        );
    }

    #[test]
    fn an_account_is_its_keys_and_places_and_not_how_the_program_works() {
        let ours = |more: &[(&str, &str)]| -> BTreeMap<OsString, OsString> {
            let some = [("HOME", "/home/ada"), ("PATH", "/usr/bin"), ("ANTHROPIC_API_KEY", "a")];
            some.iter().chain(more).map(|(key, value)| (key.into(), value.into())).collect()
        };
        let account = |profile: &str, set: &[(&str, &str)], more: &[(&str, &str)]| {
            let mut profile = Settings::load(&Sources::default()).unwrap().profile(profile).unwrap();
            profile.env.extend(set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
            let env = environment(&ours(more), &profile, &testing_agent("heron"), 1, None);
            let of_account = |(key, _): &(&OsString, &OsString)| is_of_account(&profile.program, &env, key);
            env.iter().filter(of_account).map(|(k, v)| (k.clone(), v.clone())).collect::<BTreeMap<_, _>>()
        };
        let one = account("claude", &[], &[]);
        assert_eq!(one.len(), 2, "{one:?}");
        assert_eq!(account("agent-teams", &[], &[]), one);
        for how in ["CLAUDE_CODE_EFFORT_LEVEL", "CLAUDE_CODE_MAX_RETRIES", "DISABLE_TELEMETRY", "MCP_TIMEOUT"]
        {
            assert_eq!(account("claude", &[(how, "1")], &[]), one, "{how}");
        }
        for whose in
            ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_OAUTH_TOKEN"]
        {
            assert_ne!(account("claude", &[(whose, "b")], &[]), one, "{whose}");
        }
        let cloud = [("AWS_PROFILE", "x"), ("AWS_SESSION_TOKEN", "y")];
        assert_eq!(account("claude", &cloud, &[]), one, "its tools use that cloud, not its model");
        let bedrock = account("claude", &[], &[&cloud[..], &[("CLAUDE_CODE_USE_BEDROCK", "1")]].concat());
        assert!(bedrock.contains_key(OsStr::new("AWS_PROFILE")), "{bedrock:?}");
        assert!(!bedrock.contains_key(OsStr::new("AWS_SESSION_TOKEN")), "{bedrock:?}");
        assert_eq!(account("codex", &[("RUST_LOG", "debug")], &[]), account("codex", &[], &[]));
        assert_ne!(account("codex", &[("CODEX_HOME", "/other")], &[]), account("codex", &[], &[]));
    }
}
