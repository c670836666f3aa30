//! How much room there is.

use std::path::Path;

/// Bytes that this user can still write where `path` is; `None` if the system does not say.
pub fn free_space(path: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    #[allow(clippy::useless_conversion, reason = "of another width on other systems")]
    let (blocks, size) = (u64::from(stat.blocks_available()), u64::from(stat.fragment_size()));
    blocks.checked_mul(size)
}
