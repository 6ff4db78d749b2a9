//! `millrace health`: asks a broker's `/ready`, for health checks of containers.

use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::failure::Failure;

const LIMIT: Duration = Duration::from_secs(2);
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Ask a broker on this machine whether it is ready; exit code 0 means yes.
#[derive(Args, Debug)]
pub struct HealthArgs {
    /// Where the broker serves HTTP, as HOST:PORT
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9644",
        env = "MILLRACE_HTTP"
    )]
    http: String,
    /// Ask only whether the process lives
    #[arg(long)]
    live: bool,
}

/// Runs the command.
pub async fn run(args: HealthArgs) -> Result<(), Failure> {
    let path = if args.live { "/live" } else { "/ready" };
    let asked = tokio::time::timeout(LIMIT, ask(&args.http, path)).await;
    let answer = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(Failure::new(format!("{}: {error}", args.http))),
        Err(_) => {
            return Err(Failure::new(format!(
                "{}: no answer within {LIMIT:?}",
                args.http
            )));
        }
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split_whitespace().nth(1) == Some("200") {
        println!("{}", body.trim_end());
        Ok(())
    } else {
        Err(Failure::new(format!("not ready: {}", body.trim_end())))
    }
}

async fn ask(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream
        .take(MAX_ANSWER_BYTES)
        .read_to_string(&mut answer)
        .await?;
    Ok(answer)
}
