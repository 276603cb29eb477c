# Builds for arm64 and runs what it has built, on another architecture: Rust from Debian testing, Debian's cross compiler,
# qemu. Of Rust's library for arm64 only the files are wanted: its package depends on all of LLVM. For the test that the exporter works on a Pi's processor.
ARG BASE
FROM ${BASE}
RUN awk 'NR == 1 { $3 = "testing"; print }' /etc/apt/sources.list > /etc/apt/sources.list.d/testing.list \
 && printf 'Package: *\nPin: release a=testing\nPin-Priority: 100\n\n' > /etc/apt/preferences.d/testing \
 && printf 'Package: cargo rustc libstd-rust-* libllvm*\nPin: release a=testing\nPin-Priority: 990\n' >> /etc/apt/preferences.d/testing \
 && dpkg --add-architecture arm64 \
 && apt-get update \
 && apt-get install -y --no-install-recommends cargo rustc gcc libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user \
 && cd /tmp \
 && apt-get download "libstd-rust-dev:arm64=$(dpkg-query -W -f '${Version}' libstd-rust-dev)" \
 && dpkg-deb -x libstd-rust-dev_*_arm64.deb / \
 && rm -rf /var/lib/apt/lists/* /tmp/*.deb
ENV CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu" \
    NEXUS_EMULATED=1
