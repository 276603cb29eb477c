# shellcheck shell=bash
# A Docker engine that answers and a Compose v2 that it knows, installed from Debian packages where they are missing.

# What goes before docker: nothing for root and the members of the docker group, else sudo. Set by ensure_docker.
as_docker=()

ensure_docker() {
    if ! command -v docker >/dev/null || { ! docker_answers && ! command -v dockerd >/dev/null; }; then
        step "Docker engine" install_docker
    fi
    docker_answers || start_docker
    docker info >/dev/null 2>&1 || as_docker=("${as_root[@]}")
}

docker_answers() {
    timeout 10 "${as_root[@]}" docker info >/dev/null 2>&1
}

install_docker() {
    local packages=(docker.io)
    # Debian 13 has the client in a package of its own.
    apt_install ca-certificates
    if [ -n "$(apt-cache madison docker-cli)" ]; then
        packages+=(docker-cli)
    fi
    apt_install "${packages[@]}"
}

start_docker() {
    if [ -d /run/systemd/system ]; then
        "${as_root[@]}" systemctl enable --now docker || die "systemd cannot start docker: journalctl -u docker says why"
    else
        # Nothing else here would keep it: it must outlive this script and its terminal. 9 is our lock.
        # shellcheck disable=SC2016 # expanded by that shell
        "${as_root[@]}" bash -c 'setsid nohup dockerd >>/var/log/dockerd.log 2>&1 </dev/null 9>&- &'
    fi
    local deadline=$((SECONDS + 90))
    until docker_answers; do
        [ "$SECONDS" -lt "$deadline" ] ||
            die "dockerd does not answer within 90 s: $(last_line /var/log/dockerd.log 200) (see /var/log/dockerd.log or journalctl -u docker)"
        sleep 0.5
    done
}

ensure_compose() {
    ! compose_works || return 0
    step "Docker Compose v2" install_compose
    compose_works || die "docker compose does not work: \`docker compose version\` says why"
}

compose_works() {
    local version
    version=$("${as_docker[@]}" docker compose version --short 2>/dev/null) && version_at_least "${version#v}" 2.20
}

# Debian 13's docker-compose is v2. An older Debian gets that package's plugin alone, from the same mirror.
install_compose() {
    local candidate work plugin
    apt_install ca-certificates
    for plugin in docker-compose-plugin docker-compose; do
        candidate=$(apt-cache policy "$plugin" | sed -n 's/^ *Candidate: //p')
        case $candidate in
        '' | '(none)' | 0.* | 1.*) ;;
        *)
            apt_install "$plugin"
            return
            ;;
        esac
    done
    work=$(mktemp -d)
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    echo "deb [signed-by=$debian_keyring] $(debian_mirror Debian) trixie main" >"$work/sources.list"
    local apt=(apt-get -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
        -o "Dir::Cache=$work/cache" -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none)
    "${apt[@]}" update
    (cd "$work" && "${apt[@]}" download docker-compose)
    dpkg-deb -x "$work"/docker-compose_*.deb "$work/unpacked"
    "${as_root[@]}" install -D -m 0755 "$work/unpacked/usr/libexec/docker/cli-plugins/docker-compose" \
        /usr/local/lib/docker/cli-plugins/docker-compose
    rm -rf "$work"
}

debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# debian_mirror LABEL: the mirror that this host's apt uses for that label of Debian's (Debian or Debian-Security). Fails if it has none.
debian_mirror() {
    local uri
    # shellcheck disable=SC2016 # apt-get expands these
    uri=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' |
        sed -n "s/^Debian|$1|main|//p" | head -n 1)
    case $uri in
    mirror+file:*) uri=$(sed -n '/^[^#]/{s/[[:space:]].*//p;q}' "${uri#mirror+file:}") ;;
    esac
    [ -n "$uri" ] || return 1
    printf '%s' "${uri%/}/"
}
