#!/bin/bash
# Starts PostgreSQL, creating the cluster the first time. It understands what compose.yml uses of the official image's
# environment: POSTGRES_PASSWORD_FILE (or POSTGRES_PASSWORD), POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS, PGDATA.
set -euo pipefail

fail() {
    echo "docker-entrypoint: $*" >&2
    exit 1
}

create_cluster() {
    local user=${POSTGRES_USER:-postgres} database password
    database=${POSTGRES_DB:-$user}
    if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
        [ -r "$POSTGRES_PASSWORD_FILE" ] || fail "cannot read $POSTGRES_PASSWORD_FILE as uid $(id -u)"
        password=$(<"$POSTGRES_PASSWORD_FILE")
    else
        password=${POSTGRES_PASSWORD:-}
    fi
    [ -n "$password" ] || fail "set POSTGRES_PASSWORD_FILE or POSTGRES_PASSWORD to a password that is not empty"

    # PG_VERSION comes last: while it is missing and .creating is there, a power cut interrupted the first start.
    local new=$PGDATA/.creating
    if [ -d "$new" ]; then
        find "$PGDATA" -mindepth 1 -delete
    fi
    # shellcheck disable=SC2086 # several arguments in one variable, as in the official image
    initdb --pgdata="$new" --username="$user" --pwfile=<(printf '%s\n' "$password") \
        --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 ${POSTGRES_INITDB_ARGS:-}
    printf '\nhost all all all scram-sha-256\n' >>"$new/pg_hba.conf"
    if [ "$database" != postgres ]; then
        printf 'CREATE DATABASE "%s";\n' "${database//\"/\"\"}" | postgres --single -D "$new" -j postgres >/dev/null
    fi
    find "$new" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv -t "$PGDATA" {} +
    sync
    mv "$new/PG_VERSION" "$PGDATA"
    rmdir "$new"
}

case ${1:-postgres} in
-*) set -- postgres "$@" ;;
esac
if [ "$1" = postgres ]; then
    export PGDATA
    mkdir -p "$PGDATA"
    chmod 0700 "$PGDATA"
    [ -s "$PGDATA/PG_VERSION" ] || create_cluster
    # The health check comes by the unix socket; everyone else by TCP, with a password.
    set -- "$@" -c listen_addresses='*'
fi
exec "$@"
