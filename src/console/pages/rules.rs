//! Reward rules: shown and changed.

use crate::console::app::Console;
use crate::console::fields::Fields;
use crate::console::reply::Shown;
use crate::console::trouble::Trouble;
use crate::console::visit::Visit;

pub async fn get(_: &Console, _: &Visit) -> Shown {
    Err(Trouble::Absent)
}

pub async fn post(_: &Console, _: &Visit, _: &Fields) -> Shown {
    Err(Trouble::Method)
}
