//! openledger
fn main() {}
