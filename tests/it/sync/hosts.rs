//! Hosts that take less than git can: what they take is asked, and state lives where they let it.

use super::*;

#[test]
fn a_host_that_takes_only_branches_gets_branches() {
    let stage = Stage::new();
    let hook = stage.remote.repo().join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(
        &hook,
        "#!/bin/sh\nwhile read o n r; do case $r in refs/heads/*) ;; *) echo no; exit 1;; esac; done\n",
    )
    .unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (ada, bob) = (machine(&stage.path()), machine(&stage.path()));
    ada.ok(&["task", "add", "One"]);
    let out = ada.orchestra(&["sync"]);
    assert!(out.code == 1 && out.stderr.contains("pre-receive hook declined"), "{out}");
    for machine in [&ada, &bob] {
        machine.git(&["config", "orchestra.remotePrefix", "refs/heads/orchestra-state/"]);
        machine.ok(&["sync"]);
    }
    assert_eq!(stage.tip("refs/heads/orchestra-state/state"), state(&bob));
    assert_eq!(titles(&bob), ["One"]);
    ada.git(&["config", "orchestra.remotePrefix", "refs/heads/orchestra/"]);
    assert_eq!(ada.orchestra(&["sync"]).code, 1, "branches of agents are theirs");
}
