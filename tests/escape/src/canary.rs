use std::{
    fs,
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};

/// A variable in the server's environment that no program may ever see.
pub const SECRET_NAME: &str = "CANARY_SECRET";
/// Its value, and the content of a file of the host.
pub const SECRET: &str = "canary-4711-must-not-be-seen";

/// H1: fails if the secret is in what came out of a server.
///
/// # Errors
/// What holds it.
pub fn keeps_secret(what: &str, text: &[u8]) -> Result<()> {
    let found = text.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
    ensure!(!found, "H1: the secret is in {what}: {}", String::from_utf8_lossy(text));
    Ok(())
}

/// Listeners and a file outside the sandbox: nobody may call the ones, or touch the other.
pub struct Canary {
    tcp: TcpListener,
    abstract_socket: UnixListener,
    abstract_name: String,
    path_socket: UnixListener,
    socket: PathBuf,
    directory: tempfile::TempDir,
}

impl Canary {
    /// Starts listening under a name, and writes the file.
    ///
    /// # Errors
    /// Where an address cannot be had.
    pub fn listen(name: &str) -> Result<Self> {
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        tcp.set_nonblocking(true)?;
        let abstract_name = format!("greenroom-canary-{name}-{}", std::process::id());
        let abstract_socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&abstract_name)?)?;
        abstract_socket.set_nonblocking(true)?;
        let run = if rustix::process::getuid().is_root() { PathBuf::from("/run") } else { std::env::temp_dir() };
        let socket = run.join(format!("{abstract_name}.sock"));
        let path_socket = UnixListener::bind(&socket).with_context(|| format!("cannot bind {}", socket.display()))?;
        path_socket.set_nonblocking(true)?;
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join("secret"), SECRET)?;
        Ok(Self { tcp, abstract_socket, abstract_name, path_socket, socket, directory })
    }

    /// The TCP listener's port.
    ///
    /// # Errors
    /// The system's.
    pub fn port(&self) -> Result<u16> {
        Ok(self.tcp.local_addr()?.port())
    }

    /// Tells a program where the canaries are: `@PORT@`, `@ABSTRACT@`, `@SOCKET@` and `@FILE@` in its text.
    pub fn name_in(&self, text: &str) -> String {
        let port = self.port().unwrap_or_default();
        text.replace("@PORT@", &port.to_string())
            .replace("@ABSTRACT@", &self.abstract_name)
            .replace("@SOCKET@", &self.socket.display().to_string())
            .replace("@FILE@", &self.file().display().to_string())
    }

    /// A file of the host with the secret in it.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("secret")
    }

    /// H1: fails if anybody has called.
    ///
    /// # Errors
    /// Who called.
    pub fn is_silent(&self) -> Result<()> {
        ensure!(self.tcp.accept().is_err(), "H1: the TCP canary was reached");
        ensure!(self.abstract_socket.accept().is_err(), "H1: the abstract socket canary was reached");
        ensure!(self.path_socket.accept().is_err(), "H1: the canary's socket in /run was reached");
        Ok(())
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        // It may be gone with its directory.
        let _gone = fs::remove_file(&self.socket);
    }
}
