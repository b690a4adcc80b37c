//! Where the files of an archive are: a folder, or a store that speaks S3.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::config::ArchivePlace;
#[cfg(feature = "s3")]
use crate::egress::s3::Object;
use crate::private;

/// Writes the file `name`, which may have slashes in it. It is there only when it is complete and
/// durable, in place of an older one.
///
/// # Errors
/// When it cannot be written. Blocks.
pub(super) fn put(place: &ArchivePlace, name: &str, bytes: &[u8]) -> io::Result<()> {
    match place {
        ArchivePlace::Folder(folder) => put_file(&folder.join(name), bytes),
        #[cfg(feature = "s3")]
        ArchivePlace::S3 { .. } => {
            let mut upload = object(place, name)?.write()?;
            upload.write_all(bytes)?;
            upload.end()
        }
        #[cfg(not(feature = "s3"))]
        ArchivePlace::S3 { .. } => Err(without_s3()),
    }
}

/// Removes the file `name`; returns whether it was there.
///
/// # Errors
/// When it may still be there. Blocks.
pub(super) fn remove(place: &ArchivePlace, name: &str) -> io::Result<bool> {
    match place {
        ArchivePlace::Folder(folder) => match fs::remove_file(folder.join(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        },
        #[cfg(feature = "s3")]
        ArchivePlace::S3 { .. } => object(place, name)?.remove(),
        #[cfg(not(feature = "s3"))]
        ArchivePlace::S3 { .. } => Err(without_s3()),
    }
}

#[cfg(feature = "s3")]
fn object(place: &ArchivePlace, name: &str) -> io::Result<Object> {
    let ArchivePlace::S3 { bucket, prefix } = place else {
        return Err(io::Error::other("a folder has no objects"));
    };
    let between = if prefix.is_empty() { "" } else { "/" };
    Ok(Object::new(bucket, &format!("{prefix}{between}{name}")))
}

#[cfg(not(feature = "s3"))]
fn without_s3() -> io::Error {
    io::Error::other("this program was built without S3")
}

fn put_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    create_folders(folder)?;
    let part = PathBuf::from(format!("{}.part", path.display()));
    let mut file = private::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    File::open(folder)?.sync_all()
}

/// Creates the folders that are missing, each durable in the one above it.
fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(Path::new("/"));
    create_folders(above)?;
    match private::create_folder(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(above)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_when_it_is_whole_and_only_for_its_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let place = ArchivePlace::Folder(folder.path().join("a/b"));
        put(&place, "c/one.export", b"first").unwrap();
        put(&place, "c/one.export", b"second").unwrap();
        let inside = folder.path().join("a/b/c");
        let names: Vec<_> =
            fs::read_dir(&inside).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(names, ["one.export"]);
        assert_eq!(fs::read(inside.join("one.export")).unwrap(), b"second");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&inside), mode(&inside.join("one.export"))), (0o700, 0o600));
        assert!(remove(&place, "c/one.export").unwrap());
        assert!(!remove(&place, "c/one.export").unwrap());
    }
}
