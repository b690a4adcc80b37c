//! Pages of the documentation that name every member of a closed set.

use std::collections::BTreeSet;
use std::path::Path;

use postern::sender::{Outcome, Reason};

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

#[test]
fn troubleshooting_has_a_section_for_each_reason_and_no_other() {
    let reasons: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    for name in ["troubleshooting.md", "zh/troubleshooting.md"] {
        let text = page(name);
        let sections =
            text.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
        assert_eq!(sections.collect::<BTreeSet<_>>(), reasons, "{name}");
    }
}

#[test]
fn troubleshooting_names_each_outcome() {
    // A reward that arrived needs no help, and rejections have their reasons.
    let others = Outcome::ALL.iter().filter(|outcome| {
        !matches!(outcome, Outcome::Accepted | Outcome::Rejected | Outcome::Disabled)
    });
    for outcome in others {
        for name in ["troubleshooting.md", "zh/troubleshooting.md"] {
            assert!(page(name).contains(&format!("`{outcome}`")), "{name}: {outcome}");
        }
    }
}
