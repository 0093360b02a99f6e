//! Running fixtures and judging the results.

use super::{registry, Fixture};
use crate::error::{Error, Result};
use crate::ops::{OpSpec, Outputs};
use crate::tensor::{Device, Tensor};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// What came of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every value is within tolerance.
    Passed,
    /// A value is not, or the op refused the case, or the file is damaged.
    Failed,
    /// There is no such op here.
    Unsupported,
}

/// One row of the result.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// The op.
    pub op: String,
    /// The case's name within the op.
    pub case: String,
    /// What came of it.
    pub status: Status,
    /// The largest error over the tolerance; at most 1 where the case passed, null where nothing was compared.
    pub worst: Option<f64>,
    /// Why the case failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Counts by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Cases within tolerance.
    pub passed: usize,
    /// Cases that are not.
    pub failed: usize,
    /// Cases of unknown ops.
    pub unsupported: usize,
}

impl Summary {
    /// Counts results.
    pub fn of(results: &[CaseResult]) -> Summary {
        let count = |status| results.iter().filter(|r| r.status == status).count();
        Summary {
            passed: count(Status::Passed),
            failed: count(Status::Failed),
            unsupported: count(Status::Unsupported),
        }
    }
}

/// Runs every fixture of a folder (only those of `op`, if given) on a device, in the order of their names.
///
/// # Errors
/// The folder cannot be read or holds no fixture. A damaged fixture is a failed case, not an error.
pub fn run(folder: &Path, op: Option<&str>, device: Device) -> Result<Vec<CaseResult>> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io("read the folder", folder, e))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    let results: Vec<CaseResult> = files.iter().map(|file| run_file(file, device)).collect();
    let wanted: Vec<CaseResult> = results.into_iter().filter(|r| op.is_none_or(|op| op == r.op)).collect();
    match wanted.is_empty() {
        true => Err(Error::data(folder, "there is no fixture here (`<op>__<case>.safetensors`)")),
        false => Ok(wanted),
    }
}

fn run_file(file: &Path, device: Device) -> CaseResult {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (op, case) = stem.split_once("__").unwrap_or((&stem, ""));
    let mut row =
        CaseResult { op: op.to_string(), case: case.to_string(), status: Status::Failed, worst: None, reason: None };
    let fixture = match Fixture::load(file) {
        Ok(fixture) => fixture,
        Err(error) => return CaseResult { reason: Some(error.to_string()), ..row },
    };
    (row.op, row.case) = (fixture.op.clone(), fixture.case.clone());
    let Some(spec) = registry().find(|spec| spec.name == fixture.op) else {
        return CaseResult { status: Status::Unsupported, ..row };
    };
    match judge(&fixture, spec, device) {
        Ok(worst) if worst <= 1.0 => CaseResult { status: Status::Passed, worst: Some(worst), ..row },
        Ok(worst) => CaseResult { worst: Some(worst), reason: Some("a value is out of tolerance".to_string()), ..row },
        Err(error) => CaseResult { reason: Some(error.to_string()), ..row },
    }
}

/// The largest error over the tolerance among outputs and gradients; NaN counts as infinite.
fn judge(fixture: &Fixture, spec: &OpSpec, device: Device) -> Result<f64> {
    let refuse = |reason: String| Error::argument("case", reason);
    let case = fixture.case(device)?;
    let outputs = (spec.run)(&case)?;
    let detached = case.detached();
    let unread = case.unread();
    if !unread.is_empty() {
        return Err(refuse(format!("{} not understood: {}", spec.name, unread.join(", "))));
    }
    let mut worst: f64 = 0.0;
    for (name, want) in &fixture.outputs {
        let got = outputs.iter().find(|(output, _)| output == name);
        let (_, got) = got.ok_or_else(|| refuse(format!("the op has no output `{name}`")))?;
        worst = worst.max(compare(fixture, name, got, want)?);
    }
    if fixture.gradients.is_empty() {
        return Ok(worst);
    }
    let gradients = scalar(fixture, &outputs, device)?.backward()?;
    for (name, input) in case.inputs() {
        match (gradients.get(input), fixture.gradients.get(name)) {
            (Some(got), Some(want)) => worst = worst.max(compare(fixture, name, got, want)?),
            (None, Some(_)) => return Err(refuse(format!("input `{name}` received no gradient"))),
            (Some(_), None) if detached.contains(name) => {
                return Err(refuse(format!("input `{name}` is detached but received a gradient")));
            }
            _ => {}
        }
    }
    match fixture.gradients.keys().find(|name| !case.inputs().contains_key(*name)) {
        Some(name) => Err(refuse(format!("a gradient is expected for `{name}`, which is no input"))),
        None => Ok(worst),
    }
}

/// The scalar that is differentiated: Σ output · cotangent if there are cotangents, else `total`, else the only output.
fn scalar(fixture: &Fixture, outputs: &Outputs, device: Device) -> Result<Tensor> {
    let refuse = |reason: &str| Error::argument("case", reason.to_string());
    if fixture.cotangents.is_empty() {
        let total = outputs.iter().find(|(name, _)| *name == "total");
        let only = if fixture.outputs.len() == 1 { outputs.first() } else { None };
        let (_, scalar) = total.or(only).ok_or_else(|| refuse("which output to differentiate is not said"))?;
        return Ok(scalar.clone());
    }
    let mut sum: Option<Tensor> = None;
    for (name, output) in outputs {
        let Some(weight) = fixture.cotangent(name, device)? else { continue };
        let term = output.mul(&weight)?.sum_all()?;
        sum = Some(match sum {
            Some(sum) => sum.add(&term)?,
            None => term,
        });
    }
    sum.ok_or_else(|| refuse("no cotangent belongs to an output"))
}

fn compare(fixture: &Fixture, name: &str, got: &Tensor, want: &Tensor) -> Result<f64> {
    if got.shape() != want.shape() {
        let reason = format!("`{name}` has shape {:?}, expected {:?}", got.shape(), want.shape());
        return Err(Error::argument("case", reason));
    }
    let ratio = |got: f64, want: f64| match (got - want).abs() / (fixture.atol + fixture.rtol * want.abs()) {
        _ if got == want => 0.0,
        ratio if ratio.is_nan() => f64::INFINITY,
        ratio => ratio,
    };
    let pairs = got.to_f64_vec()?.into_iter().zip(want.to_f64_vec()?);
    Ok(pairs.map(|(got, want)| ratio(got, want)).fold(0.0, f64::max))
}
