//! Micro-benchmarks of what does no I/O: `bench/micro/run`.

#[cfg(benchmarking)]
mod decoder;
#[cfg(benchmarking)]
mod encoder;
#[cfg(benchmarking)]
mod handshake;
#[cfg(benchmarking)]
mod hub;
#[cfg(benchmarking)]
mod mask;
#[cfg(benchmarking)]
mod utf8;

#[cfg(benchmarking)]
fn main() {
    divan::main();
}

#[cfg(not(benchmarking))]
fn main() {
    eprintln!("compiled without cfg(benchmarking): bench/micro/run sets it");
}
