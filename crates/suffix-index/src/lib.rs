//! suffix-index
