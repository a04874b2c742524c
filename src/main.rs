//! The door: arguments in, exit code out. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tripod::cli::run(std::env::args_os().collect())
}
