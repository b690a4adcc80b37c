//! Errors of sender files: facts that a file has to state.

use std::sync::Arc;

use crate::sender::language::recipe::{Recipe, Terms};
use crate::sender::{DefinitionError, Sender};

/// A file that signs its transaction and amount.
fn file() -> String {
    super::super::file_of("{id}:[secret]:{amount}", "reads = \"query\"")
}

/// The errors of the file and of a source of it.
fn faults(text: &str) -> Vec<DefinitionError> {
    let sender = match Sender::parse("mine", text) {
        Ok(sender) => Arc::new(sender),
        Err(faults) => return faults,
    };
    let terms = Terms {
        secrets: vec![super::world::secret("1", super::world::SECRET)],
        ..Terms::default()
    };
    Recipe::compile(&sender, &terms).err().unwrap_or_default()
}

#[test]
fn what_is_not_signed_has_to_be_declared() {
    let file = file();
    assert_eq!(faults(&file), []);
    let kind = "\n[[kind]]\nname = \"reversal\"\nwhen = \"{state} is 0\"\n";
    let flag = "\n[test]\nflag = \"{test} is 1\"\n";
    let time = "\n[time]\nin = \"{ts}\"\nas = \"s\"\nwithin = \"5m\"\n";
    let shape = "\n[shapes]\nuser = \"digits\"\n";
    for (more, key) in [(kind, "kind[reversal].when"), (flag, "test.flag"), (time, "time.within")] {
        let found = faults(&format!("{file}{more}"));
        assert!(found.iter().any(|fault| fault.key == key), "{key}: {found:?}");
    }
    for more in [kind, flag] {
        let declared = format!("{file}{more}unsigned = \"nothing signs it\"\n");
        assert_eq!(faults(&declared), [], "{more}");
    }
    let from_client =
        file.replace("reads = \"query\"", "reads = \"query\"\nfrom_client = [\"user\"]");
    let found = faults(&format!("{from_client}{shape}"));
    assert!(found.iter().any(|fault| fault.what.contains("an app sets")), "{found:?}");
    let found = faults(&format!("{file}{shape}"));
    let keys: Vec<&str> = found.iter().map(|fault| &*fault.key).collect();
    assert_eq!(keys, ["shapes.user"], "a shape of what no signature reads");
}

/// A condition that is signed needs no word; one of two that is not, does.
#[test]
fn what_is_signed_need_not_be_declared() {
    let file = file();
    let kind = "\n[[kind]]\nname = \"reversal\"\nwhen = \"{amount} is 0\"\n";
    assert_eq!(faults(&format!("{file}{kind}")), []);
    let both = "\n[[kind]]\nname = \"reversal\"\nwhen = [\"{amount} is 0\", \"{state} is 0\"]\n";
    assert_eq!(faults(&format!("{file}{both}"))[0].key, "kind[reversal].when");
}
