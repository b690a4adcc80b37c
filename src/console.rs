//! The console: web pages on the admin listener, for operators and support.
//!
//! ```text
//! request ─▶ app (host, site, language, session, right, CSRF) ─▶ pages/<one> ─▶ layout ─▶ response
//! ```
//!
//! Pages are rendered on the server and work without a script; `assets/console.js` only refreshes
//! the overview. The templates escape every value from outside. Each page is a file of `pages`, with
//! its texts in both languages. Pages are built from `components` and receive the request as a
//! `visit::Visit`. `app` checks access before it calls a page.

mod app;
mod area;
mod assets;
mod attempt_error;
mod components;
mod fields;
mod findings;
mod ignored;
mod lang;
mod layout;
mod messages;
mod oidc;
mod page_error;
mod pages;
mod pulse;
mod reply;
mod seen;
mod sender_texts;
mod session;
mod starting;
mod text;
mod visit;
mod words;

pub use app::{ConsoleHandler, Tools};
pub use starting::starting;
