//! The `pgtide` command.

fn main() {}
