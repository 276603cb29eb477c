# A Rust toolchain recent enough for this workspace, from Debian testing. The C compiler and the C library stay Debian 13's:
# what is built here runs on Debian 12 as well (glibc 2.34 is enough).
ARG BASE
FROM ${BASE}
RUN awk 'NR == 1 { $3 = "testing"; print }' /etc/apt/sources.list > /etc/apt/sources.list.d/testing.list \
 && printf 'Package: *\nPin: release a=testing\nPin-Priority: 100\n\n' > /etc/apt/preferences.d/testing \
 && printf 'Package: cargo rustc rust-clippy rustfmt libstd-rust-* libllvm*\nPin: release a=testing\nPin-Priority: 990\n' >> /etc/apt/preferences.d/testing \
 && apt-get update \
 && apt-get install -y --no-install-recommends cargo rustc rust-clippy rustfmt gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
