//! Data availability.
