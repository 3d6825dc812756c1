//! What can go wrong between a publisher and the disk.

use std::io;

/// Why a data set could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The address has no last part to name the file by.
    #[error("{url} does not end in the name of a file")]
    NoFileName {
        /// The address.
        url: String,
    },
    /// The server could not be reached or spoke no HTTP.
    #[error("cannot fetch {url}: {reason}")]
    Request {
        /// The address.
        url: String,
        /// What the HTTP client said.
        reason: String,
    },
    /// The server refused.
    #[error("{url} answered with status {status}; fetch and unpack it by hand")]
    Status {
        /// The address.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The server sent another part of the file than was asked for.
    #[error("{url} sent the range {got:?} where the bytes from {wanted} were asked")]
    Range {
        /// The address.
        url: String,
        /// The server's `Content-Range`.
        got: String,
        /// First byte asked for.
        wanted: u64,
    },
    /// The connection ended before the file.
    #[error("the transfer of {url} stopped at {}; call again to resume", amount(*got, *expected))]
    Stopped {
        /// The address.
        url: String,
        /// Bytes that are here.
        got: u64,
        /// Bytes of the file, if the server said so.
        expected: Option<u64>,
        /// What the connection said, if anything.
        source: Option<io::Error>,
    },
    /// The file is not the published one.
    #[error("{url} arrived with md5 {got} instead of {expected}; it was removed, fetch it anew")]
    Checksum {
        /// The address.
        url: String,
        /// Checksum of what came.
        got: String,
        /// Checksum of what was published.
        expected: String,
    },
    /// An entry of the archive is a link, or would lie elsewhere.
    #[error("the archive holds {entry:?}, no plain file below {folder}; nothing was unpacked")]
    UnsafeEntry {
        /// Path in the archive.
        entry: String,
        /// The directory that the archive should hold.
        folder: String,
    },
    /// The archive does not hold its directory.
    #[error("the archive holds no directory {folder}")]
    NoFolder {
        /// The directory.
        folder: String,
    },
}

fn amount(got: u64, expected: Option<u64>) -> String {
    match expected {
        Some(expected) => format!("{got} of {expected} bytes"),
        None => format!("{got} bytes"),
    }
}
