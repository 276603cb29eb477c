# shellcheck shell=bash
# Is this a machine for us, and what does it lack? Nothing is changed here.

check_host() {
    if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
        die "this needs Debian, Raspberry Pi OS or a relative: there is no apt-get here"
    fi
    architecture=$(dpkg --print-architecture)
    case $architecture in
    amd64 | arm64) ;;
    armhf) die "this is a 32-bit system: Nexus needs 64 bits (install the 64-bit Raspberry Pi OS)" ;;
    *) die "the architecture is $architecture; Nexus runs on amd64 and arm64" ;;
    esac
    case ${DOCKER_HOST:-} in
    '') docker_socket=$(setting NEXUS_DOCKER_SOCKET /var/run/docker.sock) ;;
    unix://*) docker_socket=${DOCKER_HOST#unix://} ;;
    *) die "DOCKER_HOST is $DOCKER_HOST, but Nexus heals the host that it runs on: unset DOCKER_HOST" 2 ;;
    esac
    become_root
    check_kernel
}

# A stock Raspberry Pi OS lacks both. Neither stops us, but the owner should know today and not after an outage.
check_kernel() {
    local missing=() file
    memory_cgroup || missing+=(cgroup_enable=memory)
    [ -e /proc/pressure/memory ] || missing+=(psi=1)
    [ ${#missing[@]} -gt 0 ] || return 0
    case " ${missing[*]} " in
    *memory*) warn "the kernel's memory cgroup is off: memory limits have no effect and no container's memory is known" ;;
    esac
    case " ${missing[*]} " in
    *psi*) warn "the kernel gives no pressure figures (PSI): memory trouble is seen later" ;;
    esac
    for file in /boot/firmware/cmdline.txt /boot/cmdline.txt; do
        if [ -e "$file" ]; then
            warn "to mend it: sudo sed -i '1s/\$/ ${missing[*]}/' $file && sudo reboot"
            return
        fi
    done
    warn "to mend it: add \"${missing[*]}\" to the kernel's command line and reboot"
}

memory_cgroup() {
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        grep -qw memory /sys/fs/cgroup/cgroup.controllers
    else
        awk '$1 == "memory" && $4 == 1 { found = 1 } END { exit !found }' /proc/cgroups
    fi
}

# Images, build folders and a package cache take about 5 GB; a Pi whose root is full is worse off than one without Nexus.
check_disk() {
    local folder free need=6
    # Also when settings are brought back: what they were made for is not on this card.
    [ -z "$(env_file='' setting NEXUS_IMAGE_SOURCE)" ] || need=2
    for folder in "$cache" /var/lib/docker /var; do
        [ -d "$folder" ] || continue
        free=$(df -Pk "$folder" | awk 'NR == 2 { print int($4 / 1048576) }')
        [ "$free" -ge "$need" ] || die "$folder has $free GB free; this needs $need GB: make room there"
    done
}

# What can be seen of a mistake before anything is compiled, which takes minutes; `nexus config check` sees them all afterwards.
check_settings() {
    local key
    "${as_root[@]}" test -e "$root/.env" || return 0
    while read -r key; do
        grep -qE "^#? ?$key=" "$root/.env.example" || die "$root/.env has $key, which is no setting: .env.example has all that there are" 2
    done < <("${as_root[@]}" sed -nE 's/^[[:space:]]*(export[[:space:]]+)?(NEXUS_[A-Za-z0-9_]*)[[:space:]]*=.*/\2/p' "$root/.env")
    case $(setting NEXUS_GRAFANA on) in
    on | off) ;;
    *) die "NEXUS_GRAFANA in $root/.env is neither on nor off" 2 ;;
    esac
}

check_ports() {
    local stack pair key port default
    stack=$(setting NEXUS_STACK nexus)
    for pair in EXPORTER:10190 HEALER:10191 REPORTER:10192 PROMETHEUS:9090 ALERTMANAGER:9093 GRAFANA:3000; do
        key=NEXUS_${pair%:*}_PORT default=${pair#*:}
        port=$(setting "$key" "$default")
        case $port in
        '' | *[!0-9]*) die "$key=$port in $root/.env is not a port number" 2 ;;
        esac
        if listening "$port" && ! ours "$stack" "$port"; then
            [ -z "$env_file" ] || die "port $port, which the backup's settings name ($key), is taken by another program: end that first" 2
            die "port $port is taken by another program: set $key in $root/.env to a free port" 2
        fi
    done
}

# Whether anything on this host listens on the TCP port, on whatever address.
listening() {
    local hex
    hex=$(printf '%04X' "$1")
    awk -v port="$hex" '$4 == "0A" { n = split($2, a, ":"); if (a[n] == port) found = 1 } END { exit !found }' \
        /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

ours() {
    command -v docker >/dev/null &&
        [ -n "$("${as_root[@]}" docker ps -q --filter "label=com.docker.compose.project=$1" --filter "publish=$2" 2>/dev/null)" ]
}
