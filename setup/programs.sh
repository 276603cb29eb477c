# shellcheck shell=bash
# Our programs: built by this host's cargo if it is recent enough, otherwise in a container that has one.

programs=(nexus nexus-exporter nexus-healer nexus-reporter)

choose_toolchain() {
    local want have
    want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    # Asked in the checkout, where rustup obeys rust-toolchain.toml.
    have=$(cd "$root" && "${as_owner[@]}" cargo --version 2>/dev/null | cut -d ' ' -f 2) || have=
    cargo_in=host
    builder_image=
    if [ -n "$have" ] && version_at_least "$have" "$want" && command -v cc >/dev/null; then
        toolchain="cargo $have of this host"
    elif [ "$image_source" = registry ]; then
        cargo_in=container
        builder_image=nexus/builder:registry
        toolchain="cargo in a container, from ${registry[rust]}"
    else
        cargo_in=container
        builder_image=nexus/builder:debian
        toolchain="cargo in a container, from Debian testing"
    fi
}

prepare_builder() {
    case $builder_image in
    '') ;;
    *:registry)
        has_image "${registry[rust]}" || step "builder base image" pull "${registry[rust]}"
        step "builder image" build_image "$builder_image" "$root/images/builder" registry.Dockerfile "${registry[rust]}" "$root/images/builder"
        ;;
    *)
        step "builder image" build_image "$builder_image" "$root/images/builder" debian.Dockerfile "$base_image" "$root/images/builder"
        ;;
    esac
}

# Cargo goes by the age of sources. Those of a checkout that built here before may be older than what another one has built
# since, and would pass for built: they are made new.
take_target() {
    mkdir -p "$1"
    give_back
    [ "$(cat "$1/checkout" 2>/dev/null)" != "$root" ] || return 0
    find "$root" -name target -prune -o -name '*.rs' -exec touch {} +
    printf '%s\n' "$root" >"$1/checkout"
}

# cargo in the checkout, here or in the builder. Without what it keeps to compile a crate in part next time: that takes twice the room of
# everything else, and on a clean clone time.
run_cargo() {
    local target=$cache/target
    take_target "$target"
    if [ "$cargo_in" = host ]; then
        (cd "$root" && CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=$target "${as_owner[@]}" cargo "$@")
    else
        cargo_in_container "$builder_image" "$target" "$@"
    fi
}

# cargo_in_container IMAGE TARGET_FOLDER ARGUMENT...: checkout and caches have the same paths as outside.
cargo_in_container() {
    local image=$1 target=$2 name
    shift 2
    take_target "$target"
    mkdir -p "$cache/cargo"
    give_back
    local options=(--rm --init --user "$("${as_owner[@]}" id -u):$("${as_owner[@]}" id -g)" -v "$root:$root" -v "$cache:$cache" -w "$root" -e HOME=/tmp
        -e CARGO_INCREMENTAL=0 -e "CARGO_TARGET_DIR=$target" -e "CARGO_HOME=$cache/cargo" -e PROPTEST_CASES
        -e NEXUS_SIMULATION_RUNS -e NEXUS_SIMULATION_SEED)
    # A network that inspects TLS has its certificate in the host's bundle.
    if [ -s /etc/ssl/certs/ca-certificates.crt ]; then
        options+=(-v /etc/ssl/certs/ca-certificates.crt:/run/host-ca.crt:ro -e CARGO_HTTP_CAINFO=/run/host-ca.crt -e SSL_CERT_FILE=/run/host-ca.crt)
    fi
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        [ -z "${!name:-}" ] || options+=(-e "$name=${!name}")
    done
    "${as_docker[@]}" docker run "${options[@]}" "$image" cargo "$@"
}

build_programs() {
    run_cargo build --release --locked -p nexus-cli -p nexus-exporter -p nexus-healer -p nexus-reporter
    local name
    mkdir -p "$root/bin"
    for name in "${programs[@]}"; do
        cmp -s "$cache/target/release/$name" "$root/bin/$name" || install -m 0755 "$cache/target/release/$name" "$root/bin/$name"
    done
    "$root/bin/nexus" --version
}
