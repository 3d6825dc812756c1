//! Scalars for TensorBoard.
//!
//! A file of events is a row of records: length, checksum, message, checksum. The crates that write
//! them end the program when a disk is full, so the two messages that scalars need stand here.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use crate::report::{Error, Result};

/// A file of events that grows.
pub struct Events {
    file: File,
    path: PathBuf,
}

/// The part of TensorFlow's `Event` that scalars use.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

/// The part of TensorFlow's `Summary` that scalars use.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

/// A named scalar.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    number: Option<f32>,
}

impl Events {
    /// Name of the file; TensorBoard looks for its middle part.
    pub const NAME: &str = "events.out.tfevents.aca";

    /// Begins the file in `folder`, in the place of an older one.
    pub fn new(folder: &Path) -> Result<Self> {
        let path = folder.join(Self::NAME);
        let file = File::create(&path).map_err(Error::file("create", &path))?;
        let mut events = Self { file, path };
        let version = Some("brain.Event:2".to_owned());
        events.push(Event { file_version: version, ..Event::now(0) })?;
        Ok(events)
    }

    /// Adds scalars of one step.
    pub fn scalars(&mut self, step: usize, scalars: &[(&str, f64)]) -> Result<()> {
        let value = |&(tag, number): &(&str, f64)| Value {
            tag: tag.to_owned(),
            number: Some(number as f32),
        };
        let summary = Some(Summary { values: scalars.iter().map(value).collect() });
        self.push(Event { summary, ..Event::now(step) })
    }

    fn push(&mut self, event: Event) -> Result<()> {
        let write = |file: &mut File| -> io::Result<()> { file.write_all(&record(&event)) };
        write(&mut self.file).map_err(Error::file("write", &self.path))
    }
}

impl Event {
    fn now(step: usize) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_time: now.as_secs_f64(), step: step as i64, ..Self::default() }
    }
}

/// The bytes of one record.
fn record(event: &Event) -> Vec<u8> {
    let message = event.encode_to_vec();
    let length = (message.len() as u64).to_le_bytes();
    let sum = |bytes: &[u8]| masked(crc32c::crc32c(bytes)).to_le_bytes();
    [&length[..], &sum(&length), &message, &sum(&message)].concat()
}

/// The form in which records keep checksums, so that those of checksums stay good.
fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}
