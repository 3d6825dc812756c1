//! What is written down while training.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::ProgressBar;
use serde::Serialize;

use super::fit::{Evaluation, max_mass_error};
use crate::report::{self, Error, Result};

/// One line of metrics.csv.
#[derive(Serialize)]
pub struct Row {
    pub stage: &'static str,
    step: usize,
    learning_rate: Option<f64>,
    loss: f64,
    pub sum_sq: f64,
    m1: f64,
    m2: f64,
    m3: f64,
    max_mass_error: f64,
    seconds: f64,
}

/// Progress bar and metrics.csv, which is complete up to the last evaluation at any moment.
pub struct Log {
    pub start: Instant,
    bar: ProgressBar,
    csv: Option<csv::Writer<fs::File>>,
    pub rows: Vec<Row>,
    path: PathBuf,
}

impl Log {
    /// Will write metrics.csv in the run's folder, from the first evaluation on.
    pub fn new(out: &Path, epochs: usize) -> Self {
        let path = out.join("metrics.csv");
        let template = "{bar:24} {pos:>3}/{len} {msg} [{elapsed}]";
        let bar = report::progress(epochs as u64, template);
        Self { start: Instant::now(), bar, csv: None, rows: Vec::new(), path }
    }

    /// Notes one evaluation.
    pub fn row(
        &mut self,
        stage: &'static str,
        learning_rate: Option<f64>,
        e: &Evaluation,
    ) -> Result<()> {
        let [m1, m2, m3] = e.masses;
        let row = Row {
            stage,
            step: self.rows.len(),
            learning_rate,
            loss: e.loss,
            sum_sq: e.sum_sq,
            m1,
            m2,
            m3,
            max_mass_error: max_mass_error(e.masses),
            seconds: self.start.elapsed().as_secs_f64(),
        };
        let csv = match &mut self.csv {
            Some(csv) => csv,
            None => {
                let file = fs::File::create(&self.path);
                let file = file.map_err(Error::file("create", &self.path))?;
                self.csv.insert(csv::Writer::from_writer(file))
            }
        };
        csv.serialize(&row)?;
        csv.flush().map_err(Error::file("write", &self.path))?;
        let length = self.bar.length().unwrap_or(0).max(row.step as u64 + 1);
        self.bar.set_length(length);
        self.bar.set_message(format!(
            "{stage}: sum of squares {:.2e}, masses {m1:.6} {m2:.6} {m3:.6}",
            e.sum_sq
        ));
        self.bar.inc(1);
        self.rows.push(row);
        Ok(())
    }

    /// Takes the progress bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
