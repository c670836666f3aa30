//! The standing fault suites: a kill at every system call that changes a file, calls that fail, and what must hold
//! after each: what was acknowledged is there, what was not is wholly there or wholly absent, the next ordinary
//! command works, and so does the user's own git.
//!
//! In CI a few points of each command; `ORCHESTRA_FAULTS=all` takes every point (see CONTRIBUTING.md), and
//! `ORCHESTRA_FAULT_COMMAND=spawn` those of one command.

mod calls;
mod campaign;
mod cases;
mod errors;
mod kills;
mod layouts;
mod tracer;
mod writers;

/// A table of tests is worth something as long as they are there.
#[test]
fn every_test_of_the_fault_table_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    let mut queue = vec![root.join("src"), root.join("tests")];
    while let Some(path) = queue.pop() {
        if path.is_dir() {
            queue.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|end| end == "rs") {
            sources.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
    let guide = std::fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
    let table = guide.split("| fault | tests |").nth(1).expect("the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut named = 0;
    for cell in rows.filter_map(|row| row.split('|').nth(2)) {
        for test in cell.split('`').skip(1).step_by(2).filter(|test| !test.contains('/')) {
            assert!(sources.contains(&format!("fn {test}(")), "there is no test {test}");
            named += 1;
        }
    }
    assert!(named > 30, "{named} tests");
}
