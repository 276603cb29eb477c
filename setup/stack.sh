# shellcheck shell=bash
# Configuration, and the stack itself: start, prove, describe, stop.

# As root: secrets belong to the users of the containers. sudo tells it who calls, and that user owns the rest.
nexus_as_root() {
    "${as_root[@]}" env "NEXUS_DIRECTORY=$root" "$root/bin/nexus" "$@"
}

# configure LAN_ADDRESS: "" leaves the setting alone, "none" clears it. What the owner has set in .env stays.
configure() {
    local name profiles=grafana change
    "${as_root[@]}" test -S "$docker_socket" ||
        die "there is no socket of Docker at $docker_socket: put NEXUS_DOCKER_SOCKET in $root/.env right" 2
    with_grafana || profiles=
    change=(
        "NEXUS_IMAGE_SOURCE=$image_source"
        "COMPOSE_PROFILES=$profiles"
        "NEXUS_IMAGE_NEXUS=$nexus_image"
        "NEXUS_IMAGE_GRAFANA=${registry[grafana]}"
        "NEXUS_DOCKER_GID=$("${as_root[@]}" stat -L -c %g "$docker_socket")"
        "NEXUS_FIRMWARE_DEVICE=$(firmware_device)"
    )
    for name in prometheus alertmanager postgres haproxy; do
        change+=("NEXUS_IMAGE_${name^^}=$(image_of $name)")
    done
    case $1 in
    '') ;;
    none)
        change+=(NEXUS_LAN=)
        links_to_lan none
        ;;
    *)
        change+=("NEXUS_LAN=$1")
        links_to_lan
        ;;
    esac
    [ "$docker_socket" = /var/run/docker.sock ] || change+=("NEXUS_DOCKER_SOCKET=$docker_socket")
    nexus_as_root init "${change[@]/#/--replace=}" >"$logs/init.log"
    nexus_as_root config check >"$logs/check.log"
    check_policy
    nexus_as_root config render >"$logs/render.log"
}

# links_to_lan [none]: adds to `change` where links in messages lead to, now that phones reach the pages there; with none takes that
# away again, since a link that leads nowhere is worse than none. What the owner has said stays.
links_to_lan() {
    local scheme=http web name there is
    web=$(setting NEXUS_SECRETS_DIR ./secrets)/reporter/web.yml
    ! (cd "$root" && "${as_root[@]}" grep -qs '^tls_server_config:' "$web") || scheme=https
    for name in PAGE BASE; do
        case $name in
        PAGE) there=$scheme://$(reachable 0.0.0.0):$(setting NEXUS_REPORTER_PORT 10192) ;;
        BASE) there=http://$(reachable 0.0.0.0):$(setting NEXUS_GRAFANA_PORT 3000) ;;
        esac
        is=$(setting "NEXUS_${name}_URL")
        if [ "${1:-}" = none ]; then
            [ "$is" != "$there" ] || change+=("NEXUS_${name}_URL=")
        elif [ -z "$is" ] && { [ "$name" = PAGE ] || with_grafana; }; then
            change+=("NEXUS_${name}_URL=$there")
        fi
    done
}

# The healer knows its own policy best. A new one would not start with a wrong one, so the one that runs is left as it is.
check_policy() {
    (cd "$root" && "${as_root[@]}" bin/nexus-healer check --policy.file "$(setting NEXUS_POLICY_DIR ./policy)/healer.yml")
}

# The number of the device that lets the exporter ask a Raspberry Pi's firmware with the least power over the board; where
# there is none that of /dev/null, which every container has anyway. The kernel gives out these numbers as it starts, so
# another kernel may have others: each `up` looks again.
firmware_device() {
    local device major minor
    for device in /dev/vcio_gencmd /dev/vcio; do
        [ -c "$device" ] || continue
        # In hexadecimal.
        read -r major minor < <(stat -c '%t %T' "$device")
        printf '%d:%d' "0x$major" "0x$minor"
        return
    done
    printf '1:3'
}

# Compose does not look into what it mounts. Hashes of it, as labels, make it recreate just the services whose files have
# changed or were replaced by others (a mount follows the old file or folder).
compose() {
    local plain=() name without=()
    [ -t 1 ] || plain=(--ansi never)
    # An owner may have exported these for a project of their own, which would be taken for the stack: --remove-orphans would take its
    # containers away.
    for name in FILE PATH_SEPARATOR PROJECT_NAME PROFILES ENV_FILES DISABLE_ENV_FILE; do
        without+=(-u "COMPOSE_$name")
    done
    (
        cd "$root" || exit
        rendered=$(setting NEXUS_RENDERED_DIR ./rendered)
        secrets=$(setting NEXUS_SECRETS_DIR ./secrets)
        "${as_docker[@]}" env "${without[@]}" \
            "NEXUS_HASH_HAPROXY=$(content_of images/haproxy/haproxy.cfg)" \
            "NEXUS_HASH_HEALER=$("${as_root[@]}" stat -c %i "$(setting NEXUS_POLICY_DIR ./policy)")$(identity_of "$secrets/healer")" \
            "NEXUS_HASH_REPORTER=$(identity_of "$secrets/reporter")" \
            "NEXUS_HASH_PROMETHEUS=$(content_of prometheus/prometheus.yml prometheus/rules)$(identity_of "$rendered/prometheus/targets")" \
            "NEXUS_HASH_ALERTMANAGER=$(content_of "$rendered/alertmanager/alertmanager.yml" alertmanager/templates)$(identity_of "$secrets/alertmanager")" \
            "NEXUS_HASH_POSTGRES=$(identity_of "$secrets/postgres")" \
            "NEXUS_HASH_GRAFANA=$(content_of grafana/provisioning)$(identity_of "$secrets/grafana")" \
            docker compose "${plain[@]}" "$@"
    )
}

# For secrets, whose contents are not for us, and folders whose files may change but not the folder itself.
identity_of() {
    "${as_root[@]}" find "$1" -printf '%i %T@ %p\n' 2>/dev/null | sort | sha256sum | cut -c 1-8
}

start_stack() {
    step "containers" start_containers
    step "self-test" nexus_as_root selftest --timeout 60s
}

start_containers() {
    local lasting=(docker-proxy exporter healer reporter prometheus alertmanager postgres)
    if with_grafana; then
        lasting+=(grafana)
    else
        # Compose leaves alone what a profile no longer asks for.
        compose --profile grafana rm --stop --force grafana || return 1
    fi
    # Named in the second, since compose takes a one-shot that has ended for a failure to wait for.
    if ! compose up -d --remove-orphans || ! compose up -d --no-recreate --wait --wait-timeout 180 "${lasting[@]}"; then
        why_not_healthy
        return 1
    fi
    wait_for_migrate
}

# Ends with one line on the service that is not as it should be, after what it and its health check said last. Of several the one
# that is worst: others only wait for it.
why_not_healthy() {
    local all service status container probe error worst
    # Of Docker, since Compose before 2.21 takes no template.
    all=$("${as_docker[@]}" docker ps --all --filter "label=com.docker.compose.project=$(setting NEXUS_STACK nexus)" \
        --format '{{.Label "com.docker.compose.service"}} {{.Status}}' | grep -v -e '^migrate ' -e '(healthy)') || return 0
    for worst in '\(unhealthy\)' ' (Exited|Restarting|Dead)' 'health: starting' .; do
        ! read -r service status < <(grep -E -m 1 -e "$worst" <<<"$all") || break
    done
    # What can't be asked is left out.
    container=$(compose ps --all --quiet "$service" | head -n 1) || container=
    compose logs --no-color --no-log-prefix --tail 8 "$service" 2>&1 | without_secrets || true
    probe=$(of_container '{{with .State.Health}}{{range .Log}}{{.ExitCode}} {{json .Output}}
{{end}}{{end}}' 400) || probe=
    [ -z "$probe" ] || echo "its health check ended with ${probe%% *} and said: ${probe#* }"
    # Why Docker could not start it, such as a port that is taken.
    error=$(of_container '{{.State.Error}}' 150) || error=
    echo "nexus: the service $service is not healthy ($status${error:+: $error}): ./nexus logs $service says more; then run ./nexus up again"
}

# of_container FORMAT LENGTH: the last line of what Docker tells of $container, in so many characters. Cut last: half a secret is not
# known for one.
of_container() {
    "${as_docker[@]}" docker inspect --format "$1" "$container" 2>/dev/null |
        sed -E '/^$/d; s/\\[nrt]/ /g; s/\\"/"/g; s/ +/ /g' | tail -n 1 | without_codes | without_secrets | cut -c "1-$2"
}

# Docker starts it again while it fails. Postgres is healthy by now, so a few failures are enough to know. It gives up by itself
# on a lock that somebody holds; the deadline is for what nobody has thought of.
wait_for_migrate() {
    local container state deadline=$((SECONDS + 180))
    container=$(compose ps --all --quiet migrate)
    while state=$("${as_docker[@]}" docker inspect --format '{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}' "$container"); do
        case $state in
        "exited 0 "*) return ;;
        *" "[4-9] | *" "[0-9][0-9]*)
            "${as_docker[@]}" docker logs --tail 1 "$container"
            return 1
            ;;
        esac
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "nexus: the database is not brought up to date within 180 s ($state); ./nexus logs migrate postgres says more"
            # Its own word is the better one, where it has said anything.
            "${as_docker[@]}" docker logs --tail 1 "$container"
            return 1
        fi
        sleep 0.5
    done
    return 1
}

say_what_is_there() {
    local address
    address=$(setting NEXUS_BIND 127.0.0.1)
    say ""
    say "Nexus is running, and an alert has made its way from Alertmanager to the healer."
    if with_grafana; then
        say "  Grafana       http://$(reachable "$(setting NEXUS_LAN "$address")"):$(setting NEXUS_GRAFANA_PORT 3000)  (user admin, password in $(setting NEXUS_SECRETS_DIR ./secrets)/grafana/admin_password, readable by root)"
    elif [ "$image_source" = registry ]; then
        say "  Grafana       left out: NEXUS_GRAFANA=off in .env"
    else
        say "  Grafana       left out: no container registry answers, and Debian has no package of it"
    fi
    say "  Page          http://$(reachable "$(setting NEXUS_LAN "$address")"):$(setting NEXUS_REPORTER_PORT 10192)  (user nexus, password in $(setting NEXUS_SECRETS_DIR ./secrets)/cli/page_password)"
    say "  Prometheus    http://$(reachable "$address"):$(setting NEXUS_PROMETHEUS_PORT 9090)"
    say "  Alertmanager  http://$(reachable "$address"):$(setting NEXUS_ALERTMANAGER_PORT 9093)"
    if [ -n "$(setting NEXUS_LAN)" ]; then
        local reached="the page"
        ! with_grafana || reached="the page and Grafana"
        say "  the network   reaches $reached, in plain text unless there is a certificate (secrets/reporter/web.yml says how); --no-lan ends it"
    fi
    say_where_links_lead
    say "  passwords     one file for each reader in $(setting NEXUS_SECRETS_DIR ./secrets); settings in .env"
    if [ -z "$(setting NEXUS_TELEGRAM_CHAT_ID)" ] || ! "${as_root[@]}" test -s "$(telegram_token_file)"; then
        say "  Telegram      off: ./nexus telegram setup switches it on"
    fi
    say ""
    "$root/bin/nexus" services
    say ""
    say "See it work: ./nexus demo. How it is: ./nexus status. What broke: ./nexus incidents."
}

telegram_token_file() {
    (cd "$root" && realpath -m "$(setting NEXUS_SECRETS_DIR ./secrets)/telegram_bot_token")
}

# A router gives out another address some day, and a link on a phone to the old one just hangs. The owner may mean one that this machine
# does not have, such as a router's own, so it is said and not changed.
say_where_links_lead() {
    local to address
    to=$(setting NEXUS_PAGE_URL)
    [ -n "$to" ] || return 0
    say "  messages      link to $to (NEXUS_PAGE_URL)"
    address=$(sed -nE 's#^https?://([0-9]+(\.[0-9]+){3})([:/].*)?$#\1#p' <<<"$to")
    if [ -n "$address" ] && [ "$address" != 127.0.0.1 ] && [[ " $(hostname -I) " != *" $address "* ]]; then
        say "                which is no address of this machine: empty NEXUS_PAGE_URL in .env, and ./nexus up --lan fills in the one it has now"
    fi
}

# Where a port published on the address is reached: from other machines if it is published for them. By the address that this one
# has in its network, since not every phone finds it by its name.
reachable() {
    local own
    case $1 in
    0.0.0.0 | ::)
        own=$(ip -4 route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p') || own=
        printf '%s' "${own:-$(hostname)}"
        ;;
    *) printf '%s' "$1" ;;
    esac
}

down() {
    local options=(--remove-orphans) forget= yes=
    while [ $# -gt 0 ]; do
        case $1 in
        --volumes) options+=(--volumes) forget=yes ;;
        --yes) yes=yes ;;
        *) usage "down does not know \"$1\"" ;;
        esac
        shift
    done
    [ -z "$yes" ] || [ -n "$forget" ] || usage "down asks nothing without --volumes, so there is nothing to say --yes to"
    need_docker
    if [ -n "$forget" ] && [ -z "$yes" ]; then
        [ -t 0 ] || die "nobody is here to ask: ./nexus down --volumes --yes forgets all incidents and the history" 2
        local answer=
        read -r -p "This forgets all incidents, a year of history, metrics, and what was switched on with ./nexus heal. Go on? [y/N] " answer || true
        case $answer in
        [yY] | [yY][eE][sS]) ;;
        *) die "nothing was changed" ;;
        esac
    fi
    begin down "taking the stack down" compose --profile grafana down "${options[@]}"
    finish down
    if [ -n "$forget" ]; then
        say "Incidents, history, metrics, silences and the switches of ./nexus heal are gone; .env, secrets/, policy/ and state/ are still here."
    else
        say "Nothing is forgotten: ./nexus up brings it back (./nexus down --volumes forgets)."
    fi
}

logs() {
    need_docker
    local asked=() services service
    while [ $# -gt 0 ]; do
        asked+=("$1")
        case $1 in
        # Their value is the next word.
        --tail | -n | -[a-z]*n | --since | --until | --index)
            if [ $# -gt 1 ]; then
                asked+=("$2")
                shift
            fi
            ;;
        -*) ;;
        *)
            # Asked once: Compose takes a while for it. Where it can't tell, it says why itself.
            services=${services:-$(compose --profile grafana config --services 2>/dev/null | sort)}
            service=$1
            [ -z "$services" ] || grep --quiet --line-regexp --fixed-strings -e "$service" <<<"$services" ||
                die "no service is called \"$service\"; there are $(paste -s -d , <<<"$services" | sed 's/,/, /g')" 2
            ;;
        esac
        shift
    done
    [ -n "$(compose --profile grafana ps --all --quiet)" ] || die "no container of the stack is there: ./nexus up starts it"
    if [ -t 1 ]; then
        compose --profile grafana logs --tail 100 "${asked[@]}"
    else
        # Compose clears the terminal's line before each of its own, also where there is no terminal.
        compose --profile grafana logs --tail 100 "${asked[@]}" | sed --unbuffered 's/^\x1b\[2K//'
    fi
}

asks_for_help() {
    case " $* " in
    *" --help "* | *" -h "*) ;;
    *) return 1 ;;
    esac
}

# For what needs a stack that `up` has made.
need_docker() {
    [ -e "$root/.env" ] || die "there is no stack here yet: run ./nexus up first"
    command -v docker >/dev/null || die "docker is not installed: run ./nexus up first"
    if ! docker info >/dev/null 2>&1; then
        become_root
        as_docker=("${as_root[@]}")
    fi
    "${as_docker[@]}" docker info >/dev/null 2>&1 || die "Docker does not answer: run ./nexus up, or see why with \`${as_docker[0]:+sudo }docker info\`"
}
