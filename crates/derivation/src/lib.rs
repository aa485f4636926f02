//! Blocks to batches and back.
