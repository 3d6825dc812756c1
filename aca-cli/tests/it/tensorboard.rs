//! Events as TensorBoard itself reads them.

use std::{env, process::Command};

use serde_json::Value;
use tempfile::tempdir;

use crate::common::aca_in;

/// Prints the scalars of a folder of events as JSON: {tag: [[step, value], ..]}.
const READ: &str = "
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
tags = events.Tags()['scalars']
print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in tags}))
";

#[test]
#[ignore = "needs a Python with tensorboard in ACA_PYTHON; scripts/tensorboard-env.sh makes one"]
fn tensorboard_reads_every_scalar_under_the_tags_of_the_original() {
    let folder = tempdir().unwrap();
    let words = ["classify", "train", "--out", "run", "--method", "euler", "--h", "1"];
    aca_in(folder.path(), &[&words[..], &["--epochs", "2", "--batch-size", "128"]].concat())
        .succeeded();
    let python = env::var("ACA_PYTHON").unwrap();
    let run = folder.path().join("run");
    let output = Command::new(python).args(["-c", READ]).arg(&run).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    let metrics = csv::Reader::from_path(run.join("metrics.csv")).unwrap().into_records();
    let metrics: Vec<_> = metrics.map(Result::unwrap).collect();
    let columns = [
        ("Learning rate", 1),
        ("Train/Loss", 2),
        ("Train/Accuracy", 3),
        ("Test/Loss", 4),
        ("Test/Accuracy", 5),
        ("NFE/Forward", 6),
        ("NFE/Backward", 7),
        ("Steps/Mean", 10),
    ];
    for (tag, column) in columns {
        for (epoch, line) in metrics.iter().enumerate() {
            let expected = line[column].parse::<f64>().unwrap() as f32;
            let point = &read[tag][epoch];
            let found = point[1].as_f64().unwrap() as f32;
            assert_eq!((point[0].as_u64(), found), (Some(epoch as u64 + 1), expected), "{tag}");
        }
    }
}
