//! datanet
