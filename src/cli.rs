//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use roomcast_bench as bench;

use crate::{
    config::{self, Sources},
    health, terminal, token,
};

/// A chat service over gRPC: many replicas behave as one room.
#[derive(Parser, Debug)]
#[command(name = "roomcast", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What roomcast does.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the server
    Serve(ServeArgs),
    /// Chat: send lines from standard input, print what others say
    Client(terminal::Args),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Ask a server whether it is ready; the exit code tells
    Health(HealthArgs),
    /// Make a token, or say what one allows
    Token(TokenArgs),
    /// Drive servers with load and measure them
    Bench(bench::Args),
}

/// The file that several commands take.
#[derive(Args, Clone, Debug)]
pub struct FileArgs {
    /// The file; without it, the variable may name one. Not by clap's `env`, which refuses a variable that is
    /// empty, as templates leave it.
    #[arg(long, value_name = "FILE", help = "Configuration file, in TOML [env: ROOMCAST_CONFIG]")]
    pub config: Option<PathBuf>,
}

impl FileArgs {
    /// Where configuration comes from.
    pub fn sources(&self) -> Sources {
        Sources::from_env(self.config.as_deref())
    }
}

/// Arguments of `roomcast serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Where gRPC listens; port 0 binds a free one [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDR")]
    pub addr: Option<String>,
    /// Where /livez, /readyz and /metrics are [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR")]
    pub admin_addr: Option<String>,
    /// Redis that replicas share; without it this replica is on its own
    #[arg(long, value_name = "URL")]
    pub redis_url: Option<String>,
    /// The file.
    #[command(flatten)]
    pub file: FileArgs,
}

impl ServeArgs {
    /// Where configuration comes from.
    pub fn sources(&self) -> Sources {
        self.file
            .sources()
            .flag("--addr", "server.addr", self.addr.as_deref())
            .flag("--admin-addr", "admin.addr", self.admin_addr.as_deref())
            .flag("--redis-url", "redis.url", self.redis_url.as_deref())
    }
}

/// What is done with the configuration.
#[derive(Subcommand, Debug)]
pub enum ConfigCommand {
    /// Print "ok", or everything that is wrong with it
    Check(FileArgs),
    /// Print the values in force with their sources, secrets hidden
    Dump(FileArgs),
}

/// Arguments of `roomcast token`.
#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    /// What is asked for.
    #[command(flatten)]
    pub token: token::TokenOptions,
    /// The file, whose section `auth` counts.
    #[command(flatten)]
    pub file: FileArgs,
}

/// Arguments of `roomcast health`.
#[derive(Args, Clone, Debug)]
pub struct HealthArgs {
    /// Admin port to ask [default: the configured admin.addr]
    #[arg(long, value_name = "ADDR")]
    pub addr: Option<String>,
    /// The file.
    #[command(flatten)]
    pub file: FileArgs,
}

impl HealthArgs {
    /// Whom to ask; the configuration is read only where it matters.
    pub fn target(&self) -> Result<String, config::Error> {
        let addr = match &self.addr {
            Some(addr) => match addr.parse::<SocketAddr>() {
                Ok(addr) => addr,
                Err(_) => return Ok(addr.clone()),
            },
            None => config::load(&self.file.sources())?.config.admin.addr,
        };
        Ok(health::reachable(addr).to_string())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command)
    }

    #[test]
    fn it_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_the_server_stand_for_keys() {
        let line = "roomcast serve --addr 0.0.0.0:0 --admin-addr [::]:0 --redis-url redis://cache";
        let Command::Serve(args) = parse(line).unwrap() else { panic!("not serve") };
        let config = config::load(&Sources { variables: Vec::new(), ..args.sources() });
        let config = config.unwrap().config;
        assert_eq!(config.server.addr, "0.0.0.0:0".parse().unwrap());
        assert_eq!(config.admin.addr, "[::]:0".parse().unwrap());
        assert_eq!(config.redis.url.unwrap().to_string(), "redis://cache");
    }

    #[test]
    fn every_command_is_there() {
        assert!(matches!(parse("roomcast client --username bob").unwrap(), Command::Client(_)));
        for (line, dump) in [
            ("roomcast config check --config a.toml", false),
            ("roomcast config dump --config a.toml", true),
        ] {
            let args = match (parse(line).unwrap(), dump) {
                (Command::Config(ConfigCommand::Check(args)), false)
                | (Command::Config(ConfigCommand::Dump(args)), true) => args,
                (other, _) => panic!("{other:?}"),
            };
            assert_eq!(args.config, Some("a.toml".into()));
        }
        for line in ["roomcast", "roomcast client", "roomcast serve --port 1", "roomcast config"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn health_is_asked_where_it_can_be_reached() {
        let target = |line: &str| match parse(line).unwrap() {
            Command::Health(args) => args.target().unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(target("roomcast health --addr 0.0.0.0:9464"), "127.0.0.1:9464");
        assert_eq!(target("roomcast health --addr roomcast-0:9464"), "roomcast-0:9464");
    }
}
