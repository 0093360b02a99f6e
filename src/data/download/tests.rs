use super::*;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const CONTENTS: &[u8] = b"the contents of a file that is long enough to be cut in two";

/// What a mirror does with a request.
#[derive(Clone, Copy)]
enum Manner {
    /// Sends what was asked for.
    Honest,
    /// Sends everything, whatever was asked for.
    IgnoresRanges,
    /// Sends half of it and closes the connection.
    CutsOff,
    /// Sends other bytes.
    Corrupts,
    /// Answers 404.
    HasNothing,
}

/// A server on this machine; returns its address and the `Range` headers that it gets.
fn mirror(manner: Manner) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let log = ranges.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, manner, &log);
        }
    });
    (address, ranges)
}

fn answer(mut stream: TcpStream, manner: Manner, log: &Mutex<Vec<String>>) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(std::result::Result::ok);
    let range = lines.take_while(|line| !line.is_empty()).find_map(|line| {
        line.to_lowercase().strip_prefix("range: bytes=").map(|range| range.trim_end_matches('-').to_string())
    });
    let start = range.as_ref().map_or(0, |start| start.parse::<usize>().unwrap());
    log.lock().unwrap().extend(range);
    let head =
        |status: &str, len: usize| format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
    let rest = &CONTENTS[start..];
    let (head, body) = match manner {
        Manner::HasNothing => (head("404 Not Found", 0), &[][..]),
        Manner::IgnoresRanges => (head("200 OK", CONTENTS.len()), CONTENTS),
        Manner::Corrupts => (head("200 OK", 5), &b"wrong"[..]),
        Manner::CutsOff => (head("200 OK", CONTENTS.len()), &CONTENTS[..CONTENTS.len() / 2]),
        Manner::Honest if start > 0 => (head("206 Partial Content", rest.len()), rest),
        Manner::Honest => (head("200 OK", rest.len()), rest),
    };
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

fn source() -> Source {
    const SHA256: &str = "f29db085625d7c0f1450a2749e58d0366bf2822f05ed6635c829eb84cd000e6e";
    let file = RemoteFile { name: "file.gz", sha256: SHA256 };
    Source { name: "toy", about: "", classes: ["0"; 10], mirrors: &[], files: [file; 4] }
}

/// Downloads from mirrors of these manners; also returns what the last one was asked for.
fn download(folder: &Path, manners: &[Manner]) -> (Result<()>, Vec<String>) {
    let mirrors: Vec<_> = manners.iter().map(|manner| mirror(*manner)).collect();
    let urls: Vec<String> = mirrors.iter().map(|(url, _)| url.clone()).collect();
    let result = get(&source(), &urls, folder, &mut |_, _, _| ());
    let asked = mirrors.last().unwrap().1.lock().unwrap().clone();
    (result, asked)
}

#[test]
fn a_file_arrives_whole_from_the_first_mirror_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    download(folder.path(), &[Manner::HasNothing, Manner::Corrupts, Manner::Honest]).0.unwrap();
    assert_eq!(fs::read(folder.path().join("file.gz")).unwrap(), CONTENTS);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no partial file is left");
}

#[test]
fn a_cut_connection_is_resumed_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (result, asked) = download(folder.path(), &[Manner::CutsOff, Manner::Honest]);
    result.unwrap();
    assert_eq!(asked, [(CONTENTS.len() / 2).to_string()]);
    assert_eq!(fs::read(folder.path().join("file.gz")).unwrap(), CONTENTS);
}

#[test]
fn a_server_that_ignores_ranges_sends_it_all_again() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file.gz.part"), &CONTENTS[..10]).unwrap();
    download(folder.path(), &[Manner::IgnoresRanges]).0.unwrap();
    assert_eq!(fs::read(folder.path().join("file.gz")).unwrap(), CONTENTS);
}

#[test]
fn when_every_mirror_fails_all_are_named_with_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let error = download(folder.path(), &[Manner::Corrupts, Manner::HasNothing]).0.unwrap_err().to_string();
    for part in ["file.gz of toy", "wrong checksum", "404", "into"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!folder.path().join("file.gz").exists());
}

#[test]
fn a_file_that_is_already_here_is_not_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file.gz"), CONTENTS).unwrap();
    download(folder.path(), &[Manner::HasNothing]).0.unwrap();
}
