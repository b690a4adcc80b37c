//! Any bytes as an XML body: nothing panics, and no entity is expanded.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::sync::LazyLock;

use postern::sender::{Recipe, Role};
use postern_fuzz::{Parts, check_open, fuzz_target, open_recipe};

static XML: LazyLock<Recipe> = LazyLock::new(|| open_recipe("xml", None));

fuzz_target!(|data: &[u8]| {
    let Some(event) = check_open(&XML, &Parts::made(b"", Some("text/xml"), data)) else { return };
    let longest = Role::ALL.iter().filter_map(|role| event.role(*role)).map(str::len).max();
    assert!(longest <= Some(data.len()), "a value is longer than the message");
});
