//! Diagnostics for us: `ORCHESTRA_LOG=debug git orchestra …` writes what the layers trace to stderr.

use super::env::Env;

/// Starts tracing if the environment asks for it. Costs nothing otherwise.
pub(crate) fn start(env: &Env) {
    let Some(filter) = env.text("ORCHESTRA_LOG") else { return };
    // A second subscriber in one process (tests) is refused, and then the first one stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .without_time()
        .try_init();
}
