//! Where an export is written to, and read from.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[cfg(feature = "s3")]
use crate::egress::s3::Object;
use crate::ledger::ExportError;

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// A place for an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A file.
    File(PathBuf),
    /// An object of a store that speaks S3.
    #[cfg(feature = "s3")]
    Object(Object),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        #[cfg(feature = "s3")]
        if let Some(object) = Object::parse(text) {
            return object.map(Self::Object);
        }
        Ok(Self::File(PathBuf::from(text)))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            #[cfg(feature = "s3")]
            Self::Object(object) => write!(f, "{object}"),
        }
    }
}

impl Place {
    /// Checks that a file is at this place. Only a read says whether an object is.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::File(path) if is_missing(path) => {
                Err(format!("{self}: does not exist; name a file that postern export wrote"))
            }
            _ => Ok(()),
        }
    }

    /// The data at this place, and its size in bytes.
    ///
    /// # Errors
    /// The data cannot be read.
    pub(super) fn read(&self) -> io::Result<(Counted, u64)> {
        match self {
            Self::File(path) => {
                let file = File::open(path)?;
                let size = file.metadata()?.len();
                Ok((Counted::new(Box::new(file)), size))
            }
            #[cfg(feature = "s3")]
            Self::Object(object) => {
                let (download, size) = object.read()?;
                Ok((Counted::new(Box::new(download)), size))
            }
        }
    }

    /// Whether both are the same file, also under another path, or the same object.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => fs::canonicalize(one)
                .is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other)),
            #[cfg(feature = "s3")]
            _ => self == other,
        }
    }

    /// See [`named`].
    pub(super) fn named(&self, error: ExportError) -> ExportError {
        named(self, error)
    }
}

/// The same error, with the name of the place that it is about. An error of the ledger is not about it.
pub(super) fn named(place: &dyn fmt::Display, error: ExportError) -> ExportError {
    match error {
        ExportError::Io(error) => {
            ExportError::Io(io::Error::new(error.kind(), format!("{place}: {error}")))
        }
        ExportError::Damaged(text) => ExportError::Damaged(format!("{place}: {text}")),
        // Shown behind "the export".
        ExportError::Sealed(text) => ExportError::Sealed(format!("{place} {text}")),
        ExportError::Ledger(error) => ExportError::Ledger(error),
    }
}

fn is_missing(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Counts the bytes that are read.
pub(super) struct Counted {
    from: BufReader<Box<dyn Read>>,
    count: u64,
}

impl Counted {
    pub(super) fn new(from: Box<dyn Read>) -> Self {
        Self { from: BufReader::with_capacity(BUFFER, from), count: 0 }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.count += read as u64;
        Ok(read)
    }
}
