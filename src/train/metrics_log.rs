//! `metrics.jsonl`: one line a step, append-only, for plots and for other tools.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// One training step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The job's name.
    pub job: String,
    /// The epoch, from 1.
    pub epoch: usize,
    /// The step since the job began, from 1.
    pub step: u64,
    /// The learning rate.
    pub lr: f64,
    /// The loss that was differentiated.
    pub loss: f64,
    /// The loss's terms, unweighted.
    pub terms: BTreeMap<String, f64>,
}

/// The open log of a run.
pub struct MetricsLog {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
}

impl MetricsLog {
    /// Opens the log and cuts it at `keep` bytes: what was written after the last checkpoint will be written again.
    pub fn open(path: &Path, keep: u64) -> Result<MetricsLog> {
        let failed = |e| Error::io("open", path, e);
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
        let bytes = keep.min(file.metadata().map_err(failed)?.len());
        file.set_len(bytes).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(MetricsLog { path: path.to_path_buf(), file: BufWriter::new(file), bytes })
    }

    /// Appends one step.
    pub fn append(&mut self, record: &StepRecord) -> Result<()> {
        let mut line = serde_json::to_string(record).expect("a record of numbers and strings");
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(|e| Error::io("write", &self.path, e))?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Writes everything through to the disk and returns the log's length in bytes.
    pub fn sync(&mut self) -> Result<u64> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_data())
            .map_err(|e| Error::io("write", &self.path, e))?;
        Ok(self.bytes)
    }

    /// The steps of one job, in order.
    pub fn read(path: &Path, job: &str) -> Result<Vec<StepRecord>> {
        let file = File::open(path).map_err(|e| Error::io("read", path, e))?;
        let mut records = Vec::new();
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(|e| Error::io("read", path, e))?;
            let record: StepRecord = serde_json::from_str(&line)
                .map_err(|e| Error::data(path, format!("line {} is not a training step: {e}", number + 1)))?;
            if record.job == job {
                records.push(record);
            }
        }
        Ok(records)
    }
}
