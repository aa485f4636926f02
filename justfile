# Short names for what people type often; `just ci` is exactly what the CI runs.

default:
    @just --list

# The loop on the bundled sample, then a network that stays up.
dev *ARGS:
    cargo run --release -- dev {{ARGS}}

fmt:
    cargo fmt --all

lint:
    cargo lint

tidy:
    cargo xtask tidy

# Every test; `just test --only rust` for one step.
test *ARGS:
    cargo xtask test {{ARGS}}

test-slow:
    cargo xtask test --slow

# Against torch, transformers and peft (downloads gigabytes the first time).
peers:
    cargo xtask test --peers

contracts:
    cargo xtask test --only contracts

doc:
    cargo doc --workspace --no-deps --open

bench +AREA:
    cargo xtask bench {{AREA}}

# Needs cargo-deny and typos: cargo install cargo-deny typos-cli
audit:
    cargo deny check
    typos

ci:
    .ci/run
