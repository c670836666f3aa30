//! The one way to a runtime of tokio's.

use std::io;
use std::os::unix::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

/// How many pairs of descriptors one needs at the most.
const PAIRS: usize = 4;

/// A runtime of one thread.
///
/// # Errors
/// Also where there are not as many file descriptors as it needs: tokio panics without those that it hears signals by.
pub fn runtime() -> io::Result<Runtime> {
    let room = (0..PAIRS).map(|_| UnixStream::pair()).collect::<io::Result<Vec<_>>>()?;
    drop(room);
    Builder::new_current_thread().enable_all().build()
}
