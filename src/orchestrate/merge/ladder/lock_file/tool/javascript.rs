//! npm, pnpm and Yarn.

use super::{Case, Sees, Tool, Versions, ends, line, start};
use serde_json::Value;

/// `npm install --package-lock-only`: neither fetches nor runs what it locks.
pub(super) const NPM: Tool = Tool {
    name: "npm",
    program: "npm",
    file: "package-lock.json",
    manifest: "package.json",
    sees: |name| match name {
        "package.json" => Some(Sees::Whole),
        ".npmrc" => Some(Sees::Part(npmrc)),
        name if ends(name, &[".tgz"]) => Some(Sees::Whole),
        _ => None,
    },
    start: |versions| start::json(&versions.base, &versions.ours, &versions.theirs),
    lines: |_| {
        let words = ["install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund"];
        Ok(vec![line(&words)])
    },
    env: &[("npm_config_update_notifier", "false")],
};

/// pnpm reads the conflict's own markers and keeps the newer of two versions.
pub(super) const PNPM: Tool = Tool {
    name: "pnpm",
    program: "pnpm",
    file: "pnpm-lock.yaml",
    manifest: "package.json",
    sees: |name| match name {
        "package.json" => Some(Sees::Whole),
        "pnpm-workspace.yaml" => Some(Sees::Part(workspace)),
        ".npmrc" => Some(Sees::Part(npmrc)),
        name if ends(name, &[".tgz", ".patch"]) => Some(Sees::Whole),
        _ => None,
    },
    start: |versions| versions.marked.clone(),
    lines: pnpm,
    env: &[
        // Not another pnpm than the one that was allowed.
        ("npm_config_manage_package_manager_versions", "false"),
        ("npm_config_update_notifier", "false"),
    ],
};

fn pnpm(case: &Case<'_>) -> Result<Vec<Vec<String>>, String> {
    if case.start.lines().any(|line| line.starts_with("pnpmfileChecksum:")) {
        return Err("a `.pnpmfile.cjs` shaped it, which is code".to_owned());
    }
    let asks = |text: &str| {
        let manifest = serde_json::from_str::<Value>(text).ok();
        manifest.is_some_and(|manifest| manifest.pointer("/pnpm/configDependencies").is_some())
    };
    if case.named("package.json").any(asks) {
        return Err("`package.json` has `configDependencies`, which pnpm would run".to_owned());
    }
    let words =
        ["install", "--lockfile-only", "--ignore-scripts", "--ignore-pnpmfile", "--no-frozen-lockfile"];
    Ok(vec![line(&words)])
}

/// Yarn from 2 on. Yarn 1 cannot lock without installing, and runs the scripts of what comes from git though told not to.
pub(super) const YARN: Tool = Tool {
    name: "yarn",
    program: "yarn",
    file: "yarn.lock",
    manifest: "package.json",
    sees: |name| match name {
        "package.json" => Some(Sees::Whole),
        ".yarnrc.yml" => Some(Sees::Part(yarnrc)),
        name if ends(name, &[".tgz"]) => Some(Sees::Whole),
        _ => None,
    },
    start: |versions: &Versions| Some(start::yarn(&versions.base, &versions.ours, &versions.theirs)),
    lines: yarn,
    env: &[
        // Neither the Yarn that the repository brings nor another one.
        ("YARN_IGNORE_PATH", "1"),
        ("YARN_ENABLE_SCRIPTS", "0"),
        ("YARN_ENABLE_IMMUTABLE_INSTALLS", "0"),
        ("YARN_ENABLE_TELEMETRY", "0"),
        ("YARN_ENABLE_PROGRESS_BARS", "0"),
    ],
};

fn yarn(case: &Case<'_>) -> Result<Vec<Vec<String>>, String> {
    let is_first = !case.start.lines().any(|line| line.starts_with("__metadata:"));
    if is_first {
        return Err("it is of Yarn 1, which cannot lock without installing".to_owned());
    }
    if case.major() < 2 {
        return Err(format!("it is of Yarn 2 or newer, and the `yarn` that is found is {}", case.version));
    }
    for manifest in case.named("package.json") {
        let Ok(manifest) = serde_json::from_str::<Value>(manifest) else { continue };
        if let Some((name, range)) = built(&manifest) {
            return Err(format!("Yarn would run code of `{name}`, which comes from `{range}`"));
        }
    }
    Ok(vec![line(&["install", "--mode=update-lockfile"])])
}

/// A dependency that Yarn builds before it locks it: from git, or by `exec:`.
fn built(manifest: &Value) -> Option<(String, String)> {
    let harmless =
        ["npm:", "workspace:", "file:", "link:", "portal:", "catalog:", "patch:", "./", "../", "~/"];
    let is_built = |range: &str| {
        range.contains([':', '/']) && !harmless.iter().any(|protocol| range.starts_with(protocol))
    };
    let kinds = ["dependencies", "devDependencies", "optionalDependencies", "resolutions"];
    let all = kinds.iter().filter_map(|kind| manifest.get(kind)?.as_object()).flatten();
    let mut ranges = all.filter_map(|(name, range)| Some((name, range.as_str()?)));
    ranges.find(|(_, range)| is_built(range)).map(|(name, range)| (name.clone(), range.to_owned()))
}

/// The lines of a `.npmrc` that say where packages come from and how they are locked. Others name programs (`git`,
/// `script-shell`), secrets, and places on disk.
fn npmrc(text: &str) -> String {
    let known = [
        "registry",
        "legacy-peer-deps",
        "strict-peer-deps",
        "strict-peer-dependencies",
        "auto-install-peers",
        "install-links",
        "install-strategy",
        "lockfile-version",
        "omit-lockfile-registry-resolved",
        "link-workspace-packages",
        "resolution-mode",
        "exclude-links-from-lockfile",
        "dedupe-peer-dependents",
        "save-exact",
    ];
    let is_known = |line: &&str| {
        let Some((key, value)) = line.split_once('=') else { return false };
        let key = key.trim();
        let is_scope = key.starts_with('@') && key.ends_with(":registry");
        (is_scope || known.contains(&key)) && !value.contains("${")
    };
    text.lines().filter(is_known).flat_map(|line| [line, "\n"]).collect()
}

/// The same of a `.yarnrc.yml`: its blocks with these keys.
fn yarnrc(text: &str) -> String {
    let known = [
        "nodeLinker",
        "npmRegistryServer",
        "npmScopes",
        "npmPublishRegistry",
        "packageExtensions",
        "supportedArchitectures",
        "compressionLevel",
        "checksumBehavior",
        "defaultProtocol",
        "defaultSemverRangePrefix",
        "catalog",
        "catalogs",
        "nmHoistingLimits",
        "pnpMode",
        "enableTransparentWorkspaces",
    ];
    blocks(text, &known)
}

/// The same of a `pnpm-workspace.yaml`.
fn workspace(text: &str) -> String {
    let known = [
        "packages",
        "catalog",
        "catalogs",
        "catalogMode",
        "overrides",
        "packageExtensions",
        "patchedDependencies",
        "allowUnusedPatches",
        "peerDependencyRules",
        "allowedDeprecatedVersions",
        "ignoredOptionalDependencies",
        "supportedArchitectures",
        "onlyBuiltDependencies",
        "autoInstallPeers",
        "strictPeerDependencies",
        "dedupePeerDependents",
        "dedupeDirectDeps",
        "dedupeInjectedDeps",
        "excludeLinksFromLockfile",
        "injectWorkspacePackages",
        "linkWorkspacePackages",
        "preferWorkspacePackages",
        "sharedWorkspaceLockfile",
        "lockfileIncludeTarballUrl",
        "resolutionMode",
        "minimumReleaseAge",
        "minimumReleaseAgeExclude",
        "registry",
        "registries",
    ];
    blocks(text, &known)
}

/// The blocks of YAML that begin with one of `known` keys at the line's beginning.
fn blocks(text: &str, known: &[&str]) -> String {
    let (mut kept, mut keep) = (String::new(), false);
    for line in text.lines() {
        let goes_on = line.is_empty() || line.starts_with([' ', '\t', '#']) || line.starts_with("- ");
        if !goes_on {
            let key = line.split(':').next().unwrap_or_default().trim_matches(['"', '\'', ' ']);
            keep = known.contains(&key);
        }
        if keep && !line.contains("${") {
            kept.extend([line, "\n"]);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_settings_only_what_names_no_program_is_shown() {
        let text = "registry=https://r.example\n@x:registry = https://x.example\ngit=./evil\nscript-shell=./evil\n\
                    //r.example/:_authToken=${TOKEN}\nregistry=https://e.example/${TOKEN}\nlegacy-peer-deps=true\n";
        let kept = "registry=https://r.example\n@x:registry = https://x.example\nlegacy-peer-deps=true\n";
        assert_eq!(npmrc(text), kept);
        let text = "yarnPath: .yarn/releases/yarn.cjs\nplugins:\n  - path: evil.cjs\n- path: evil.cjs\n\"yarnPath\": evil\n\
                    npmScopes:\n  x:\n    npmRegistryServer: https://x.example\n    npmAuthToken: ${TOKEN}\n\
                    # a word\nnodeLinker: node-modules\n--- {yarnPath: evil}\n";
        let kept = "npmScopes:\n  x:\n    npmRegistryServer: https://x.example\n# a word\nnodeLinker: node-modules\n";
        assert_eq!(yarnrc(text), kept);
        let text = "packages:\n- 'a/*'\nconfigDependencies:\n  evil: 1.0.0\nscriptShell: ./evil\ncatalog:\n  a: ^1\n";
        assert_eq!(workspace(text), "packages:\n- 'a/*'\ncatalog:\n  a: ^1\n");
    }

    #[test]
    fn what_cannot_be_locked_without_code_of_others_is_refused() {
        let refused = |tool: &Tool, version: &str, start: &str, manifest: &str| {
            let shown = [("a/package.json".to_owned(), manifest.as_bytes().to_vec())];
            (tool.lines)(&Case { version, start, manifest: "{}", shown: &shown }).err()
        };
        let (first, newer) = ("# yarn lockfile v1\n", "__metadata:\n  version: 8\n");
        assert_eq!(refused(&YARN, "4.18.1", newer, "{}"), None);
        for (version, start, manifest, why) in [
            ("4.18.1", first, "{}", "it is of Yarn 1, which cannot lock without installing"),
            ("1.22.22", newer, "{}", "it is of Yarn 2 or newer, and the `yarn` that is found is 1.22.22"),
            (
                "4.18.1",
                newer,
                r#"{ "dependencies": { "b": "x/y" } }"#,
                "Yarn would run code of `b`, which comes from `x/y`",
            ),
        ] {
            assert_eq!(refused(&YARN, version, start, manifest).as_deref(), Some(why));
        }
        assert_eq!(refused(&PNPM, "10.0.0", "lockfileVersion: '9.0'\n", "{}"), None);
        assert!(refused(&PNPM, "10.0.0", "pnpmfileChecksum: x\n", "{}").is_some());
        let asks = r#"{ "pnpm": { "configDependencies": { "evil": "1" } } }"#;
        assert!(refused(&PNPM, "10.0.0", "", asks).is_some());
    }

    #[test]
    fn what_yarn_would_build_is_seen() {
        let of = |range: &str| built(&serde_json::json!({ "devDependencies": { "a": "^1", "b": range } }));
        for range in
            ["git@github.com:x/y.git", "x/y", "github:x/y", "https://e.example/b.git", "exec:./run.js"]
        {
            assert_eq!(of(range), Some(("b".to_owned(), range.to_owned())));
        }
        for range in ["1.x || 2", "npm:c@^1", "workspace:*", "file:../b", "*", "latest"] {
            assert_eq!(of(range), None);
        }
    }
}
