# shellcheck shell=bash
# ./nexus dashboards: pictures of the dashboards from what runs now, without Grafana. grafana/preview does the work; here is
# brought what it needs.

dashboards_help() {
    cat <<'END'
Usage: ./nexus dashboards preview [OPTION...] [NAME...]

Draws the dashboards (all, or those named: overview, pi, containers, project, healing, capacity, nexus) from what Prometheus and
Postgres of this stack say now, with Grafana's own packages in a headless Chromium, as on a desk and as on a phone. A panel
without data is a failure, unless grafana/may-be-empty.json says why it may be.

  --out FOLDER          where the pictures go (previews, below the current folder)
  --from now-6h         how much time they show, instead of what each dashboard shows at first
  --host REGEX          only these machines; --project NAME: only this project
  --scale FACTOR        pixels of the picture for each of the page (1)

It installs nodejs, npm and chromium where they are missing, and keeps the npm packages below the cache. Exit codes: 0 all is
drawn, 1 a panel is empty or something failed, 2 wrongly asked.
END
}

dashboards() {
    if asks_for_help "$@" || [ $# -eq 0 ]; then
        dashboards_help
        return
    fi
    [ "$1" = preview ] || usage "dashboards does not know \"$1\"; there is preview"
    shift
    need_docker
    local container url=${NEXUS_PROMETHEUS_URL:-} database
    url=${url:-http://127.0.0.1:$(setting NEXUS_PROMETHEUS_PORT 9090)}
    container=$(compose ps --quiet postgres) || die "cannot ask Docker for the stack's Postgres"
    [ -n "$container" ] || die "Postgres does not run: run ./nexus up first"
    database=("${as_docker[@]}" docker exec --interactive "$container" psql --username nexus_grafana --dbname nexus)
    bring_preview
    case " $* " in
    *" --out "* | *" --out="*) ;;
    *) set -- --out "$PWD/previews" "$@" ;;
    esac
    node "$cache/preview/preview.mjs" --root "$root" --prometheus "$url" "$@" -- "${database[@]}"
}

# Its files are copied to where its packages are: Node looks for them beside the file that asks.
bring_preview() {
    local missing=() lock=$cache/preview/installed
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || missing+=(chromium)
    if [ ${#missing[@]} -gt 0 ]; then
        become_root
        step "${missing[*]} (Debian packages)" apt_install "${missing[@]}"
    fi
    version_at_least "$(node --version | tr -d v)" 18 || die "node is $(node --version), and 18 is needed"
    mkdir -p "$cache/preview"
    cp -r "$root/grafana/preview/." "$cache/preview/"
    if [ "$(cat "$lock" 2>/dev/null)" != "$(content_of "$root/grafana/preview/package-lock.json")" ]; then
        step "npm packages of Grafana (500 MB)" npm --prefix "$cache/preview" ci --loglevel error --no-audit --no-fund --ignore-scripts
        content_of "$root/grafana/preview/package-lock.json" >"$lock"
    fi
}
