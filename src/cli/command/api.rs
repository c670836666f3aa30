//! `git orchestra __api`: what a profile with `program = "api"` runs; not for people.

use crate::agent::{API_VARIABLES, Access, Adapter, Api, ApiFallback, ApiSurroundings, work_by_api};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::session::redactor;
use crate::process::hide_environment;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::time::Duration;

/// Work as the model behind Anthropic's API says, told what to do on standard input
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many tokens its model may think before each answer: at least 1024; not at all without it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1024..=128_000))]
    thinking: Option<u64>,
    /// After how many seconds an answer that stands still is broken off
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3600))]
    idle: u64,
    /// Claude Code, which does the work where the API is not to be had
    #[arg(last = true, value_name = "WORDS")]
    fallback: Vec<OsString>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    // Its commands are of the same user.
    hide_environment();
    let env = ctx.env();
    let home = Api.conversation_home(&env.share()).ok_or_else(|| {
        CliError::usage("there is no place for conversations: neither HOME nor XDG_DATA_HOME is set")
    })?;
    let all: Vec<_> = env.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let is_own = |name: &OsString| API_VARIABLES.iter().any(|start| name.as_encoded_bytes().starts_with(start.as_bytes()));
    let surroundings = ApiSurroundings {
        access: access(ctx, Duration::from_secs(args.idle))?,
        worktree: ctx.dir().to_owned(),
        env: all.iter().filter(|(name, _)| !is_own(name)).cloned().collect(),
        home,
        thinking: args.thinking,
        redactor: redactor(ctx),
        fallback: (!args.fallback.is_empty()).then(|| ApiFallback { program: args.fallback.clone(), env: all }),
    };
    let mut out = std::io::stdout().lock();
    let code = work_by_api(surroundings, &**ctx.clock(), std::io::stdin(), &mut out).map_err(CliError::layer)?;
    Ok(Exit::Script(code))
}

/// How the model is reached, by the variables that other clients of the API know.
fn access(ctx: &Context, idle: Duration) -> Result<Access, CliError> {
    let env = ctx.env();
    let word = |name: &str| env.text(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let either = |name: &str| word(&name.to_lowercase()).or_else(|| word(name));
    let endpoint = word("ANTHROPIC_BASE_URL");
    let plain = endpoint.as_deref().is_some_and(|url| url.starts_with("http://"));
    let proxy = either(if plain { "HTTP_PROXY" } else { "HTTPS_PROXY" }).or_else(|| either("ALL_PROXY"));
    let roots = match env.var("SSL_CERT_FILE").map(std::fs::read) {
        Some(Err(error)) if error.kind() != ErrorKind::NotFound => {
            return Err(CliError::failed("failed to read the file that SSL_CERT_FILE names", error));
        }
        read => read.and_then(Result::ok),
    };
    Ok(Access {
        key: word("ANTHROPIC_API_KEY"),
        token: word("ANTHROPIC_AUTH_TOKEN"),
        endpoint,
        proxy,
        no_proxy: either("NO_PROXY"),
        roots,
        idle,
    })
}
