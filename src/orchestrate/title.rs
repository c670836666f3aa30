//! What work is called: in commits, in names of branches and directories, and where one line is all there is. It never has
//! what must not be stored.

use crate::agent::without_marks;
use crate::model::{Name, Task};
use crate::store::Store;

/// The most characters of a title.
const LEN: usize = 72;

/// The task's title, or the first line of the prompt; without what the store would clean away.
pub(super) fn title(store: &Store, task: Option<&Task>, prompt: &str) -> String {
    // As a whole: a secret may go over lines, and one that is cut is not known any more.
    let text = store.cleaned(task.map_or(prompt, |task| task.title.as_str()));
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("work");
    line.chars().take(LEN).collect()
}

/// A name of at most `max` characters out of a [`title`]. What stands for a secret in it has no part in the name.
pub(super) fn name(title: &str, max: usize) -> Option<Name> {
    Name::from_text(&without_marks(title), max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_a_secret_is_no_word_of_a_name() {
        for (title, named) in [
            ("use [redacted:slack] for it", Some("use-for-it")),
            ("deploy with key=[redacted:MY_KEY]", Some("deploy-with-key")),
            ("[redacted:github]", None),
            ("cut short [redacted:git", Some("cut-short")),
            ("a [note] stays", Some("a-note-stays")),
        ] {
            assert_eq!(name(title, 28).as_ref().map(Name::as_str), named, "{title}");
        }
    }
}
