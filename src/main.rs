//! The program: arguments, then the library.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(clap::Parser)]
struct Cli { #[command(subcommand)] c: C }
#[derive(clap::Subcommand)]
enum C { Bench(dripwheel::cli::bench::BenchArgs) }
#[tokio::main]
async fn main() {
    use clap::Parser;
    let C::Bench(a) = Cli::parse().c;
    if let Err(e) = dripwheel::cli::bench::run(a).await { eprintln!("{e:?}"); }
}
