# shellcheck shell=bash
# Programs of others that ours are tested with or measured against. They run on the host and are no part of the stack.

# bring_program IMAGE PATH NAME: copies a program out of an image to $cache/NAME.
bring_program() {
    local container
    container=$("${as_docker[@]}" docker create "$1")
    "${as_docker[@]}" docker cp -L "$container:$2" "$cache/$3"
    "${as_docker[@]}" docker rm "$container" >/dev/null
}

bring_promtool() {
    bring_program "$(image_of prometheus)" /bin/promtool promtool
}

bring_node_exporter() {
    local image=nexus/node-exporter:1.9-debian
    step "node_exporter, to compare with" build_image "$image" "$root/images/node-exporter" Dockerfile "$base_image" "$root/images/node-exporter"
    bring_program "$image" /usr/bin/prometheus-node-exporter node_exporter
}

# bench WHAT [OPTION...]: the measuring is done by bin/nexus; here is only brought what it compares with.
bench() {
    local more=()
    [ -x "$root/bin/nexus" ] || die "\"bench\" needs bin/nexus: run ./nexus up first"
    case "${1:-} $*" in
    *--help* | *" -h"*) ;;
    exporter*)
        become_root
        need_docker
        choose_image_source
        bring_node_exporter
        more=(--node-exporter "$cache/node_exporter")
        ;;
    ingest*)
        become_root
        need_docker
        command -v strace >/dev/null || apt_install strace
        more=(--strace "$(command -v strace)")
        ;;
    heal*)
        become_root
        need_docker
        ;;
    esac
    nexus_as_root bench "$@" "${more[@]}"
}
