# The workspace's Rust toolchain from the official image; its Debian 12 makes binaries that run on Debian 12 and newer.
ARG BASE
FROM ${BASE}
RUN rustup component add clippy rustfmt
