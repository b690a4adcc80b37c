//! Coverage, tested on the definition and not on vectors: for every file of the catalog, values are
//! drawn, signed, and moved by brute force under the same signature.
//!
//! [`world`] is shared by the tests. Nothing here uses `recut` or `coverage`: shapes, separators
//! and callbacks are parsed independently.

mod beside;
mod bytes;
mod call;
mod dice;
mod facts;
mod faults;
mod found;
mod keys;
mod lists;
mod model;
mod moves;
mod recut;
mod removal;
mod repetition;
mod retention;
mod separation;
mod sets;
mod shapes;
mod tokenizer;
mod twin;
mod unsigned;
mod verdict;
mod world;
