//! How much room there is, and copies that take none of it where the file system can share.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes that this user can still write where `path` is; `None` if the system does not say.
pub fn free_space(path: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    #[allow(clippy::useless_conversion, reason = "of another width on other systems")]
    let (blocks, size) = (u64::from(stat.blocks_available()), u64::from(stat.fragment_size()));
    blocks.checked_mul(size)
}

/// How many more files this user can make where `path` is; `None` if the system does not say, or has no such limit.
pub fn free_files(path: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    #[allow(clippy::useless_conversion, reason = "of another width on other systems")]
    let (all, left) = (u64::from(stat.files()), u64::from(stat.files_available()));
    (all > 0).then_some(left)
}

/// Opens a file for reading that is no link.
pub fn open_no_link(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits()).open(path)
}

/// Gives `to`, which must be empty, the content of `from`. Returns whether the two share it on disk (a reflink: Btrfs,
/// XFS, bcachefs), where nothing is copied and nothing takes room until one of them is written to.
pub fn clone_or_copy(from: &mut File, to: &mut File) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    if rustix::fs::ioctl_ficlone(&*to, &*from).is_ok() {
        return Ok(true);
    }
    io::copy(from, to).map(|_| false)
}
