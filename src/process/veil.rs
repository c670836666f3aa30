//! Keeping what this process was told from processes of the same user.

/// Keeps other processes of the same user from reading the environment and the memory of this one, where the system can
/// do that; root still can. Children are as they would be without.
pub fn hide_environment() {
    #[cfg(target_os = "linux")]
    // Refused by no kernel; one that cannot leaves things as they are for every program.
    let _ = nix::sys::prctl::set_dumpable(false);
}
