# Builds for arm64 and runs what it has built, on another architecture: the official Rust image, Debian's cross compiler,
# qemu. For the test that the exporter works on a Pi's processor.
ARG BASE
FROM ${BASE}
RUN rustup target add aarch64-unknown-linux-gnu \
 && apt-get update \
 && apt-get install -y --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user \
 && rm -rf /var/lib/apt/lists/*
ENV CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu" \
    NEXUS_EMULATED=1
