# A Rust toolchain recent enough for this workspace from Debian testing, on Debian 13. It compiles and links against the C
# library of Debian 12, so that what comes out runs on this host if it is a Debian 12: with a newer one, Rust's standard
# library binds symbols (pidfd_spawnp, glibc 2.39) that the loader of an older one refuses.
ARG BASE
FROM ${BASE}
RUN for suite in testing bookworm; do awk -v suite=$suite 'NR == 1 { $3 = suite; print }' /etc/apt/sources.list; done \
        > /etc/apt/sources.list.d/other.list \
 && printf 'Package: *\nPin: release a=testing\nPin-Priority: 100\n\n' > /etc/apt/preferences.d/other \
 && printf 'Package: cargo rustc rust-clippy rustfmt libstd-rust-* libllvm*\nPin: release a=testing\nPin-Priority: 990\n' >> /etc/apt/preferences.d/other \
 && apt-get update \
 && apt-get install -y --no-install-recommends cargo rustc rust-clippy rustfmt gcc libc6-dev \
 && mkdir /opt/debian12 /tmp/debian12 \
 && cd /tmp/debian12 \
 && apt-get download libc6/bookworm libc6-dev/bookworm linux-libc-dev/bookworm libgcc-s1/bookworm \
 && for package in *.deb; do dpkg-deb -x "$package" /opt/debian12; done \
 && find /opt/debian12 -type l -lname '/*' | while read -r link; do ln -sf "/opt/debian12$(readlink "$link")" "$link"; done \
 && rm -rf /tmp/debian12 /var/lib/apt/lists/*
COPY debian12-cc /usr/local/bin/
ENV CC=debian12-cc RUSTFLAGS=-Clinker=debian12-cc
