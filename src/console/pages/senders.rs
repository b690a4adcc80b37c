//! The catalog of senders.

use crate::console::app::Console;
use crate::console::reply::Shown;
use crate::console::trouble::Trouble;
use crate::console::visit::Visit;

pub async fn get(_: &Console, _: &Visit) -> Shown {
    Err(Trouble::Absent)
}
