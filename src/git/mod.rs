//! Git: the only place that names gix or runs git.
