//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use greenroom_pool::{LifecycleKind, Network, PoolKind};

/// Runs other people's code in isolated sessions.
#[derive(Debug, Parser)]
#[command(name = "greenroom", version)]
pub struct Cli {
    /// Configuration file [default: /etc/greenroom/config.toml, if there is one]
    #[arg(long, global = true, env = "GREENROOM_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The weakest acceptable isolation: full, rootless or restricted
    #[arg(long, global = true, value_name = "PROFILE")]
    pub require_isolation: Option<String>,
    /// Any setting, as `limits.run.wall_ms=5000` (see `greenroom config show`)
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve Piston's API over HTTP and WebSocket
    Serve(ServeArguments),
    /// Run a program in the sandbox, without a server
    #[command(after_help = "Exit status: the program's; 128 + N if signal N ended it; 124 if its time was used up, 137 if its \
        memory was; 125 if greenroom itself failed.")]
    Run(RunArguments),
    /// The languages: list, install, remove, test
    #[command(subcommand)]
    Runtimes(RuntimesCommand),
    /// The pools of sessions of a running server: create, update, show, list, delete, and their sessions
    #[command(subcommand)]
    Pool(PoolCommand),
    /// What this host offers, and what to do about what is missing
    Doctor(DoctorArguments),
    /// API keys: create, list, revoke
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Print a bearer token of this machine's own issuer (identity.local_issuer)
    Token(TokenArguments),
    /// The configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
pub struct ServeArguments {
    /// Address and port [default: 127.0.0.1:2000]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Where the server keeps its data [default: /var/lib/greenroom for root]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Log format: text or json
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

#[derive(Debug, Args)]
pub struct RunArguments {
    /// The program's files; the first is the main one
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Language, or language@version-range [default: by the first file's extension]
    #[arg(long, short, value_name = "LANGUAGE[@RANGE]")]
    pub language: Option<String>,
    /// Standard input: a file, or - for our own [default: our own; nothing with --json]
    #[arg(long, value_name = "FILE")]
    pub stdin: Option<PathBuf>,
    /// A limit: wall_ms, cpu_ms, memory_bytes, processes, open_files, file_size_bytes, cpu_milli (compile.NAME for the compile stage)
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    pub limits: Vec<String>,
    /// Print one JSON object instead of streaming
    #[arg(long)]
    pub json: bool,
    /// Arguments of the program
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum RuntimesCommand {
    /// List the languages that can be used
    List {
        /// Also those that are not installed
        #[arg(long)]
        all: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Install languages from Debian's packages
    Install {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Remove languages
    Remove {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Run each language's self-test in the sandbox
    Test {
        /// These only [default: all that are installed]
        #[arg(value_name = "NAME", conflicts_with_all = ["base", "installed"])]
        names: Vec<String>,
        /// All that are installed
        #[arg(long, conflicts_with = "base")]
        installed: bool,
        /// The base set only; one that is not installed fails
        #[arg(long)]
        base: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// Make a pool
    Create {
        #[command(flatten)]
        pool: PoolName,
        /// What its sessions run: PythonLTS, NodeLTS or Shell
        #[arg(long, value_name = "TYPE", value_parser = container_type, default_value = "PythonLTS")]
        container_type: PoolKind,
        #[command(flatten)]
        settings: PoolSettings,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Change a pool while it runs; sessions in use go on
    Update {
        #[command(flatten)]
        pool: PoolName,
        #[command(flatten)]
        settings: PoolSettings,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Show a pool and what it is doing
    Show {
        #[command(flatten)]
        pool: PoolName,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// List the pools
    List {
        #[command(flatten)]
        server: ServerArguments,
    },
    /// End a pool and all of its sessions
    Delete {
        #[command(flatten)]
        pool: PoolName,
        #[command(flatten)]
        server: ServerArguments,
        /// Accepted, as `az` has it: nothing is asked
        #[arg(long, short)]
        yes: bool,
    },
    /// List the sessions of a pool that belong to an identifier
    Sessions {
        #[command(flatten)]
        pool: PoolName,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// End a session, also in the middle of a call
    Stop {
        #[command(flatten)]
        pool: PoolName,
        /// Whose session
        #[arg(long, short, value_name = "IDENTIFIER")]
        identifier: String,
        #[command(flatten)]
        server: ServerArguments,
    },
}

#[derive(Debug, Args)]
pub struct PoolName {
    /// The pool
    #[arg(long, short, value_name = "NAME")]
    pub name: String,
}

#[derive(Debug, Args)]
pub struct ServerArguments {
    /// The server [default: http:// and the setting `listen`]
    #[arg(long, value_name = "URL", env = "GREENROOM_SERVER")]
    pub server: Option<String>,
    /// An API key, for a server that asks for one
    #[arg(long, value_name = "KEY", env = "GREENROOM_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Accepted, as `az` has it, and not used: a pool is known by its name alone
    #[arg(long, short = 'g', value_name = "GROUP")]
    pub resource_group: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PoolSettings {
    /// Most sessions at once, those included that are ready or starting [default of a new pool: 10]
    #[arg(long, value_name = "N")]
    pub max_sessions: Option<u32>,
    /// Sessions kept ready for new identifiers [default of a new pool: 5]
    #[arg(long, value_name = "N")]
    pub ready_sessions: Option<u32>,
    /// Timed (a session ends when it has been idle) or OnContainerExit (when its process ends) [default of a new pool: Timed]
    #[arg(long, value_name = "TYPE", value_parser = lifecycle_type)]
    pub lifecycle_type: Option<LifecycleKind>,
    /// Timed: how long a session may be idle [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub cooldown_period: Option<u32>,
    /// OnContainerExit: how long a session may live at most [default: 3600]
    #[arg(long, value_name = "SECONDS")]
    pub max_alive_period: Option<u32>,
    /// EgressDisabled or EgressEnabled [default of a new pool: EgressDisabled]
    #[arg(long, value_name = "STATUS", value_parser = network_status)]
    pub network_status: Option<Network>,
    /// Modules that are imported before a session is ready, with commas; none with ''
    #[arg(long, value_name = "MODULES")]
    pub warm: Option<String>,
    /// A limit of a session: memory_bytes, cpu_milli, processes, open_files, file_size_bytes, disk.bytes, disk.inodes, or of one
    /// execution: execution_wall_ms, execution_cpu_ms, execution_output_bytes
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    pub limits: Vec<String>,
}

fn container_type(given: &str) -> Result<PoolKind, String> {
    let known = [PoolKind::PythonLts, PoolKind::NodeLts, PoolKind::Shell];
    if given.eq_ignore_ascii_case("CustomContainer") {
        return Err("this server runs no container images; use PythonLTS, NodeLTS or Shell".to_owned());
    }
    known
        .into_iter()
        .find(|kind| kind.as_str().eq_ignore_ascii_case(given))
        .ok_or_else(|| "use PythonLTS, NodeLTS or Shell".to_owned())
}

fn lifecycle_type(given: &str) -> Result<LifecycleKind, String> {
    let known = [LifecycleKind::Timed, LifecycleKind::OnContainerExit];
    known
        .into_iter()
        .find(|kind| kind.as_str().eq_ignore_ascii_case(given))
        .ok_or_else(|| "use Timed or OnContainerExit".to_owned())
}

fn network_status(given: &str) -> Result<Network, String> {
    let known = [("EgressDisabled", Network::Disabled), ("EgressEnabled", Network::Enabled)];
    let found = known.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(given));
    found.map(|(_, network)| network).ok_or_else(|| "use EgressDisabled or EgressEnabled".to_owned())
}

#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key, and print it: it is shown this once, and only its hash is kept
    Create {
        /// What it is for; need not be unique
        #[arg(long, value_name = "NAME")]
        name: String,
        /// What it may do: execute, manage; may be repeated [default: execute]
        #[arg(long = "scope", value_name = "SCOPE", value_parser = ["execute", "manage"])]
        scopes: Vec<String>,
        /// In which pool; may be repeated [default: all, and the server itself]
        #[arg(long = "pool", value_name = "POOL")]
        pools: Vec<String>,
        /// Where the server keeps its data
        #[arg(long, value_name = "DIR")]
        data_dir: Option<String>,
    },
    /// List the keys, without their secrets
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Where the server keeps its data
        #[arg(long, value_name = "DIR")]
        data_dir: Option<String>,
    },
    /// Revoke a key, at once and for ever
    Revoke {
        /// Its id, or its name if no other has it
        #[arg(value_name = "ID")]
        key: String,
        /// Where the server keeps its data
        #[arg(long, value_name = "DIR")]
        data_dir: Option<String>,
    },
}

#[derive(Debug, Args)]
pub struct TokenArguments {
    /// What it is for
    #[arg(long, value_name = "URI", default_value = greenroom_identity::SESSION_AUDIENCES[0])]
    pub resource: String,
    /// Of which application (a GUID) [default: this machine's own identity]
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// Print what DefaultAzureCredential needs in its environment instead, for a shell to evaluate
    #[arg(long, conflicts_with_all = ["resource", "client_id"])]
    pub env: bool,
    /// Where the server keeps its data
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every setting and where its value comes from
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// A setting given on the command line: key, value as text, and the flag's name.
pub struct Flag {
    pub key: String,
    pub value: String,
    pub name: String,
}

impl Cli {
    /// The settings among the flags.
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        let mut push = |key: &str, value: &Option<String>, name: &str| {
            if let Some(value) = value {
                flags.push(Flag { key: key.to_owned(), value: value.clone(), name: name.to_owned() });
            }
        };
        push("isolation.require", &self.require_isolation, "--require-isolation");
        if let Command::Serve(serve) = &self.command {
            push("listen", &serve.listen, "--listen");
            push("data_dir", &serve.data_dir, "--data-dir");
            push("log.format", &serve.log_format, "--log-format");
        }
        if let Command::Keys(
            KeysCommand::Create { data_dir, .. } | KeysCommand::List { data_dir, .. } | KeysCommand::Revoke { data_dir, .. },
        )
        | Command::Token(TokenArguments { data_dir, .. }) = &self.command
        {
            push("data_dir", data_dir, "--data-dir");
        }
        for setting in &self.set {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            flags.push(Flag { key: key.trim().to_owned(), value: value.trim().to_owned(), name: "--set".to_owned() });
        }
        flags
    }
}
