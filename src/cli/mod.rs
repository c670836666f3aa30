//! The command line: the only module that prints, prompts or reads the environment.
