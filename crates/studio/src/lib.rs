//! The web pages of OpenLedger: from a contribution to a paid wallet without a terminal.
//!
//! Pages are pure functions from the read models of `openledger_node::view` to HTML, so they can
//! be rendered from sample values and tested as text; `router` is the only place that talks to
//! the node. Everything is rendered on the server (maud escapes by default), works without
//! scripts for reading, and is updated live by htmx over one event stream a page. Style sheet,
//! scripts and icons are embedded in the binary; nothing is fetched from elsewhere, and the
//! content security policy allows no inline script or style.
//!
//! The cost of rendering on the server is a round trip for each live update; pages are small
//! (tens of kilobytes) and the server is usually the same machine.

mod assets;
mod chart;
mod format;
mod guard;
mod intake;
mod layout;
mod parts;
mod router;
mod sources;

pub mod pages;

pub use assets::assets;
pub use guard::{Host, guard};
pub use layout::Frame;
pub use router::router;
