//! A run is a folder: `config.toml`, `metrics.jsonl`, `jobs/<name>/…`, `summary.json`, `report.html`, `plots/`.

use super::checkpoint::{Checkpoint, Position};
use super::JobResult;
use crate::error::{Error, Result};
use crate::tensor::io::write_atomically;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of a run.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Creates the folder, or opens it again with `resume`.
    ///
    /// # Errors
    /// The folder exists and holds a run (without `resume`), does not exist (with it), or cannot be written.
    pub fn open(path: &Path, resume: bool) -> Result<RunDir> {
        let run = RunDir { path: path.to_path_buf() };
        match (run.config_path().exists(), resume) {
            (true, false) => {
                let reason = format!(
                    "{} already holds a run; continue it with --resume, or choose another --out",
                    path.display()
                );
                return Err(Error::argument("out", reason));
            }
            (false, true) => {
                let reason = format!("{} holds no run to resume; start one without --resume", path.display());
                return Err(Error::argument("resume", reason));
            }
            _ => {}
        }
        fs::create_dir_all(path).map_err(|e| Error::io("create the folder", path, e))?;
        Ok(run)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every value that the run used.
    pub fn config_path(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// One line a step.
    pub fn metrics_path(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The trained model of a job.
    pub fn model_path(&self, job: &str) -> PathBuf {
        self.job_path(job).join("model.safetensors")
    }

    /// Where an unfinished job goes on.
    pub fn checkpoint_path(&self, job: &str) -> PathBuf {
        self.job_path(job).join("checkpoint.safetensors")
    }

    /// Another file of a job.
    pub fn job_file(&self, job: &str, name: &str) -> PathBuf {
        self.job_path(job).join(name)
    }

    fn result_path(&self, job: &str) -> PathBuf {
        self.job_path(job).join("result.json")
    }

    fn job_path(&self, job: &str) -> PathBuf {
        self.path.join("jobs").join(job)
    }

    /// Makes the job's folder.
    pub fn create_job(&self, job: &str) -> Result<()> {
        let path = self.job_path(job);
        fs::create_dir_all(&path).map_err(|e| Error::io("create the folder", &path, e))
    }

    /// What came of a job, if it was finished.
    pub fn result(&self, job: &str) -> Result<Option<JobResult>> {
        let path = self.result_path(job);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
        let damaged = |e| Error::data(&path, format!("is damaged ({e}); remove its folder to train the job again"));
        serde_json::from_str(&text).map(Some).map_err(damaged)
    }

    /// Marks a job as finished; its checkpoint is no longer needed.
    pub fn finish(&self, result: &JobResult) -> Result<()> {
        let json = serde_json::to_string_pretty(result).expect("numbers and strings");
        write_atomically(&self.result_path(&result.name), json.as_bytes())?;
        let checkpoint = self.checkpoint_path(&result.name);
        match fs::remove_file(&checkpoint) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &checkpoint, e)),
            _ => Ok(()),
        }
    }

    /// How many networks an unfinished job trains in lockstep; `None` where it has no checkpoint.
    pub fn networks_of(&self, job: &str) -> Result<Option<usize>> {
        let path = self.checkpoint_path(job);
        path.exists().then(|| Ok(Checkpoint::load(&path)?.position.courses.len())).transpose()
    }

    /// How much of the metrics log belongs to finished jobs and checkpoints; the rest will be written again.
    pub fn metrics_bytes(&self) -> Result<u64> {
        let jobs = self.path.join("jobs");
        let Ok(entries) = fs::read_dir(&jobs) else { return Ok(0) };
        let mut bytes = 0;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("read", &jobs, e))?;
            let job = entry.file_name().to_string_lossy().into_owned();
            let finished = self.result(&job)?.map_or(0, |result| result.metrics_bytes);
            let position = match self.checkpoint_path(&job).exists() {
                true => Checkpoint::load(&self.checkpoint_path(&job))?.position,
                false => Position::default(),
            };
            bytes = bytes.max(finished).max(position.metrics_bytes);
        }
        Ok(bytes)
    }
}
