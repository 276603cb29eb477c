# shellcheck shell=bash
# All that can't be made again, in one file: ./nexus backup writes it, ./nexus restore brings it back.

# What is in such a file, in this order, beside the manifest, which comes first. Nothing else is ever taken out of one.
backup_parts=(database.dump journal.db env secrets.tar policy.tar state.tar)
backup_format=1

backup() {
    local file= partial made=
    while [ $# -gt 0 ]; do
        case $1 in
        -) ;;
        -*) usage "backup does not know \"$1\"" ;;
        '') usage "backup was given an empty file name" ;;
        esac
        [ -z "$file" ] || usage "backup takes one file"
        file=$1
        shift
    done
    need_docker
    [ -x "$root/bin/nexus-healer" ] || die "\"backup\" needs bin/nexus-healer: run ./nexus up first"
    need_running postgres healer
    become_root
    # Nobody else reads what is made from here on.
    umask 077
    if [ "$file" = - ]; then
        [ ! -t 1 ] || die "a backup is not for the terminal: ./nexus backup - >FILE, or ./nexus backup FILE" 2
        # What is told goes the other way.
        exec 3>&1 1>&2
    else
        if [ -z "$file" ]; then
            made=$root/backups
            mkdir -p "$made"
            behind_the_gate "$made"
            file=$made/nexus-$(setting NEXUS_HOST "$(hostname)" | tr -cd 'A-Za-z0-9.-')-$(date +%Y-%m-%d-%H%M).tar
        fi
        [ ! -d "$file" ] || die "$file is a folder: name a file in it" 2
        [ -d "$(dirname -- "$file")" ] || die "there is no folder $(dirname -- "$file")" 2
        file=$(realpath -m -- "$file")
        partial=$file.partial
    fi
    mkdir -p "$cache"
    exec 8>"$cache/backup.lock"
    flock -n 8 || die "another ./nexus backup is running (lock: $cache/backup.lock)"
    make_staging backup
    # In this order: of what the journal takes for copied to the database, all must be in the dump.
    step "journal of the healer" copy_journal
    step "incidents and history" dump_database
    step "settings and secrets" pack_folders
    make_manifest >"$staging/manifest"
    if [ "$file" = - ]; then
        tar_parts - >&3 || die "the backup could not be written to stdout whole: what has come out is no backup"
        exec 3>&-
        say "This holds passwords and tokens: keep it where only you can read it. It is brought back by: ./nexus restore FILE"
        return
    fi
    leftovers+=("$partial")
    tar_parts "$partial" || die "cannot write $partial"
    [ ${#as_owner[@]} -eq 0 ] || chown "$SUDO_UID:$SUDO_GID" "$partial"
    # On the disk before it takes the name of what may be an older one.
    sync "$partial"
    mv -f -- "$partial" "$file"
    say ""
    say "$file ($(numfmt --to=iec --suffix=B "$(stat -c %s "$file")")) has the incidents ($(said_of incidents)) with their history, the healer's journal,"
    say "settings, secrets, policy and state. It holds passwords and tokens: keep it, and a copy on another machine, where only you can read it."
    say "To bring it back, here or on a new card: ./nexus restore $file"
}

# make_staging NAME: a folder for what is secret, which goes at the end.
make_staging() {
    mkdir -p "$cache"
    staging=$(mktemp -d "$cache/$1.XXXXXX")
    leftovers+=("$staging")
    behind_the_gate "$staging"
}

# The exporter sees all files as root does, without root's power over modes: what is root's own it could read. So such a folder
# belongs to the owner or, where that is root, to the healer, who can't come by (cli/src/secrets.rs).
behind_the_gate() {
    chmod 0700 "$1"
    [ "$(id -u)" != 0 ] || chown "$(gatekeeper)" "$1"
}

# Who owns such a folder: who has called this, but never root.
gatekeeper() {
    local uid gid
    uid=$("${as_owner[@]}" id -u) gid=$("${as_owner[@]}" id -g)
    [ "$uid" != 0 ] || uid=10191 gid=10191
    printf '%s:%s' "$uid" "$gid"
}

need_running() {
    local running service
    running=$(compose ps --status running --services) || die "Docker Compose can't tell what runs: ./nexus up says what is wrong"
    for service in "$@"; do
        grep --quiet --line-regexp --fixed-strings -e "$service" <<<"$running" ||
            die "$service does not run, and only what runs can be saved: ./nexus up starts it"
    done
}

copy_journal() {
    compose exec -T healer nexus-healer journal copy --api.token-file=/run/secrets/api_token >"$staging/journal.db"
    "$root/bin/nexus-healer" journal check "$staging/journal.db" >"$staging/journal.content"
}

dump_database() {
    compose exec -T postgres pg_dump --format=custom --username=postgres --dbname=nexus >"$staging/database.dump"
    # All of it is read once: one that was cut off looks whole at its beginning.
    compose exec -T postgres pg_restore --file=/dev/null <"$staging/database.dump"
    ask_database 'SELECT max(version) FROM refinery_schema_history' >"$staging/schema"
    ask_database 'SELECT count(*) FROM incidents' >"$staging/incidents"
}

# ask_database STATEMENT: a single value.
ask_database() {
    compose exec -T postgres psql --no-psqlrc --quiet --tuples-only --no-align --username=postgres --dbname=nexus --command="$1"
}

said_of() { cat "$staging/$1"; }

pack_folders() {
    local name folder
    "${as_root[@]}" cat "$root/.env" >"$staging/env"
    for name in secrets policy state; do
        folder=$(folder_of "$name")
        if "${as_root[@]}" test -d "$folder"; then
            # Links are replaced by what they lead to, which may not be there on another machine.
            "${as_root[@]}" tar --create --numeric-owner --dereference --hard-dereference --sort=name -C "$folder" . >"$staging/$name.tar"
        elif [ "$name" = state ]; then
            tar --create --files-from /dev/null >"$staging/$name.tar"
        else
            echo "nexus: there is no folder $folder: run ./nexus up, which makes it"
            return 1
        fi
    done
}

# folder_of secrets|policy|state: where the settings say that it is.
folder_of() {
    (cd "$root" && realpath -m -- "$(setting "NEXUS_${1^^}_DIR" "./$1")")
}

make_manifest() {
    local part
    say "nexus backup $backup_format"
    say "version $(own_version)"
    say "commit $("${as_owner[@]}" git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)"
    say "host $(setting NEXUS_HOST "$(hostname)")"
    say "made $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    say "schema $(said_of schema)"
    say "incidents $(said_of incidents)"
    say "journal $(said_of journal.content)"
    say "owner $(stat -c %u "$root/.env")"
    for part in "${backup_parts[@]}"; do
        say "sha256 $part $(sha256sum <"$staging/$part" | cut -d ' ' -f 1)"
    done
}

own_version() { sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1; }

tar_parts() {
    tar --create --file "$1" --owner=0 --group=0 --numeric-owner --mode=0600 -C "$staging" manifest "${backup_parts[@]}"
}

restore() {
    local file= replace= name containers volumes
    while [ $# -gt 0 ]; do
        case $1 in
        --replace) replace=yes ;;
        -* | '') usage "restore does not know \"$1\"" ;;
        *)
            [ -z "$file" ] || usage "restore takes one file"
            file=$1
            ;;
        esac
        shift
    done
    [ -n "$file" ] || usage "restore needs the file that ./nexus backup has made"
    umask 077
    open_backup "$file"
    umask 022
    # From here on the settings are those of the backup.
    env_file=$staging/env
    stack=$(setting NEXUS_STACK nexus)
    [[ $stack =~ ^[a-z0-9][a-z0-9_-]*$ ]] || die "the settings in $file have a stack with a name that can't be" 2
    prepare_machine
    find_socket
    look_for_stack
    if [ -n "$containers$volumes" ]; then
        [ -n "$replace" ] ||
            die "a stack $stack is here already: ./nexus restore --replace $file puts the backup in the place of what it has recorded"
        agree "This puts what was on $(manifest_value host) at $(manifest_value made) in the place of the incidents, history, switches, settings and secrets that are here. Go on? [y/N]"
    fi
    prepare_programs
    unpack_folders
    name=$("$root/bin/nexus-healer" journal check "$staging/journal.db" 2>&1) || die "$file: ${name#nexus-healer: }"
    check_dump >/dev/null || die "$file: Postgres can't read the dump in it; nothing was changed"
    "$root/bin/nexus-healer" check --policy.file "$staging/policy/healer.yml" ||
        die "the policy in $file can't be used by this version; nothing was changed" 2
    # Nothing was touched so far.
    unfinished="the backup is brought back only in part: when the above is mended, run ./nexus restore --replace $file"
    [ -z "$containers$volumes" ] || step "taking away what was here" take_away
    put_in_place
    env_file=
    configure ""
    step "database" start_database
    step "incidents and history" fill_database
    step "journal of the healer" fill_journal
    start_stack
    unfinished=
    say_what_is_there
    say ""
    say "Brought back from $(manifest_value made), as $(manifest_value host): the incidents ($(ask_database 'SELECT count(*) FROM incidents')) with their history, switches, pauses,"
    say "settings, secrets, policy.${aside:+ The settings and secrets that were here are in $aside.}"
}

# Where Docker's socket was on another machine says nothing of this one.
find_socket() {
    "${as_root[@]}" test ! -S "$docker_socket" || return 0
    docker_socket=/var/run/docker.sock
    sed -i -E '/^[[:space:]]*(export[[:space:]]+)?NEXUS_DOCKER_SOCKET[[:space:]]*=/d' "$staging/env"
}

# open_backup FILE: unpacks it to $staging when it is whole and is what it says. Anybody may have written it: nothing in it is
# trusted to be a name or a path.
open_backup() {
    local file=$1 listing part want content
    [ -e "$file" ] || die "there is no file $file" 2
    { [ -f "$file" ] && [ -r "$file" ]; } || die "$file is no file that can be read: with sudo, perhaps" 2
    listing=$(tar --list --file "$file" --quoting-style=escape 2>/dev/null) ||
        die "$file is no backup, or is damaged: tar can't read it"
    [ "$listing" = "$(printf '%s\n' manifest "${backup_parts[@]}")" ] ||
        die "$file is no backup of Nexus: one has manifest, ${backup_parts[*]}, and nothing else"
    listing=$(tar --list --verbose --file "$file" | cut -c 1 | tr -d '\n')
    [ "${listing//-/}" = "" ] || die "$file is no backup of Nexus: not all in it are plain files"
    make_staging restore
    tar --extract --file "$file" --no-same-owner --no-same-permissions -C "$staging" manifest "${backup_parts[@]}" ||
        die "cannot unpack $file to $staging"
    content=$(head -n 1 "$staging/manifest" | tr -cd '[:print:]')
    case $content in
    "nexus backup $backup_format") ;;
    "nexus backup "*) die "$file was written by a newer Nexus (${content:0:40}): git pull, then again" ;;
    *) die "$file is no backup of Nexus: its manifest does not begin as one" ;;
    esac
    for part in "${backup_parts[@]}"; do
        want=$(manifest_value "sha256 $part")
        [ "$want" = "$(sha256sum <"$staging/$part" | cut -d ' ' -f 1)" ] ||
            die "$file is damaged: $part is not what was written (its checksum is another); nothing was changed"
    done
    check_versions "$file"
    for part in secrets policy state; do
        check_names "$staging/$part.tar" "$file"
    done
}

# manifest_value KEY: the rest of its line, without what would steer a terminal.
manifest_value() {
    sed -n "s/^$1 //p" "$staging/manifest" | head -n 1 | tr -cd '[:print:]' | cut -c 1-100
}

check_versions() {
    local version schema known
    version=$(manifest_value version)
    schema=$(manifest_value schema)
    known=$(newest_migration)
    [[ $version =~ ^[0-9]+(\.[0-9]+)+$ && $schema =~ ^[0-9]{1,6}$ ]] || die "$1 is no backup of Nexus: it does not say of which version"
    { version_at_least "$(own_version)" "$version" && [ "$schema" -le "$known" ]; } ||
        die "$1 is of Nexus $version (schema $schema), and this is $(own_version) (schema $known): git pull, then again; nothing was changed"
}

newest_migration() {
    local name
    for name in "$root"/migrations/V*__*.sql; do
        name=${name##*/V}
        printf '%s\n' "${name%%__*}"
    done | sort -n | tail -n 1
}

# check_names TAR FILE: only files and folders, and none that leads out of the folder.
check_names() {
    local types names name
    names=$(tar --list --file "$1" --quoting-style=escape 2>/dev/null) || die "$2 is damaged: $(basename "$1") can't be read"
    types=$(tar --list --verbose --file "$1" | cut -c 1 | LC_ALL=C sort -u | tr -d '\n')
    case $types in
    '' | - | d | -d) ;;
    *) die "$2 has something else than files and folders in $(basename "$1"); nothing was changed" ;;
    esac
    while IFS= read -r name; do
        case /$name/ in
        // | /./*) ;;
        *) die "$2 has a name in $(basename "$1") that leads elsewhere (${name:0:60}); nothing was changed" ;;
        esac
        case /$name/ in
        */../*) die "$2 has a name in $(basename "$1") that leads elsewhere (${name:0:60}); nothing was changed" ;;
        esac
    done <<<"$names"
}

# Says in containers and volumes what the stack has here. One that belongs to another checkout is none of our business.
look_for_stack() {
    local other own
    own=$(env_file='' setting NEXUS_STACK nexus)
    if [ -e "$root/.env" ] && [ "$own" != "$stack" ] && [ -n "$(of_stack "$own" ps --all --quiet)" ]; then
        die "the stack of this checkout is called $own, and that of the backup $stack: take the first one down (./nexus down --volumes), and .env away"
    fi
    other=$(of_stack "$stack" ps --all --format '{{.Label "com.docker.compose.project.working_dir"}}' | sort -u | grep -v --line-regexp --fixed-strings -e "$root" | head -n 1) || other=
    [ -z "$other" ] || die "a stack $stack runs from $other: bring the backup back there, or take that one down"
    containers=$(of_stack "$stack" ps --all --quiet)
    volumes=$(of_stack "$stack" volume ls --quiet | grep --line-regexp -e "${stack}_postgres-data" -e "${stack}_healer-data") || volumes=
}

# of_stack NAME COMMAND...: what Docker lists of a Compose project.
of_stack() {
    "${as_docker[@]}" docker "${@:2}" --filter "label=com.docker.compose.project=$1"
}

# agree QUESTION: asks where somebody can answer.
agree() {
    [ -t 0 ] || return 0
    local answer=
    read -r -p "$1 " answer || true
    case $answer in
    [yY] | [yY][eE][sS]) ;;
    *) die "nothing was changed" ;;
    esac
}

check_dump() {
    "${as_docker[@]}" docker run --rm --interactive --network none --user 999:999 --entrypoint pg_restore "$(image_of postgres)" \
        --file=/dev/null <"$staging/database.dump"
}

# As root, for the owners of the secrets. That of the settings may have another number on this machine.
unpack_folders() {
    local name was now
    was=$(manifest_value owner)
    now=$("${as_owner[@]}" id -u):$("${as_owner[@]}" id -g)
    [[ $was =~ ^[0-9]{1,9}$ ]] || die "the backup does not say whose it was"
    for name in secrets policy state; do
        # There is no state before something was changed.
        [ -n "$(tar --list --file "$staging/$name.tar")" ] || continue
        mkdir -p "$staging/$name"
        "${as_root[@]}" tar --extract --numeric-owner --same-owner --same-permissions --file "$staging/$name.tar" -C "$staging/$name"
        "${as_root[@]}" find "$staging/$name" -uid "$was" -exec chown -h "$now" {} +
    done
}

# Without Compose, which may lack the settings for it. Metrics, silences and what Grafana has stay.
take_away() {
    # shellcheck disable=SC2086 # a word for each
    {
        [ -z "$containers" ] || "${as_docker[@]}" docker stop $containers
        [ -z "$containers" ] || "${as_docker[@]}" docker rm $containers
        [ -z "$volumes" ] || "${as_docker[@]}" docker volume rm $volumes
    }
}

put_in_place() {
    local name folder
    set_aside "$root/.env" .env
    "${as_root[@]}" install -m 0600 -o "$("${as_owner[@]}" id -u)" -g "$("${as_owner[@]}" id -g)" "$staging/env" "$root/.env"
    for name in secrets policy state; do
        folder=$(folder_of "$name")
        set_aside "$folder" "$name"
        "${as_root[@]}" test -d "$staging/$name" || continue
        "${as_root[@]}" mkdir -p "$(dirname "$folder")"
        "${as_root[@]}" mv -T "$staging/$name" "$folder"
    done
}

# set_aside PATH NAME: what is there now is kept, for whoever was wrong about the file.
aside=
set_aside() {
    "${as_root[@]}" test -e "$1" || return 0
    if [ -z "$aside" ]; then
        aside=$root/backups/replaced-$(date +%Y-%m-%d-%H%M%S)
        "${as_root[@]}" mkdir -p "$aside"
        "${as_root[@]}" chmod 0700 "$root/backups" "$aside"
        # As behind_the_gate does, and so that who owns the rest can look.
        "${as_root[@]}" chown "$(gatekeeper)" "$root/backups" "$aside"
    fi
    "${as_root[@]}" mv -T "$1" "$aside/$2"
}

start_database() {
    compose up -d --wait --wait-timeout 180 postgres
    # For the roles, which a dump does not have.
    compose run --rm -T --no-deps migrate
}

fill_database() {
    compose exec -T postgres pg_restore --clean --if-exists --create --exit-on-error --username=postgres --dbname=postgres \
        <"$staging/database.dump"
}

fill_journal() {
    compose run --rm -T --no-deps healer nexus-healer journal put --journal.path=/var/lib/nexus/journal.db <"$staging/journal.db"
}
