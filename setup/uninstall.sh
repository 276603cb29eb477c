# shellcheck shell=bash
# The end: what Nexus has made on this machine goes, and what is others' stays.

uninstall() {
    local yes= stack images=() image caches=() folder kept=
    while [ $# -gt 0 ]; do
        case $1 in
        --yes) yes=yes ;;
        *) usage "uninstall does not know \"$1\"" ;;
        esac
        shift
    done
    need_docker
    become_root
    stack=$(setting NEXUS_STACK nexus)
    local other
    other=$(of_stack "$stack" ps --all --format '{{.Label "com.docker.compose.project.working_dir"}}' | sort -u | grep -v --line-regexp --fixed-strings -e "$root" | head -n 1) || other=
    [ -z "$other" ] || die "the stack $stack runs from $other: uninstall it there"
    readarray -t images < <(own_images)
    for folder in "$cache" "${XDG_STATE_HOME:-$HOME/.local/state}/nexus"; do
        # A setting that went wrong must not mean anything else.
        case $folder in
        "$root" | "$root"/* | [!/]*) die "$folder does not look like a cache of Nexus" 2 ;;
        esac
        [ ! -d "$folder" ] || caches+=("$folder")
    done
    say "This removes:"
    say "  the stack $stack with its volumes: incidents, history, metrics, silences, switches, what was changed in Grafana"
    [ ${#images[@]} -eq 0 ] || say "  images that no other container uses: ${images[*]}"
    [ ${#caches[@]} -eq 0 ] || say "  folders: ${caches[*]}"
    say "It leaves the rest alone, your own containers, images and volumes above all."
    if "${as_root[@]}" grep -qs '"state": "\(applied\|applying\)"' "$(folder_of state)/tune.json"; then
        say "What ./nexus tune has applied to your services stays unless you take it back before: ./nexus tune undo all"
    fi
    say "A backup would keep the incidents and the secrets: ./nexus backup FILE"
    if [ -z "$yes" ]; then
        [ -t 0 ] || die "nobody is here to ask: ./nexus uninstall --yes does it" 2
        agree "Go on? [y/N]"
    fi
    one_at_a_time
    step "taking the stack down" compose --profile grafana down --volumes --remove-orphans
    for image in "${images[@]}"; do
        # Without force: one that a container uses stays.
        "${as_docker[@]}" docker image rm "$image" >/dev/null 2>&1 || kept+=" $image"
    done
    [ -z "$kept" ] || say "  kept, since containers use them:$kept"
    for folder in "${caches[@]}"; do
        "${as_root[@]}" rm -rf -- "$folder"
    done
    say ""
    say "Gone. What is left, since it may be used by others or is yours:"
    say "  Docker, Compose and other packages that ./nexus up has installed, and base images that it has pulled from a registry"
    say "  labels nexus.* in your own compose files, which do nothing now, and what was set on the kernel's command line"
    say "  this folder, with .env, secrets/, policy/, state/, backups/: sudo rm -rf $root"
}

# Leaves out of a list of images those that a container of somebody else's uses.
unused() {
    local used image
    used=$("${as_docker[@]}" docker ps --all --format '{{.Image}} {{.Label "com.docker.compose.project"}}' |
        awk -v own="$stack" '$2 != own { print $1 }')
    while read -r image; do
        grep -qxF -e "$image" <<<"$used" || printf '%s\n' "$image"
    done
}

# Those that .env names, and those with the label of what ./nexus builds.
own_images() {
    local name
    {
        for name in NEXUS PROMETHEUS ALERTMANAGER POSTGRES HAPROXY GRAFANA; do
            name=$(setting "NEXUS_IMAGE_$name")
            [ -z "$name" ] || "${as_docker[@]}" docker image ls --format '{{.Repository}}:{{.Tag}}' --filter "reference=$name"
        done
        # What an owner has built on top of one has its label too, but a name of its own.
        "${as_docker[@]}" docker image ls --filter label=nexus.content --filter 'reference=nexus/*' --format '{{.Repository}}:{{.Tag}}'
    } | sort -u | unused
}
