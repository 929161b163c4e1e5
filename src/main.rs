//! The `pgtide` command.

mod cli;

use std::process::ExitCode;

/// The engines allocate buffers of megabytes on many threads, which glibc's allocator gives back and asks for again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
