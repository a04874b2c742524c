//! `tripod health`: asks this node's `/readyz`, for container health checks. One line, exit code 0 or 1.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Parser;

use super::print::{err, out};
use super::serve;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Asks whether a node is ready.
#[derive(Debug, Parser)]
#[command(
    name = "tripod health",
    no_binary_name = true,
    disable_version_flag = true
)]
struct Arguments {
    /// Where the node serves HTTP; by default localhost and the port that its environment says
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// Ask whether the process is alive, not whether it is ready
    #[arg(long)]
    live: bool,
    /// How long to wait for the answer, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    timeout_ms: u64,
}

/// Runs the command.
pub fn run(_program: &str, arguments: Vec<String>) -> u8 {
    let arguments = match serve::parse::<Arguments>(arguments) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let address = arguments.address.unwrap_or_else(default_address);
    let path = if arguments.live { "/livez" } else { "/readyz" };
    let limit = Duration::from_millis(arguments.timeout_ms.clamp(1, 600_000));
    match ask(&address, path, limit) {
        Ok((true, text)) => {
            out!("{text}");
            0
        }
        Ok((false, text)) => {
            out!("{text}");
            1
        }
        Err(text) => {
            err!("no answer from http://{address}{path}: {text}");
            1
        }
    }
}

fn default_address() -> String {
    let port = std::env::var("TRIPOD_HTTP_PORT").unwrap_or_default();
    let port = if port.is_empty() { "8080" } else { &port };
    format!("localhost:{port}")
}

/// Whether the status is 200, and the first line of the body.
fn ask(address: &str, path: &str, limit: Duration) -> Result<(bool, String), String> {
    let resolved = address
        .to_socket_addrs()
        .map_err(|error| error.to_string())?;
    let mut last = "the name has no address".to_owned();
    for socket in resolved {
        match TcpStream::connect_timeout(&socket, limit) {
            Ok(stream) => return exchange(stream, address, path, limit).map_err(|e| e.to_string()),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

fn exchange(
    mut stream: TcpStream,
    address: &str,
    path: &str,
    limit: Duration,
) -> std::io::Result<(bool, String)> {
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let status = text.split(' ').nth(1).unwrap_or("");
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((
        status == "200",
        body.lines().next().unwrap_or("").to_owned(),
    ))
}
