# shellcheck shell=bash
# Talking, long steps with a sign of life, settings. Sourced by ./nexus, which sets root, cache and logs.

say() { printf '%s\n' "$*"; }
warn() { printf 'nexus: warning: %s\n' "$*" >&2; }

# die MESSAGE [EXIT CODE]: 2 for usage and configuration, 1 (the default) for the rest.
die() {
    printf 'nexus: %s\n' "$1" >&2
    exit "${2:-1}"
}

# Under sudo the folders of whoever called it are used: another cache would have everything built anew. What root has left there is
# given back at the end.
as_owner=()
stay_the_owners() {
    [ "$(id -u)" = 0 ] && [ "${SUDO_UID:-0}" != 0 ] || return 0
    local home
    home=$(getent passwd "$SUDO_UID" | cut -d : -f 6)
    [ -d "$home" ] || return 0
    export HOME=$home
    unset XDG_CACHE_HOME
    # Where rustup puts cargo, which sudo's own path leaves out.
    PATH=$PATH:$home/.cargo/bin
    as_owner=(setpriv --reuid "$SUDO_UID" --regid "$SUDO_GID" --init-groups)
}

give_back() {
    [ ${#as_owner[@]} -eq 0 ] || find "$cache" "$root/bin" -xdev -user 0 -exec chown -h "$SUDO_UID:$SUDO_GID" {} + 2>/dev/null || true
}

# As root, whoever calls: become_root fills this with sudo where it is needed.
as_root=()

declare -A job_pid=() job_what=() job_log=() job_start=()

# begin NAME WHAT COMMAND...: runs it in the background with its output in a log, in a process group of its own.
begin() {
    local name=$1 what=$2 log=$logs/$1.log
    shift 2
    mkdir -p "$logs"
    job_what[$name]=$what
    job_log[$name]=$log
    job_start[$name]=$EPOCHSECONDS
    set -m
    # The log's time of change says when it ended.
    (
        # shellcheck disable=SC2064 # expanded now: at the end this function's variables are gone
        trap "touch '$log'" EXIT
        "$@"
    ) >"$log" 2>&1 </dev/null &
    job_pid[$name]=$!
    set +m
}

# The password is asked for here, once. What follows runs in the background, where a question would wait for ever: -n makes
# sudo fail instead.
become_root() {
    [ "$(id -u)" != 0 ] || return 0
    command -v sudo >/dev/null || die "this needs root: run it as root, or install sudo"
    sudo -n true 2>/dev/null || sudo -v || die "this needs root, and sudo said no"
    sudo -n true 2>/dev/null || die "sudo on this host asks for the password each time: run this with sudo"
    as_root=(sudo -n)
}

# sudo forgets the password after a while, which a build on a Pi outlasts.
stay_root() {
    [ ${#as_root[@]} -eq 0 ] || [ $((SECONDS - ${root_renewed:=0})) -lt 60 ] || {
        root_renewed=$SECONDS
        sudo -n -v 2>/dev/null || true
    }
}

# finish NAME: waits for what `begin` started and shows how it gets on; its failure is ours.
finish() {
    local name=$1 pid=${job_pid[$1]} what=${job_what[$1]} log=${job_log[$1]} said=$SECONDS spent
    while kill -0 "$pid" 2>/dev/null; do
        stay_root
        spent=$((EPOCHSECONDS - job_start[$name]))
        if [ -t 1 ]; then
            printf '\r\033[K  %s ... %d s  %s' "$what" "$spent" "$(last_line "$log" 60)"
        elif [ $((SECONDS - said)) -ge 30 ]; then
            said=$SECONDS
            printf '  %s ... %d s  %s\n' "$what" "$spent" "$(last_line "$log" 100)"
        fi
        sleep 0.2
    done
    [ ! -t 1 ] || printf '\r\033[K'
    spent=$(($(stat -c %Y "$log") - job_start[$name]))
    unset "job_pid[$name]"
    if wait "$pid"; then
        printf '  %s: done in %d s\n' "$what" "$spent"
    else
        tail -n 12 "$log" | without_codes | sed 's/^/    | /' >&2
        die "$what failed after $spent s: $(reason "$log") (all of it: $log)"
    fi
}

# step WHAT COMMAND...: begin and finish.
step() {
    local name=${1%% (*}
    name=${name// /-}
    begin "$name" "$@"
    finish "$name"
}

# Without the terminal's control sequences and characters.
without_codes() {
    tr '\r' '\n' | sed 's/\x1b\[[0-9;?]*[A-Za-z]//g' | tr -cd '[:print:]\n'
}

# What looks like a password, token or key is not shown. Generous, as the healer's own patterns are (healer/src/redact.rs).
without_secrets() {
    sed -E 's~://([^:/@[:space:]"'"'"']*:[^[:space:]"'"'"']*|[^:/?@[:space:]"'"'"']+)@~://***@~g
        s/((bearer|basic)[[:space:]]+)[A-Za-z0-9._~+\/=-]{6,}/\1***/Ig
        s/((pass(word|wd|phrase|code)?|pwd|secret|token|(api|access|private|encryption|signing)[_-]?key|credentials?|dsn)["'"'"']?[[:space:]]*[=:][[:space:]]*)("[^"]*"?|'"'"'[^'"'"']*'"'"'?|[^[:space:]"'"'"']+)/\1***/Ig
        s/[0-9a-fA-F]{32,}/***/g
        s/[0-9]{6,12}:[A-Za-z0-9_-]{30,}/***/g'
}

# The last line that says something.
last_line() {
    tail -n 5 "$1" 2>/dev/null | without_codes | sed '/^[[:space:]]*$/d' | tail -n 1 | cut -c "1-$2"
}

# The last line that calls itself an error, else the last line.
reason() {
    local line
    line=$(without_codes <"$1" | grep -E '^(error|fatal|E:|nexus:|Error)' | tail -n 1 | cut -c 1-300)
    line=${line:-$(last_line "$1" 300)}
    printf '%s' "${line#nexus: }"
}

stop_jobs() {
    local pid
    for pid in "${job_pid[@]}"; do
        kill -- "-$pid" 2>/dev/null || true
    done
}

# Files and folders that are gone at the end, however it comes; and what is told then if something was begun that must be ended.
leftovers=()
unfinished=
clear_away() {
    [ ${#leftovers[@]} -eq 0 ] || "${as_root[@]}" rm -rf -- "${leftovers[@]}" || true
    [ -z "$unfinished" ] || printf 'nexus: %s\n' "$unfinished" >&2
}
trap 'stop_jobs; clear_away; give_back' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Two at once would build the same images and fight over .env.
one_at_a_time() {
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock -n 9 || die "another ./nexus up or ./nexus test is running (lock: $cache/lock)"
}

# setting KEY [DEFAULT]: a value of .env, or of the file in env_file, read as Compose and bin/nexus read it.
env_file=
setting() {
    local line value='' file=${env_file:-$root/.env}
    if [ -e "$file" ]; then
        [ -r "$file" ] || die "cannot read $file: run as the user who owns it, or with sudo" 2
        while IFS= read -r line || [ -n "$line" ]; do
            if [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?"$1"[[:space:]]*=[[:space:]]*(.*)$ ]]; then
                value=$(without_quotes "${BASH_REMATCH[2]}")
            fi
        done <"$file"
    fi
    printf '%s' "${value:-${2:-}}"
}

# without_quotes TEXT: what stands behind KEY= in .env, without the comment behind it as well.
without_quotes() {
    local text=$1
    case $text in
    \'*)
        text=${text#\'}
        text=${text%%\'*}
        ;;
    \"*) text=$(printf '%s' "$text" | sed -E 's/^"(([^"\\]|\\.)*)".*/\1/; s/\\(.)/\1/g') ;;
    *)
        text=${text%%" #"*}
        text=${text%"${text##*[![:space:]]}"}
        ;;
    esac
    printf '%s' "$text"
}

# version_at_least HAVE WANT
version_at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# content_of PATH...: a short hash of names and contents, to see whether something changed.
content_of() {
    local path
    for path in "$@"; do
        if [ -e "$path" ]; then
            (cd "$(dirname "$path")" && find "$(basename "$path")" -type f -print0 | sort -z | xargs -0 -r sha256sum)
        fi
    done | sha256sum | cut -c 1-16
}

apt_updated=
apt_install() {
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq)
    if [ -z "$apt_updated" ]; then
        "${apt[@]}" update
        apt_updated=yes
    fi
    "${apt[@]}" install -y --no-install-recommends "$@"
}
