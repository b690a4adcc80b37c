//! The console: web pages on the admin listener, for operators and support.
//!
//! ```text
//! request ─▶ app (host, site, language, session, right, CSRF) ─▶ pages/<one> ─▶ layout ─▶ answer
//! ```
//!
//! Pages are made here, whole, and work without a script; `assets/console.js` only keeps the
//! overview fresh. Everything that came from elsewhere is escaped by the templates. A page is a file
//! of `pages`, with its own texts in both languages; it is made of `components`, and sees what was
//! asked as a `visit::Visit`. Who may ask and who may change is decided in `app`, before a page
//! sees anything.

mod app;
mod area;
mod assets;
mod components;
mod fields;
mod lang;
mod layout;
mod page_error;
mod pages;
mod reply;
mod session;
mod starting;
mod text;
mod visit;
mod words;

pub use app::{Console, Tools};
pub use starting::starting;
