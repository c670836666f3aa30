//! Every kind of conflict that git knows, answered with either side.

use super::*;

/// A fleet of two whose files are made with plain git in a checkout.
fn pair(base: &str, heron: &str, fox: &str) -> Fleet {
    let sandbox = Sandbox::new(&[]);
    let sh = |script: &str| {
        let alias = format!(
            "alias.sh=!set -e; cd {}; {script}; git add -A; git commit -q -m x",
            sandbox.path().display()
        );
        sandbox.git(&["-c", &alias, "sh"]);
    };
    sh(base);
    for (name, script) in [("blue-heron", heron), ("grey-fox", fox)] {
        sandbox.git(&["checkout", "-q", "-b", &format!("orchestra/{name}"), "main"]);
        sh(script);
    }
    sandbox.git(&["checkout", "-q", "main"]);
    let fleet = Fleet::new(sandbox);
    let base = fleet.at("main");
    for name in ["blue-heron", "grey-fox"] {
        fleet.register(name, &format!("refs/heads/orchestra/{name}"), &base);
    }
    fleet
}

fn landed_with(fleet: &Fleet, key: &str) -> Vec<String> {
    let merge = fleet.start();
    let decision = fleet.waiting(&merge);
    fleet.answer(&decision, key);
    fleet.landed(&merge);
    fleet.sandbox.git(&["ls-tree", "-r", "--name-only", "main"]).lines().map(str::to_owned).collect()
}

#[test]
fn either_side_of_every_kind_of_conflict_can_be_taken() {
    let lines = "seq 30 > x";
    for (what, base, heron, fox, ours, theirs) in [
        ("edited and deleted", lines, "sed -i 1d x; echo > o", "git rm -q x; echo > p", "o p x", "o p"),
        ("binary", "printf 'a\\0' > x", "printf 'b\\0' > x", "printf 'c\\0' > x", "x", "x"),
        ("moved to two places", lines, "git mv x y", "git mv x z", "y", "z"),
        (
            "file and directory",
            "echo 1 > x",
            "git rm -q x; mkdir x; echo > x/in",
            "echo 2 > x",
            "x/in",
            "x/in x~grey-fox",
        ),
        ("file and link", "echo 1 > x; echo > to", "git rm -q x; ln -s to x", "echo 2 > x", "to x", "to x"),
        ("both added", "echo > a", "echo 1 > x", "echo 2 > x; chmod +x x", "a x", "a x"),
    ] {
        assert_eq!(landed_with(&pair(base, heron, fox), "ours").join(" "), ours, "{what}");
        let fleet = pair(base, heron, fox);
        // Where one side is a directory the other side's answer leaves both: git put the file aside.
        assert_eq!(landed_with(&fleet, "theirs").join(" "), theirs, "{what}");
        assert_eq!(fleet.sandbox.git(&["fsck", "--strict", "--no-dangling"]), "");
        if what == "file and link" {
            assert_eq!(fleet.sandbox.git(&["show", "main:x"]), "2");
        }
        if what == "both added" {
            assert!(
                fleet.sandbox.git(&["ls-tree", "main", "x"]).starts_with("100755"),
                "the mode goes with the side"
            );
        }
    }
}

#[test]
fn odd_paths_keep_their_bytes() {
    let make = |text: &str| format!("printf '{text}' > \"$(printf 'caf\\351\\n\"')\"");
    let fleet = pair(&make("1\\n2\\n3\\n"), &make("1\\nb\\n3\\n"), &make("1\\ng\\n3\\n"));
    let merge = fleet.start();
    let decision = fleet.waiting(&merge);
    assert_eq!(decision.paths, ["\"caf\\351\\012\\\"\""]);
    answer(&fleet.store, &decision.id, On::Path(&decision.paths[0]), "edit", Some("1\nboth\n3\n")).unwrap();
    fleet.landed(&merge);
    assert_eq!(fleet.sandbox.git(&["ls-tree", "-r", "--name-only", "main"]).lines().count(), 1);
    assert!(fleet.sandbox.git(&["show", "main"]).contains("both"));
}

#[test]
fn a_merge_without_a_conflicting_path_can_be_accepted() {
    let base = "mkdir lib; seq 30 > lib/x; seq 40 90 > lib/y";
    let fleet = pair(base, "mkdir m n; git mv lib/x m/x; git mv lib/y n/y", "echo new > lib/new");
    let merge = fleet.start();
    let decision = fleet.waiting(&merge);
    assert!(decision.paths.is_empty() && decision.choices[0].key == "accept", "{decision:#?}");
    fleet.answer(&decision, "accept");
    fleet.landed(&merge);
    assert_eq!(fleet.sandbox.git(&["ls-tree", "-r", "--name-only", "main"]), "lib/new\nm/x\nn/y");
}

#[test]
fn any_answers_to_generated_conflicts_land_sound_trees() {
    let mut rng = crate::orchestrate::testing::Rng::new(11);
    let mut answered = 0;
    for seed in 300..308 {
        let (sandbox, tips) = history(seed, 5);
        let fleet = Fleet::new(sandbox);
        let base = fleet.at("main");
        for n in 0..tips.len() {
            fleet.register(&format!("b{n}"), &format!("refs/heads/b{n}"), &base);
        }
        let merge = fleet.start();
        loop {
            match fleet.advance(&merge) {
                Progress::Waiting { decision, .. } => {
                    let keys: Vec<_> = decision.choices.iter().map(|choice| choice.key.as_str()).collect();
                    let offered = ["ours", "theirs", "accept"].iter().filter(|key| keys.contains(key));
                    let offered: Vec<_> = offered.collect();
                    fleet.answer(&decision, offered[rng.below(offered.len())]);
                    answered += 1;
                }
                Progress::Landed(landed) => {
                    assert!(landed.steps.iter().all(|step| step.status.is_merged()), "seed {seed}");
                    let receipt = landed.receipt.expect("a receipt");
                    assert_eq!(receipt.dropped(), 0, "seed {seed}: {receipt:#?}");
                    break;
                }
                other => panic!("seed {seed}: {other:#?}"),
            }
        }
        assert_eq!(fleet.sandbox.git(&["fsck", "--strict", "--no-dangling"]), "", "seed {seed}");
        for tip in &tips {
            assert_eq!(fleet.sandbox.git(&["merge-base", "main", tip.as_str()]), tip.as_str());
        }
    }
    assert!(answered > 10, "{answered}");
}
