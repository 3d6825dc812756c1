//! One file over HTTP, from where the last attempt ended.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
    time::Duration,
};

use ureq::{Agent, Body, http::Response};

use super::{DownloadError, failed};
use crate::Result;

/// Lets the file at `part` grow to the whole one behind `url`.
pub(super) fn resume(
    url: &str,
    part: &Path,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<()> {
    let have = fs::metadata(part).map_or(0, |data| data.len());
    let response = request(url, have)?;
    let Some(start) = start(url, &response, have)? else {
        return Ok(());
    };
    let mut file = OpenOptions::new();
    let file = if start > 0 { file.append(true) } else { file.write(true).truncate(true) };
    let mut file = file.create(true).open(part).map_err(failed("write", part))?;
    let body = response.into_body();
    let total = body.content_length().map(|rest| start + rest);
    let mut sink = Sink { file: &mut file, got: start, total, progress };
    let copied = sink.copy(&mut body.into_reader());
    let (got, expected) = (sink.got, total);
    let stopped = |source| DownloadError::Stopped { url: url.to_owned(), got, expected, source };
    match copied {
        Err(Failure::Write(source)) => Err(failed("write", part)(source)),
        Err(Failure::Read(source)) => Err(stopped(Some(source)).into()),
        Ok(()) if total.is_some_and(|total| got < total) => Err(stopped(None).into()),
        Ok(()) => Ok(()),
    }
}

fn request(url: &str, have: u64) -> Result<Response<Body>, DownloadError> {
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        // For the whole body, since the client has no limit for a stall: the next call resumes.
        .timeout_recv_body(Some(Duration::from_secs(3600)))
        .build()
        .into();
    let request = agent.get(url);
    let request = match have {
        0 => request,
        _ => request.header("Range", format!("bytes={have}-")),
    };
    let failed = |error: ureq::Error| DownloadError::Request {
        url: url.to_owned(),
        reason: error.to_string(),
    };
    request.call().map_err(failed)
}

/// Position in the file at which the answer starts, or `None` if the server has nothing to add to
/// the `have` bytes, of which the checksum knows whether they are right.
fn start(url: &str, response: &Response<Body>, have: u64) -> Result<Option<u64>, DownloadError> {
    let range = response.headers().get("Content-Range").and_then(|range| range.to_str().ok());
    let (url, range) = (url.to_owned(), range.unwrap_or_default());
    match response.status().as_u16() {
        200 => Ok(Some(0)),
        206 if range.starts_with(&format!("bytes {have}-")) => Ok(Some(have)),
        206 => Err(DownloadError::Range { url, got: range.to_owned(), wanted: have }),
        416 if have > 0 => Ok(None),
        status => Err(DownloadError::Status { url, status }),
    }
}

/// Which end of a copy failed.
enum Failure {
    Read(io::Error),
    Write(io::Error),
}

/// A growing file, and who wants to hear of it.
struct Sink<'a> {
    file: &'a mut File,
    got: u64,
    total: Option<u64>,
    progress: &'a mut dyn FnMut(u64, Option<u64>),
}

impl Sink<'_> {
    /// Copies to the end; what came before a failure stays in the file.
    fn copy(&mut self, body: &mut dyn Read) -> Result<(), Failure> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = match body.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(Failure::Read)?,
            };
            if count == 0 {
                return Ok(());
            }
            self.file.write_all(&buffer[..count]).map_err(Failure::Write)?;
            self.got += count as u64;
            (self.progress)(self.got, self.total);
        }
    }
}
