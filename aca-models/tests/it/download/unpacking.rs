//! What an archive may hold.

use std::fs;

use aca_models::Error;
use tar::EntryType;
use tempfile::{TempDir, tempdir};

use super::{
    archive, fetch, names,
    packed::{good, packed},
    server::{Answer, Server},
};

/// The error that an archive with this entry after a good one causes, and what is left.
fn refused(name: &str, kind: EntryType) -> (String, TempDir) {
    let root = tempdir().unwrap();
    let file = packed(&[("set/a.bin", EntryType::Regular), (name, kind)]);
    let server = Server::start(&file, &[Answer::Whole]);
    let inner = root.path().join("inner");
    let error = fetch(&archive(&server, &file), &inner).unwrap_err().to_string();
    (error, root)
}

#[test]
fn entries_outside_the_folder_are_refused() {
    for name in ["../evil", "set/../../evil", "/tmp/evil", "other/evil"] {
        let (error, _) = refused(name, EntryType::Regular);
        let expected =
            format!("the archive holds {name:?}, no plain file below set; nothing was unpacked");
        assert_eq!(error, expected);
    }
}

#[test]
fn links_in_an_archive_are_refused() {
    let (error, _) = refused("set/link", EntryType::Symlink);
    let expected = "the archive holds \"set/link\", no plain file below set; nothing was unpacked";
    assert_eq!(error, expected);
}

#[test]
fn refused_archive_leaves_no_directory() {
    let (_, root) = refused("../evil", EntryType::Regular);
    let left = (names(root.path()), names(&root.path().join("inner")));
    assert_eq!(left, (vec!["inner".to_owned()], vec!["set.tar.gz.part".to_owned()]));
}

#[test]
fn archive_without_its_folder_is_refused() {
    let (file, dir) = (packed(&[]), tempdir().unwrap());
    let server = Server::start(&file, &[Answer::Whole]);
    let error = fetch(&archive(&server, &file), dir.path()).unwrap_err().to_string();
    assert_eq!(error, "the archive holds no directory set");
}

#[test]
fn leftovers_of_an_interrupted_unpacking_do_not_matter() {
    let (file, dir) = (good(), tempdir().unwrap());
    fs::create_dir_all(dir.path().join("set.part/set/old")).unwrap();
    let server = Server::start(&file, &[Answer::Whole]);
    fetch(&archive(&server, &file), dir.path()).unwrap();
    assert_eq!(names(&dir.path().join("set")), ["a.bin"]);
}

#[test]
fn file_that_is_no_archive_is_refused() {
    let (file, dir) = (b"no archive".to_vec(), tempdir().unwrap());
    let server = Server::start(&file, &[Answer::Whole]);
    let error = fetch(&archive(&server, &file), dir.path()).unwrap_err();
    assert!(matches!(error, Error::File { action: "unpack", .. }), "got {error:?}");
    let path = dir.path().join("set.tar.gz.part");
    assert_eq!(error.to_string(), format!("cannot unpack {}: invalid gzip header", path.display()));
}
