# shellcheck shell=bash
# Images: pinned ones from the registry, or the same made from Debian packages where no registry answers.

declare -A registry=(
    [prometheus]=prom/prometheus:v2.53.5
    [alertmanager]=prom/alertmanager:v0.28.1
    [postgres]=postgres:17.6-trixie
    [haproxy]=haproxy:3.0.11
    [grafana]=grafana/grafana:12.0.2
    [base]=debian:trixie-slim
    [rust]=rust:1.95-slim-bookworm
)
# Debian has no package of Grafana.
declare -A debian=(
    [prometheus]=nexus/prometheus:2.53-debian
    [alertmanager]=nexus/alertmanager:0.28-debian
    [postgres]=nexus/postgres:17-debian
    [haproxy]=nexus/haproxy:3.0-debian
    [base]=nexus/debian:trixie
)

# .env remembers the answer; remove NEXUS_IMAGE_SOURCE there to ask again.
choose_image_source() {
    image_source=${NEXUS_IMAGE_SOURCE:-$(setting NEXUS_IMAGE_SOURCE)}
    case $image_source in
    registry | debian) ;;
    '')
        if timeout 10 "${as_docker[@]}" docker manifest inspect "${registry[alertmanager]}" >/dev/null 2>&1; then
            image_source=registry
        else
            say "  no container registry answers: images are made from Debian packages"
            image_source=debian
        fi
        ;;
    *) die "NEXUS_IMAGE_SOURCE=$image_source in $root/.env: it is registry or debian" 2 ;;
    esac
    base_image=$(image_of base)
    nexus_image=nexus/nexus:$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
}

# Whether Grafana is part of the stack.
with_grafana() {
    [ "$image_source" = registry ] && [ "$(setting NEXUS_GRAFANA on)" = on ]
}

# image_of NAME: its tag under the source in use.
image_of() {
    if [ "$image_source" = registry ]; then
        printf '%s' "${registry[$1]}"
    else
        printf '%s' "${debian[$1]}"
    fi
}

# Everything else that is built starts from it.
prepare_base_image() {
    if [ "$image_source" = registry ]; then
        has_image "$base_image" || step "base image" pull "$base_image"
        return
    fi
    local mirror security key
    mirror=$(debian_mirror Debian) ||
        die "no container registry answers, and apt on this host has no Debian mirror to make the images from"
    security=$(debian_mirror Debian-Security) || security=
    key=$(printf '%s %s %s' "$mirror" "$security" "$(content_of "$root/images/base")" | sha256sum | cut -c 1-16)
    has_image "$base_image" "$key" || step "base image (Debian 13)" make_base_image "$mirror" "$security" "$key"
}

make_base_image() {
    command -v debootstrap >/dev/null || apt_install debootstrap
    "${as_root[@]}" "$root/images/base/make" "$base_image" trixie "$1" "$2" "nexus.content=$3"
}

prepare_images() {
    local name
    for name in haproxy postgres prometheus alertmanager; do
        if [ "$image_source" = registry ]; then
            has_image "$(image_of $name)" || pull "$(image_of $name)"
        else
            build_image "$(image_of $name)" "$root/images/$name" Dockerfile "$base_image" "$root/images/$name"
        fi
    done
    if with_grafana; then
        has_image "${registry[grafana]}" || pull "${registry[grafana]}"
    fi
}

prepare_nexus_image() {
    build_image "$nexus_image" "$root/bin" "$root/images/nexus/Dockerfile" "$base_image" "$root/bin" "$root/images/nexus"
    # What the new ones replaced.
    "${as_docker[@]}" docker image prune -f --filter label=nexus.content
}

# has_image TAG [CONTENT]
has_image() {
    local label
    label=$("${as_docker[@]}" docker image inspect --format '{{index .Config.Labels "nexus.content"}}' "$1" 2>/dev/null) &&
        { [ $# -lt 2 ] || [ "$label" = "$2" ]; }
}

pull() {
    "${as_docker[@]}" docker pull "$1" ||
        { echo "nexus: the registry does not give $1: is it away? NEXUS_IMAGE_SOURCE=debian in .env makes the images from Debian packages" && false; }
}

# build_image TAG CONTEXT DOCKERFILE BASE PATH...: built anew only when a file under the paths or the base has changed.
build_image() {
    local tag=$1 context=$2 dockerfile=$3 base=$4 key name
    local proxy=()
    shift 4
    key=$(printf '%s %s' "$("${as_docker[@]}" docker image inspect --format '{{.Id}}' "$base")" "$(content_of "$@")" | sha256sum | cut -c 1-16)
    ! has_image "$tag" "$key" || return 0
    case $dockerfile in
    /*) ;;
    *) dockerfile=$context/$dockerfile ;;
    esac
    # Docker knows these build arguments by name and leaves them out of the image.
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        [ -z "${!name:-}" ] || proxy+=(--build-arg "$name=${!name}")
    done
    "${as_docker[@]}" docker build "${proxy[@]}" --build-arg "BASE=$base" --label "nexus.content=$key" -t "$tag" -f "$dockerfile" "$context"
}
