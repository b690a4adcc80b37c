//! What a signature proves, tested on the definition and not on vectors: for every file of the
//! catalog values are drawn, signed, and moved about by brute force under the same signature.
//!
//! [`world`] has what the tests share. Nothing here uses `recut` or `coverage`: shapes, separators
//! and callbacks are read in ways of their own.

mod bytes;
mod call;
mod facts;
mod faults;
mod found;
mod keys;
mod model;
mod moves;
mod recut;
mod removal;
mod repetition;
mod sets;
mod shapes;
mod tokenizer;
mod unsigned;
mod verdict;
mod world;
