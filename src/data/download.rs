//! Downloading a data set: several mirrors, resuming, checksums, and never a half-written file under the final name.

use super::sources::{RemoteFile, Source};
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

/// What is told while a file comes in: its name, bytes so far, bytes in all if the server says.
pub type OnProgress<'a> = &'a mut dyn FnMut(&str, u64, Option<u64>);

/// Downloads what is missing of a data set into `folder`.
///
/// # Errors
/// The folder cannot be written, or no mirror has a file with the right checksum; every mirror's failure is listed.
pub fn get(source: &Source, mirrors: &[String], folder: &Path, on_progress: OnProgress) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| Error::io("create the folder", folder, e))?;
    let agent = ureq::Agent::config_builder().timeout_connect(Some(Duration::from_secs(15))).build().new_agent();
    for file in &source.files {
        if !is_right(&folder.join(file.name), file)? {
            get_file(&agent, source, file, mirrors, folder, on_progress)?;
        }
    }
    Ok(())
}

fn get_file(
    agent: &ureq::Agent,
    source: &Source,
    file: &RemoteFile,
    mirrors: &[String],
    folder: &Path,
    on_progress: OnProgress,
) -> Result<()> {
    let (path, part) = (folder.join(file.name), folder.join(format!("{}.part", file.name)));
    let mut failures = Vec::new();
    if is_right(&part, file)? {
        return fs::rename(&part, &path).map_err(|e| Error::io("write", &path, e));
    }
    for mirror in mirrors {
        let url = format!("{mirror}/{}", file.name);
        match fetch(agent, &url, file, &part, on_progress) {
            Ok(()) if is_right(&part, file)? => {
                fs::rename(&part, &path).map_err(|e| Error::io("write", &path, e))?;
                return Ok(());
            }
            Ok(()) => {
                fs::remove_file(&part).map_err(|e| Error::io("remove", &part, e))?;
                failures.push(format!("{url}: wrong checksum"));
            }
            Err(Failure::Local(error)) => return Err(error),
            Err(Failure::Remote(reason)) => failures.push(format!("{url}: {reason}")),
        }
    }
    let next =
        format!("try again (it goes on where it stopped), or put {} into {} yourself", file.name, folder.display());
    Err(Error::Download(format!("{} of {}: {}; {next}", file.name, source.name, failures.join("; "))))
}

/// Why a file did not arrive.
enum Failure {
    /// This machine's fault: other mirrors would not help.
    Local(Error),
    /// The mirror's fault, or the network's.
    Remote(String),
}

/// Fetches a file into `part`, going on where an earlier attempt stopped if the server can.
fn fetch(
    agent: &ureq::Agent,
    url: &str,
    file: &RemoteFile,
    part: &Path,
    on_progress: OnProgress,
) -> Result<(), Failure> {
    let have = fs::metadata(part).map_or(0, |m| m.len());
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let mut response = request.call().map_err(|e| Failure::Remote(e.to_string()))?;
    let resumed = have > 0 && response.status().as_u16() == PARTIAL_CONTENT;
    let local = |e| Failure::Local(Error::io("write", part, e));
    let mut out =
        OpenOptions::new().create(true).write(true).truncate(!resumed).append(resumed).open(part).map_err(local)?;
    let mut received = if resumed { have } else { 0 };
    let total = response.body().content_length().map(|rest| received + rest);
    let mut body = response.body_mut().as_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = body.read(&mut buffer).map_err(|e| Failure::Remote(format!("stopped after {received} bytes: {e}")))?;
        if n == 0 {
            break;
        }
        received += n as u64;
        if received > LARGEST {
            return Err(Failure::Remote(format!("sends more than {LARGEST} bytes, which no such file has")));
        }
        out.write_all(&buffer[..n]).map_err(local)?;
        on_progress(file.name, received, total);
    }
    out.sync_all().map_err(local)
}

/// The status of an answer that starts where it was asked to.
const PARTIAL_CONTENT: u16 = 206;
/// No file of the known data sets is larger.
const LARGEST: u64 = 64 << 20;

/// Whether the file is there and is the one it should be.
fn is_right(path: &Path, file: &RemoteFile) -> Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    let mut contents = Vec::new();
    let opened = File::open(path).and_then(|f| f.take(LARGEST + 1).read_to_end(&mut contents));
    opened.map_err(|e| Error::io("read", path, e))?;
    Ok(hex(&Sha256::digest(&contents)) == file.sha256)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
