//! Runs the servers in turn, and writes what they take.

fn main() {}
