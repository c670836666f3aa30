//! The environment: read here once, and nowhere else in the program.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

/// A snapshot of the process's environment.
///
/// Layers below are handed what they need from it; they never read the environment themselves.
#[derive(Debug, Clone, Default)]
pub struct Env {
    vars: Arc<BTreeMap<OsString, OsString>>,
}

impl Env {
    /// The process's own environment, as it was when the program started.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn from_process() -> Self {
        Self { vars: Arc::new(std::env::vars_os().collect()) }
    }

    /// An environment of exactly these variables.
    pub fn from_pairs<K: Into<OsString>, V: Into<OsString>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { vars: Arc::new(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect()) }
    }

    /// One variable; an empty one counts as unset, as git and most programs read it.
    pub fn var(&self, name: &str) -> Option<&OsStr> {
        self.vars.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// One variable as text; `None` if it is unset, empty or not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.var(name)?.to_str()
    }

    /// Every variable, for layers that keep the environment to pick from it.
    pub fn share(&self) -> Arc<BTreeMap<OsString, OsString>> {
        Arc::clone(&self.vars)
    }

    /// Every variable, for layers that pick what their children need.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.vars.iter().map(|(k, v)| (k.as_os_str(), v.as_os_str()))
    }

    /// Whether the user asked all programs for no colours (<https://no-color.org>), or the terminal has none.
    pub fn no_color(&self) -> bool {
        self.var("NO_COLOR").is_some() || self.text("TERM") == Some("dumb")
    }

    /// The width that was asked for by `COLUMNS`.
    pub fn columns(&self) -> Option<u16> {
        self.text("COLUMNS")?.parse().ok().filter(|&columns| columns > 0)
    }

    /// The agent that runs this process: its whole id, which `spawn` put into its environment.
    pub fn agent(&self) -> Option<&str> {
        self.text("GIT_ORCHESTRA_AGENT")
    }

    /// The user's home directory.
    pub fn home(&self) -> Option<PathBuf> {
        self.var("HOME").map(PathBuf::from).filter(|home| home.is_absolute())
    }

    /// `$XDG_CONFIG_HOME`, or `~/.config`.
    pub fn config_home(&self) -> Option<PathBuf> {
        self.xdg("XDG_CONFIG_HOME", ".config")
    }

    /// `$XDG_DATA_HOME`, or `~/.local/share`.
    pub fn data_home(&self) -> Option<PathBuf> {
        self.xdg("XDG_DATA_HOME", ".local/share")
    }

    fn xdg(&self, name: &str, below_home: &str) -> Option<PathBuf> {
        // The base directory specification: relative paths in these variables are invalid and ignored.
        self.var(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| self.home().map(|home| home.join(below_home)))
    }

    /// The directories in which programs are looked for.
    pub fn path(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.var("PATH").into_iter().flat_map(std::env::split_paths)
    }

    /// The settings given as `ORCHESTRA_*`, by their name behind the prefix.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.vars.iter().filter_map(|(key, value)| {
            let name = key.to_str()?.strip_prefix("ORCHESTRA_")?;
            Some((name, value.to_str()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_directories_fall_back_to_home_and_ignore_relative_paths() {
        let env = Env::from_pairs([("HOME", "/home/ada"), ("XDG_CONFIG_HOME", "relative")]);
        assert_eq!(env.config_home(), Some("/home/ada/.config".into()));
        assert_eq!(env.data_home(), Some("/home/ada/.local/share".into()));
        let env = Env::from_pairs([("XDG_DATA_HOME", "/data")]);
        assert_eq!((env.data_home(), env.config_home()), (Some("/data".into()), None));
    }

    #[test]
    fn empty_variables_are_unset() {
        let env = Env::from_pairs([("NO_COLOR", ""), ("COLUMNS", "0"), ("ORCHESTRA_JOBS", "3")]);
        assert!(!env.no_color());
        assert_eq!(env.columns(), None);
        assert_eq!(env.settings().collect::<Vec<_>>(), [("JOBS", "3")]);
    }
}
