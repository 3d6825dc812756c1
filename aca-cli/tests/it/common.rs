use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// What `aca` printed and how it ended.
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

/// Runs `aca` with these arguments in `folder`.
pub fn aca_in(folder: &Path, args: &[&str]) -> Ran {
    ran(Command::new(env!("CARGO_BIN_EXE_aca")).args(args).current_dir(folder))
}

/// Runs `aca` with these arguments in `folder`, whose files may not grow beyond so many KiB.
pub fn aca_on_small_disk(folder: &Path, kib: usize, args: &[&str]) -> Ran {
    let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$@\"");
    let shell = ["-c", &script, "bash", env!("CARGO_BIN_EXE_aca")];
    ran(Command::new("bash").args(shell).args(args).current_dir(folder))
}

fn ran(command: &mut Command) -> Ran {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { stdout: text(stdout), stderr: text(stderr), code: status.code() }
}

/// Runs `aca` with these arguments in a folder of its own.
pub fn aca(args: &[&str]) -> Ran {
    aca_in(TempDir::new().unwrap().path(), args)
}

impl Ran {
    /// The output of a run that must have succeeded.
    pub fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "stderr: {}", self.stderr);
        self.stdout
    }

    /// The error of a run that must have failed with one line and code 1.
    pub fn refused(self) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (Some(1), ""), "stderr: {}", self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "stderr: {}", self.stderr);
        self.stderr.trim_end().to_owned()
    }

    /// The last line of a successful run, which must be JSON.
    pub fn json(self) -> Value {
        serde_json::from_str(self.succeeded().lines().last().unwrap()).unwrap()
    }
}

/// The example of a method's file.
pub fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ralston3.toml")
}
