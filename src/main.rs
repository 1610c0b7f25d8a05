//! `roomcast`: parse, configure, run, exit.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser as _;
use roomcast::{
    app::{self, Ended},
    cli::{Cli, Command, ConfigCommand},
    config, health, terminal, token,
};
use roomcast_bench as bench;
use tokio::runtime;

fn main() -> ExitCode {
    run(Cli::parse().command).unwrap_or_else(|error| {
        for line in error.to_string().lines() {
            // There is no other place to complain.
            let _ = writeln!(io::stderr(), "error: {line}");
        }
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => {
            let config = config::load(&args.sources())?.config;
            if let Ended::Forced(code) = block_on(app::run(config))?? {
                return Ok(code.into());
            }
        }
        Command::Client(args) => block_on(terminal::run(args))??,
        Command::Bench(args) => block_on(bench::run(args))??,
        Command::Config(ConfigCommand::Check(args)) => {
            app::check(&config::load(&args.sources())?.config)?;
            print("ok\n")?;
        }
        Command::Config(ConfigCommand::Dump(args)) => {
            print(&config::load(&args.sources())?.dump())?;
        }
        Command::Token(args) => {
            let config = config::load(&args.file.sources())?.config;
            print(&block_on(token::run(&args.token, &config.auth))??)?;
        }
        Command::Health(args) => {
            let answer = block_on(health::check(&args.target()?))??;
            print(&answer.text)?;
            if !answer.ready {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs to the end of `future`, and no further: what still runs beside it is left behind.
fn block_on<F: Future>(future: F) -> anyhow::Result<F::Output> {
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the system refuses threads to run on")?;
    let output = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(output)
}

fn print(text: &str) -> anyhow::Result<()> {
    io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}
