//! Black-box tests of the `roomcast` binary: real processes, a real redis-server, real sockets.
//!
//! `harness` puts together what `roomcast-testkit` starts and breaks; every other module states one part of the behaviour.
//! Nothing here knows the server's code: what is tested is what clients, operators and
//! orchestrators see.

#[macro_use]
mod harness;

mod attack;
mod audit;
mod authorization;
mod backends;
mod behind_envoy;
mod budgets;
mod calls;
mod caps;
mod chaos;
mod claims;
mod client_tokens;
mod clients;
mod command_line;
mod command_line_client;
mod command_line_terminal;
mod command_line_token;
mod compression;
mod deadlines;
mod deploy;
mod documents;
mod hostile;
mod http_json;
mod leaving;
mod library;
mod load;
mod many_names;
mod moderation;
mod one_connection;
mod open_files;
mod outage;
mod outage_names;
mod outage_truth;
mod protocol;
mod proxied;
mod python_app;
mod rebalancing;
mod redis_cluster;
mod refusals;
mod refused;
mod registering;
mod replica_loss;
mod rich;
mod rolling;
mod saying;
mod sentinel;
mod services;
mod signals;
mod slow_mode;
mod slow_reader;
mod starting;
mod tls;
mod tracing;
