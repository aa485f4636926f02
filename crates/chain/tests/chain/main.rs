//! The whole client against the committed bytecode, executed by revm.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod challenges;
mod deploying;
mod http;
mod records;
mod replacing;
mod sending;
mod story;
mod support;
