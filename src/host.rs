//! The machine that this process runs on.

use std::fs;

/// Its name; `None` if the kernel does not say it.
#[must_use]
pub(crate) fn name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}
