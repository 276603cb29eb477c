# shellcheck shell=bash
# ./nexus test: all tests from nothing. Each part says how long it took; the first that fails ends it.

# What takes longer than a test before each landing may: `./nexus test soak` is all of these.
soak_parts=(arm64 fuzz faults engine rounds)

run_tests() {
    local part parts=()
    [ $# -gt 0 ] || set -- unit rules e2e
    for part in "$@"; do
        case $part in
        unit | rules | e2e | arm64 | fuzz | faults | engine | rounds) parts+=("$part") ;;
        soak) parts+=("${soak_parts[@]}") ;;
        *) usage "test does not know the part \"$part\"; the parts are unit, rules, e2e and soak, which is ${soak_parts[*]}" ;;
        esac
    done
    check_host
    one_at_a_time
    ensure_docker
    ensure_compose
    choose_image_source
    choose_toolchain
    case " ${parts[*]} $cargo_in $image_source " in
    *" e2e "* | *" rules "* | *" arm64 "* | *" engine "* | *" rounds "* | *" container debian "*) prepare_base_image ;;
    esac
    case " ${parts[*]} " in
    *" e2e "* | *" rules "* | *" rounds "*) begin images "third-party images ($image_source)" prepare_images ;;
    esac
    prepare_builder
    say "toolchain: $toolchain"
    for part in "${parts[@]}"; do
        local started=$SECONDS
        say ""
        say "== $part"
        "test_$part"
        say "== $part: passed in $((SECONDS - started)) s"
    done
}

test_unit() {
    command -v shellcheck >/dev/null || step "shellcheck" apt_install shellcheck
    (
        cd "$root"
        # The parts of ./nexus are checked where it sources them.
        shellcheck --external-sources --check-sourced nexus
        find . -name '*.sh' ! -path './setup/*' ! -path './target/*' -print0 | xargs -0 shellcheck .ci/run images/base/make
    )
    run_cargo fmt --all --check
    run_cargo fmt --manifest-path fuzz/Cargo.toml --check
    lock_of_fuzz
    run_clippy
    no_foreign_tls
    run_deny
    run_cargo test --locked --workspace --no-run
    # The tests wait more than they compute: there are two for each processor, and what the next part needs is compiled meanwhile.
    case " ${parts[*]} " in
    *" rules "* | *" e2e "* | *" rounds "*) begin programs "programs" build_programs_beside ;;
    esac
    run_cargo test --locked --workspace --no-fail-fast -- --test-threads $((2 * $(nproc)))
}

# With what the tests leave over of the processors; a container's cargo shares them as it likes.
build_programs_beside() {
    renice -n 10 "$BASHPID" >/dev/null
    build_programs
}

# The fuzz targets are no members of the workspace, so their lock file falls behind unseen when a dependency of the exporter
# changes, and they no longer build. The network is left alone: what is missing here is no fault of the file.
lock_of_fuzz() {
    local log=$logs/fuzz-lock.log
    mkdir -p "$logs"
    run_cargo metadata --locked --offline --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null 2>"$log" ||
        ! grep -q -e --locked "$log" || die "fuzz/Cargo.lock is not up to date: run cargo metadata in fuzz, and commit what changes"
}

# A newer clippy than the pinned one has lints that this code has never met: they are shown, but only the pinned one denies.
run_clippy() {
    local pinned have deny=(-D warnings)
    pinned=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$root/rust-toolchain.toml")
    have=$(run_cargo --version | cut -d ' ' -f 2)
    if [ "$have" != "$pinned" ]; then
        say "cargo is $have, pinned is $pinned: clippy's warnings are shown, not denied"
        deny=()
    fi
    run_cargo clippy --locked --workspace --all-targets -- "${deny[@]}"
}

# One TLS, the one that builds on a Pi without cmake: rustls with ring.
no_foreign_tls() {
    local crate log=$logs/dependencies.log
    mkdir -p "$logs"
    run_cargo tree --locked --workspace --edges all --target all --prefix none >"$log" || die "cargo can't list the dependencies"
    for crate in aws-lc-sys openssl-sys; do
        if grep -q "^$crate " "$log"; then
            run_cargo tree --locked --workspace --edges all --target all --invert "$crate" || true
            die "$crate has got into the build: the dependency above brings it in"
        fi
    done
}

# Compiling it takes longer than all the rest, and its advisories need GitHub: it runs where someone has it.
run_deny() {
    if [ "$cargo_in" = host ] && command -v cargo-deny >/dev/null; then
        run_cargo deny --locked --offline check bans licenses sources
    else
        say "cargo-deny is not installed: licences and bans of deny.toml are not checked here"
    fi
}

test_rules() {
    finish_images
    in_image prometheus sh prometheus/tests/run.sh
    finish_programs
    render_for_tests
    in_image alertmanager amtool check-config /rendered/{plain,telegram}/rendered/alertmanager/alertmanager.yml
    in_image alertmanager sh alertmanager/tests/run.sh
}

# The configurations as the CLI renders them, with Telegram and without, below $cache/rendered.
render_for_tests() {
    local kind folder nexus=$root/bin/nexus
    rm -rf "$cache/rendered"
    for kind in plain telegram; do
        folder=$cache/rendered/$kind
        # A checkout in small: what the CLI reads.
        mkdir -p "$folder/healer"
        cp -r "$root"/{compose.yml,.env.example,alertmanager,prometheus} "$folder"
        cp "$root/healer/healer.example.yml" "$folder/healer"
        local as_nexus=("${as_root[@]}" "$nexus" --directory "$folder") chat=()
        "${as_nexus[@]}" init --set=NEXUS_HOST=pi >/dev/null
        if [ $kind = telegram ]; then
            chat=(--replace=NEXUS_TELEGRAM_CHAT_ID=-1001234567890)
            echo 123456:test-token | "${as_root[@]}" tee "$folder/secrets/telegram_bot_token" >/dev/null
        fi
        "${as_nexus[@]}" init "${chat[@]}" >/dev/null
        "${as_nexus[@]}" config check
        "${as_nexus[@]}" config render >/dev/null
        cp -r "$root/alertmanager/templates" "$folder/rendered/alertmanager/"
    done
}

# In an image of the stack, with the checkout and what render_for_tests has made, both read-only.
in_image() {
    local image
    image=$(image_of "$1")
    shift
    mkdir -p "$cache/rendered"
    "${as_docker[@]}" docker run --rm --user 65534:65534 --read-only --tmpfs /tmp --network none -v "$root:/work:ro" \
        -v "$cache/rendered:/rendered:ro" -w /work --entrypoint "$1" "$image" "${@:2}"
}

finish_images() {
    [ -z "${job_pid[images]:-}" ] || finish images
}

finish_programs() {
    if [ -n "${job_pid[programs]:-}" ]; then finish programs; else step "programs" build_programs; fi
}

# The end-to-end test starts a second stack beside the owner's, from the same images. The exporter's own look at a real
# kernel, Docker and promtool comes after it, since it breaks containers of the same image.
test_e2e() {
    e2e_settings NEXUS_E2E=1
    on_host stack
    on_host telling
    copy_to_postgres
    # Here as root, who may mount the disk that it cuts the power of.
    on_host power_cut
    "${as_docker[@]}" docker tag nexus-test/busybox:1 nexus-test/busybox
    bring_promtool
    settings+=("NEXUS_PROMTOOL=$cache/promtool")
    on_host live
    bring_node_exporter
    settings+=("NEXUS_NODE_EXPORTER=$cache/node_exporter")
    on_host side_by_side
    # Left out, and said so, where there is no Chromium. It is nothing that has to be installed for.
    settings=(NEXUS_BROWSER=1)
    as_the_owner browser
}

# The healer's copier and the history against the Postgres of the stack, with data of its own that are gone afterwards, and
# with as much memory a process as compose.yml gives.
copy_to_postgres() (
    # shellcheck disable=SC2016 # the shell in the container expands them
    bounded=$(sed -n "s/.*'\(ulimit -d [0-9]* \)&& exec.*/\1/p" "$root/compose.yml")'&& exec "$0" "$@"'
    case $bounded in "ulimit -d "*) ;; *) die "compose.yml does not bound the memory of a process of Postgres" ;; esac
    password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    container=$("${as_docker[@]}" docker run --detach --rm --publish 127.0.0.1::5432 --env "POSTGRES_PASSWORD=$password" \
        --entrypoint sh "$(image_of postgres)" -c "$bounded" docker-entrypoint.sh postgres)
    # shellcheck disable=SC2064 # expanded now: it ends this subshell alone
    trap "${as_docker[*]} docker rm --force --volumes $container >/dev/null" EXIT
    deadline=$((SECONDS + 90))
    until "${as_docker[@]}" docker exec "$container" pg_isready --quiet --host 127.0.0.1 --username postgres; do
        [ "$SECONDS" -lt "$deadline" ] || die "Postgres does not accept connections within 90 s: $("${as_docker[@]}" docker logs --tail 1 "$container" 2>&1)"
        sleep 0.5
    done
    address=$("${as_docker[@]}" docker port "$container" 5432/tcp | head -n 1)
    settings+=("NEXUS_TEST_DATABASE_URL=postgres://postgres:$password@$address/postgres")
    on_host postgres
    on_host history
    on_host capacity
    on_host answers
    on_host sql
    on_host budget
)

# All cases of the end-to-end test, again and again on one stack, NEXUS_E2E_ROUNDS times: what fails once in a while shows.
test_rounds() {
    e2e_settings NEXUS_E2E=1 "NEXUS_E2E_ROUNDS=${NEXUS_E2E_ROUNDS:=10}"
    say "$NEXUS_E2E_ROUNDS rounds (NEXUS_E2E_ROUNDS)"
    on_host stack
    on_host telling --ignored
}

# The healer killed at random moments, its disk cut off at others, and more runs of the simulation; each says its seed.
test_faults() {
    settings=("NEXUS_KILLS=${NEXUS_KILLS:=25}" ${NEXUS_KILLS_SEED:+"NEXUS_KILLS_SEED=$NEXUS_KILLS_SEED"})
    say "the healer is killed $NEXUS_KILLS times (NEXUS_KILLS)"
    on_host running faults::killed_at_random --nocapture
    settings=("NEXUS_POWER_CUTS=${NEXUS_POWER_CUTS:=100}")
    say "its power is cut $NEXUS_POWER_CUTS times (NEXUS_POWER_CUTS)"
    on_host power_cut
    NEXUS_SIMULATION_RUNS=${NEXUS_SIMULATION_RUNS:-20000} run_cargo test --locked -p nexus-healer --lib journal::simulation -- --nocapture
}

# Real containers that leak until the kernel kills one, daemons of the test's own that are killed while the healer restarts
# something, and one on a disk that is nearly full, which is pruned.
test_engine() {
    settings=(NEXUS_REAL_ENGINE=1 "NEXUS_E2E_BASE_IMAGE=$base_image" "NEXUS_IMAGE_HAPROXY=$(image_of haproxy)")
    on_host leak --nocapture
    on_host dockerd --nocapture
    on_host prune --nocapture
}

# The exporter's parsers and golden scrapes on a Pi's processor, which qemu plays: slower by far, so with fewer random cases.
test_arm64() {
    if [ "$architecture" = arm64 ]; then
        say "this host is arm64: the unit tests have run on it"
        return
    fi
    local image=nexus/arm64:$image_source base=$base_image
    if [ "$image_source" = registry ]; then
        base=${registry[rust]}
        has_image "$base" || step "builder base image" pull "$base"
    fi
    step "image that builds and runs arm64" build_image "$image" "$root/images/arm64" "$image_source.Dockerfile" "$base" "$root/images/arm64"
    PROPTEST_CASES=16 cargo_in_container "$image" "$cache/target-arm64" test --locked --target aarch64-unknown-linux-gnu -p nexus-exporter --lib --test golden
}

# Random input for what parses, NEXUS_FUZZ_SECONDS a target. The inputs that were worth keeping are those that the
# next run begins with; one that breaks something is below fuzz/artifacts.
test_fuzz() {
    if [ "$cargo_in" != host ]; then
        say "no fuzzing: that needs a cargo of this host"
        return
    fi
    command -v g++ >/dev/null || step "g++, for libFuzzer" apt_install g++
    [ -x "$cache/cargo-fuzz/bin/cargo-fuzz" ] ||
        step "cargo-fuzz" run_cargo install --locked --root "$cache/cargo-fuzz" cargo-fuzz@0.13.2
    local target seed=${NEXUS_FUZZ_SEED:-$RANDOM} scratch
    scratch=$(mktemp -d -p "$([ -d /dev/shm ] && echo /dev/shm || echo /tmp)")
    step "what the targets share" fuzz_cargo "$scratch" test --locked --lib
    step "inputs to begin with" fuzz_cargo "$scratch" run --locked --example seeds -- "$cache/fuzz"
    say "seed $seed (NEXUS_FUZZ_SEED), ${NEXUS_FUZZ_SECONDS:=60} s each (NEXUS_FUZZ_SECONDS)"
    for target in collectors textfile accept dbus docker policy webhook web_config; do
        step "fuzzing $target" fuzz_cargo "$scratch" fuzz run --sanitizer none --target-dir "$cache/target-fuzz" "$target" "$cache/fuzz/$target" -- \
            -seed="$seed" -max_total_time="$NEXUS_FUZZ_SECONDS" -timeout=10 -rss_limit_mb=1024 -max_len=16384 -print_final_stats=1
    done
    rm -rf "$scratch"
}

# fuzz_cargo SCRATCH ARGUMENT...: cargo in the folder of the fuzz targets, which write their files to SCRATCH.
fuzz_cargo() {
    local scratch=$1
    shift
    take_target "$cache/target-fuzz"
    (cd "$root/fuzz" && TMPDIR=$scratch CARGO_TARGET_DIR=$cache/target-fuzz PATH=$cache/cargo-fuzz/bin:$PATH "${as_owner[@]}" cargo "$@")
}

settings=()
e2e_settings() {
    local name
    finish_images
    finish_programs
    step "image of the programs" prepare_nexus_image
    settings=("$@" "NEXUS_E2E_ROOT=$root" "NEXUS_E2E_BASE_IMAGE=$base_image" "NEXUS_IMAGE_SOURCE=$image_source" "NEXUS_IMAGE_NEXUS=$nexus_image")
    for name in prometheus alertmanager postgres haproxy; do
        settings+=("NEXUS_IMAGE_${name^^}=$(image_of $name)")
    done
}

# on_host TEST [ARGUMENT...]: built wherever cargo is, run here and as root: on the host are the stack's ports and Docker's
# socket, and the secrets are other users'.
on_host() {
    local program
    build_test "$1"
    (cd "$root" && "${as_root[@]}" env "${settings[@]}" "$program" "${@:2}")
}

# The same for what needs nothing of root's, such as a browser.
as_the_owner() {
    local program
    build_test "$1"
    (cd "$root" && "${as_owner[@]}" env "${settings[@]}" "$program" "${@:2}")
}

# build_test TEST: says in program where it is. Of the whole workspace, as the unit tests are: for one package alone what it uses has
# fewer features, and would be compiled once more.
build_test() {
    local log=$logs/build-of-$1.log
    run_cargo test --locked --workspace --test "$1" --no-run 2>"$log" || {
        tail -n 20 "$log" >&2
        die "the test $1 does not compile (all of it: $log)"
    }
    program=$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$log")
}
