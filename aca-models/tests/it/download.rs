//! Fetching an archive, from servers of this machine that misbehave on purpose.

mod packed;
mod server;
mod unpacking;

use std::{fs, net::TcpListener, path::Path};

use aca_models::{
    Error,
    data::{Archive, DownloadError},
};
use md5::{Digest, Md5};
use tempfile::{TempDir, tempdir};

use packed::{contents, good};
use server::{Answer, Server};

fn archive(server: &Server, file: &[u8]) -> Archive {
    let md5 = Md5::digest(file).iter().map(|byte| format!("{byte:02x}")).collect();
    Archive { url: server.url.clone(), md5, folder: "set".to_owned() }
}

fn fetch(archive: &Archive, dir: &Path) -> Result<(), Error> {
    archive.fetch(dir, &mut |_, _| ()).map(|_| ())
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A directory in which the first 1000 bytes of `file` arrived.
fn begun(file: &[u8]) -> TempDir {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("set.tar.gz.part"), &file[..1000]).unwrap();
    dir
}

#[test]
fn archive_arrives_unpacked_and_leaves_nothing_else() {
    let (file, dir) = (good(), tempdir().unwrap());
    let server = Server::start(&file, &[Answer::Whole]);
    let folder = archive(&server, &file).fetch(dir.path(), &mut |_, _| ()).unwrap();
    assert_eq!(
        (fs::read(folder.join("a.bin")).unwrap(), names(dir.path())),
        (contents(), vec!["set".to_owned()])
    );
}

#[test]
fn directory_that_is_there_needs_no_server() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("set")).unwrap();
    let url = "http://127.0.0.1:1/set.tar.gz".to_owned();
    let archive = Archive { url, md5: String::new(), folder: "set".to_owned() };
    let folder = archive.fetch(dir.path(), &mut |_, _| ()).unwrap();
    assert_eq!(folder, dir.path().join("set"));
}

#[test]
fn interrupted_transfer_says_how_far_it_came() {
    let (file, dir) = (good(), tempdir().unwrap());
    let server = Server::start(&file, &[Answer::CutAfter(1000)]);
    let error = fetch(&archive(&server, &file), dir.path()).unwrap_err();
    assert!(matches!(error, Error::Download(DownloadError::Stopped { .. })), "got {error:?}");
    let (url, all) = (&server.url, file.len());
    let expected =
        format!("the transfer of {url} stopped at 1000 of {all} bytes; call again to resume");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn interrupted_transfer_is_resumed_where_it_stopped() {
    let (file, dir) = (good(), tempdir().unwrap());
    let server =
        Server::start(&file, &[Answer::CutAfter(1000), Answer::CutAfter(500), Answer::Whole]);
    let archive = archive(&server, &file);
    let results: Vec<_> = (0..3).map(|_| fetch(&archive, dir.path()).is_ok()).collect();
    let expected = (vec![false, false, true], vec![None, Some(1000), Some(1500)]);
    assert_eq!((results, server.ranges()), expected);
}

#[test]
fn resumed_archive_unpacks_whole() {
    let file = good();
    let dir = begun(&file);
    let server = Server::start(&file, &[Answer::Whole]);
    fetch(&archive(&server, &file), dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join("set/a.bin")).unwrap(), contents());
}

#[test]
fn server_that_ignores_the_range_starts_anew() {
    let file = good();
    let dir = begun(&file);
    let server = Server::start(&file, &[Answer::IgnoresRange]);
    fetch(&archive(&server, &file), dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join("set/a.bin")).unwrap(), contents());
}

#[test]
fn file_that_was_whole_already_is_unpacked() {
    let (file, dir) = (good(), tempdir().unwrap());
    fs::write(dir.path().join("set.tar.gz.part"), &file).unwrap();
    let server = Server::start(&file, &[Answer::Whole]);
    fetch(&archive(&server, &file), dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join("set/a.bin")).unwrap(), contents());
}

#[test]
fn server_that_sends_another_range_is_refused() {
    let file = good();
    let dir = begun(&file);
    let server = Server::start(&file, &[Answer::WrongRange]);
    let error = fetch(&archive(&server, &file), dir.path()).unwrap_err().to_string();
    let range = format!("bytes 1001-{}/{}", file.len() - 1, file.len());
    let url = &server.url;
    let expected = format!("{url} sent the range {range:?} where the bytes from 1000 were asked");
    assert_eq!(error, expected);
}

#[test]
fn wrong_checksum_is_refused() {
    let (file, dir) = (good(), tempdir().unwrap());
    let server = Server::start(&file, &[Answer::Whole]);
    let right = archive(&server, &file);
    let error = fetch(&Archive { md5: "0".repeat(32), ..right.clone() }, dir.path()).unwrap_err();
    assert!(matches!(error, Error::Download(DownloadError::Checksum { .. })), "got {error:?}");
    let (url, got, zeros) = (&server.url, &right.md5, "0".repeat(32));
    let expected =
        format!("{url} arrived with md5 {got} instead of {zeros}; it was removed, fetch it anew");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn file_with_a_wrong_checksum_is_removed() {
    let (file, dir) = (good(), tempdir().unwrap());
    let server = Server::start(&file, &[Answer::Whole]);
    let wrong = Archive { md5: "0".repeat(32), ..archive(&server, &file) };
    fetch(&wrong, dir.path()).unwrap_err();
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn server_without_the_file_is_reported() {
    let (file, dir) = (good(), tempdir().unwrap());
    let server = Server::start(&file, &[Answer::NotFound]);
    let error = fetch(&archive(&server, &file), dir.path()).unwrap_err().to_string();
    let url = &server.url;
    assert_eq!(error, format!("{url} answered with status 404; fetch and unpack it by hand"));
}

#[test]
fn server_that_is_absent_is_reported() {
    let dir = tempdir().unwrap();
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/set.tar.gz");
    let archive = Archive { url: url.clone(), md5: String::new(), folder: "set".to_owned() };
    let error = fetch(&archive, dir.path()).unwrap_err();
    assert!(matches!(error, Error::Download(DownloadError::Request { .. })), "got {error:?}");
    assert!(error.to_string().starts_with(&format!("cannot fetch {url}: ")), "got {error}");
}

#[test]
fn address_without_a_file_name_is_refused() {
    let (url, md5, folder) = ("http://127.0.0.1:1/".to_owned(), String::new(), "set".to_owned());
    let error = fetch(&Archive { url, md5, folder }, tempdir().unwrap().path()).unwrap_err();
    let expected = "http://127.0.0.1:1/ does not end in the name of a file";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn progress_ends_with_the_whole_file() {
    let file = good();
    let dir = begun(&file);
    let server = Server::start(&file, &[Answer::Whole]);
    let mut last = (0, None);
    archive(&server, &file).fetch(dir.path(), &mut |got, all| last = (got, all)).unwrap();
    let all = file.len() as u64;
    assert_eq!(last, (all, Some(all)));
}

#[test]
fn both_cifar_archives_unpack_to_where_the_readers_look() {
    let folders = (Archive::cifar10().folder, Archive::cifar100().folder);
    assert_eq!(folders, ("cifar-10-batches-bin".to_owned(), "cifar-100-binary".to_owned()));
}
