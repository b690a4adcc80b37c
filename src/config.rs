//! Configuration: the file as written becomes the checked configuration, in one pass that reports
//! every fault at once and binds nothing.

mod checked;

pub use checked::*;
