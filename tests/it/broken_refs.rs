//! A ref of ours whose file says nothing is not taken for one that is not there.

use crate::claims::{machine, remote, task};

#[test]
fn a_broken_state_is_not_an_empty_one() {
    let remote = remote();
    let ada = machine(&remote);
    task(&ada, "One");
    ada.ok(&["sync"]);
    let state = ada.git(&["rev-parse", "refs/orchestra/state"]);
    let file = ada.git_dir().join("refs/orchestra/state");
    let way_out = format!("git update-ref refs/orchestra/state {state}");
    for broken in ["garbage\n", ""] {
        std::fs::write(&file, broken).unwrap();
        for args in
            [&["task", "list"][..], &["status"], &["oplog"], &["task", "add", "Two"], &["recover"], &["sync"]]
        {
            let out = ada.orchestra(args);
            let told =
                out.stderr.contains("refs/orchestra/state names no object") && out.stderr.contains(&way_out);
            assert!(out.code == 1 && told, "{args:?}: {out}");
        }
        let out = ada.orchestra(&["doctor", "--brief"]);
        assert!(
            out.code == 1 && out.stdout.contains("names no object") && out.stdout.contains("git update-ref"),
            "{out}"
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap(), broken, "nothing was done to it");
        // As the hint says.
        std::fs::remove_file(&file).unwrap();
        ada.git(&["update-ref", "refs/orchestra/state", &state]);
        assert!(ada.ok(&["task", "list"]).contains("One"));
    }
}
