//! Landlock: rules about files that a process imposes on itself and on all that it starts, for good.
//!
//! Every rule is about a directory with all that is below it, or about one file: nothing can be taken out of a
//! directory again. What is handled, and therefore forbidden where no rule allows it: every right over files up to
//! ABI 5 (truncating and device control included), and, by ABI 6, signals to processes outside and abstract sockets.
//! By itself it also keeps a process from tracing those outside and from reading their memory and environment, from
//! mounting, and from gaining rights by programs that are set-uid. It knows nothing of sockets that have a path.

use super::{COMMAND, Reach, SandboxError};
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;

/// The arguments of our own program that confine it to `reach`.
pub(super) fn args(reach: &Reach) -> Vec<OsString> {
    let mut args = vec![COMMAND.into()];
    for (option, paths) in [("--read", &reach.read), ("--write", &reach.write)] {
        for path in paths {
            args.extend([option.into(), path.into()]);
        }
    }
    args.push("--".into());
    args
}

/// Becomes `program`, with the environment and the directory of this process. Returns only if that fails.
pub fn become_confined(program: &OsStr, args: &[OsString]) -> Result<Infallible, SandboxError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the environment was chosen by whoever started this process"
    )]
    let source = std::process::Command::new(program).args(args).exec();
    Err(SandboxError::Start { program: program.into(), source })
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{Path, Reach, SandboxError};
    use landlock::{
        ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
        RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    };

    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

    /// What root keeps of its capabilities: those over its files and its own identity. Others go past the rules, as the
    /// one that reads the environment of any process (`CAP_PERFMON`, by Linux 6.18).
    const KEPT: CapabilitySet = CapabilitySet::CHOWN
        .union(CapabilitySet::DAC_OVERRIDE)
        .union(CapabilitySet::FOWNER)
        .union(CapabilitySet::FSETID)
        .union(CapabilitySet::KILL)
        .union(CapabilitySet::NET_BIND_SERVICE)
        .union(CapabilitySet::SETGID)
        .union(CapabilitySet::SETUID);

    /// The rights that are handled: what a kernel lacks of them is an error, never left out.
    const RIGHTS: ABI = ABI::V6;

    fn ruleset(abi: ABI) -> Result<Ruleset, RulesetError> {
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let ruleset = ruleset.handle_access(AccessFs::from_all(abi))?;
        let scopes = Scope::from_all(abi);
        if scopes.is_empty() { Ok(ruleset) } else { ruleset.scope(scopes) }
    }

    pub(in super::super) fn attempt() -> Result<(), String> {
        let has = |abi| ruleset(abi).and_then(Ruleset::create).is_ok();
        if has(RIGHTS) {
            Ok(())
        } else if has(ABI::V1) {
            Err("it needs Landlock ABI 6 (Linux 6.12), and this kernel has an older one".to_owned())
        } else {
            Err("this kernel has no Landlock, or it is not switched on (`lsm=landlock,…` at boot)".to_owned())
        }
    }

    /// Confines this process, which must have one thread only, to `reach` for good. What is not there any more is
    /// nothing to be allowed.
    ///
    /// # Errors
    /// If the kernel does not do all of it. The process must not go on then.
    pub fn confine(reach: &Reach) -> Result<(), SandboxError> {
        let refused = |error: RulesetError| SandboxError::Refused(Box::new(error));
        let mut rules = ruleset(RIGHTS).and_then(Ruleset::create).map_err(refused)?;
        let may_read = AccessFs::from_read(RIGHTS);
        let may_all = AccessFs::from_all(RIGHTS);
        for (paths, may) in [(&reach.read, may_read), (&reach.write, may_all)] {
            for path in paths {
                let Some((opened, is_dir)) = open(path)? else { continue };
                let may: BitFlags<AccessFs> = if is_dir { may } else { may & AccessFs::from_file(RIGHTS) };
                rules = rules.add_rule(PathBeneath::new(opened, may)).map_err(refused)?;
            }
        }
        let status = rules.restrict_self().map_err(refused)?;
        if status.ruleset != RulesetStatus::FullyEnforced || !status.no_new_privs {
            let source = format!("the kernel did a part only: {:?}", status.ruleset);
            return Err(SandboxError::Refused(source.into()));
        }
        // No program can have them again: that is what `no_new_privs` means.
        drop_capabilities().map_err(|error| SandboxError::Refused(Box::new(error)))
    }

    fn drop_capabilities() -> std::io::Result<()> {
        let CapabilitySets { effective, permitted, inheritable } = capabilities(None)?;
        let kept = CapabilitySets {
            effective: effective & KEPT,
            permitted: permitted & KEPT,
            inheritable: inheritable & KEPT,
        };
        Ok(set_capabilities(None, kept)?)
    }

    fn open(path: &Path) -> Result<Option<(PathFd, bool)>, SandboxError> {
        let Ok(meta) = path.metadata() else { return Ok(None) };
        let opened = PathFd::new(path);
        let opened = opened.map_err(|e| SandboxError::Path { path: path.into(), source: Box::new(e) })?;
        Ok(Some((opened, meta.is_dir())))
    }
}

#[cfg(not(target_os = "linux"))]
mod linux {
    use super::{Reach, SandboxError};
    use crate::model::Sandbox;

    const MISSING: &str = "Landlock is Linux's";

    pub(in super::super) fn attempt() -> Result<(), String> {
        Err(MISSING.to_owned())
    }

    /// Fails: this system has no Landlock.
    pub fn confine(_: &Reach) -> Result<(), SandboxError> {
        Err(SandboxError::Missing { level: Sandbox::Landlock, missing: MISSING.to_owned() })
    }
}

pub(super) use linux::attempt;
pub use linux::confine;
