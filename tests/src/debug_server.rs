//! A debuginfod server on loopback: Debian's own program, with a folder of debug files.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::debug_info::tool;
use crate::patience::{PATIENCE, await_condition};

/// The server; ended when dropped.
pub struct DebugServer {
    child: Child,
    port: u16,
    _database: TempDir,
}

impl DebugServer {
    /// Serves the debug files below a folder; returns once it has the file of this build.
    pub fn start(folder: &Path, build_id: &str) -> Self {
        let database = tempfile::tempdir().unwrap();
        let port = free_port();
        let child = Command::new(tool("debuginfod"))
            .arg(format!("--database={}", database.path().join("db").display()))
            .args([format!("--port={port}"), "--fdcache-mbs=1".to_owned(), "-F".to_owned()])
            .arg(folder)
            .env_remove("DEBUGINFOD_URLS")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port, _database: database };
        let is_there = || server.answers(build_id).then_some(());
        await_condition(PATIENCE, is_there).expect("the server reads its folder");
        server
    }

    /// What `DEBUGINFOD_URLS` has to be.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn answers(&self, build_id: &str) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET /buildid/{build_id}/debuginfo HTTP/1.0\r\n\r\n")?;
            let mut status = [0; 12];
            stream.read_exact(&mut status)?;
            Ok(status.ends_with(b" 200"))
        };
        ask().unwrap_or(false)
    }
}

impl Drop for DebugServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}
