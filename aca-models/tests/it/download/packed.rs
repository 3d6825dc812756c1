//! Archives, good ones and others.

use flate2::{Compression, write::GzEncoder};
use tar::{Builder, EntryType, Header};

/// Bytes that do not compress, so that the archive is long enough to be cut.
pub fn contents() -> Vec<u8> {
    let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(1), next).take(5000).map(|state| (state >> 24) as u8).collect()
}

pub fn packed(entries: &[(&str, EntryType)]) -> Vec<u8> {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, kind) in entries {
        let data = if *kind == EntryType::Regular { contents() } else { Vec::new() };
        let mut header = Header::new_gnu();
        // Not `set_path`, which refuses the paths that the tests are about.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_size(data.len() as u64);
        if *kind == EntryType::Symlink {
            header.set_link_name("/etc/hostname").unwrap();
        }
        header.set_cksum();
        builder.append(&header, &data[..]).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

pub fn good() -> Vec<u8> {
    packed(&[("set/", EntryType::Directory), ("set/a.bin", EntryType::Regular)])
}
