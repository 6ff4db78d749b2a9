//! How a command fails: one sentence on standard error and an exit code.

use std::fmt;

use millrace_client::ClientError;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// What to tell, in the words of the stock tool where it has some.
    pub message: String,
    /// What the process ends with.
    pub exit_code: u8,
}

impl Failure {
    /// A failure with exit code 1, which the stock tools use for nearly everything.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            exit_code: 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::new(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(error.to_string())
    }
}
