#!/bin/sh
# Checks the Prometheus side: configuration, rules, their unit tests, and that every alert has its tests and its runbook.
#
#   docker run --rm -v "$PWD:/work:ro" --tmpfs /tmp --entrypoint sh IMAGE /work/prometheus/tests/run.sh
#
# Needs promtool and what busybox has, nothing else. One line a case, the sum at the end, exit code 1 if a case failed.
# Reads the checkout it lies in; writes only under $TMPDIR (default /tmp).
set -u
LC_ALL=C
export LC_ALL
root=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0
failed=0

ok() {
    passed=$((passed + 1))
    printf 'ok      %s\n' "$1"
}

# not_ok NAME [FILE with what was said]
not_ok() {
    failed=$((failed + 1))
    printf 'FAILED  %s\n' "$1"
    if [ -n "${2:-}" ]; then sed 's/^/          /' "$2"; fi
}

# check NAME COMMAND...
check() {
    name=$1
    shift
    if "$@" >"$tmp/out" 2>&1; then ok "$name"; else not_ok "$name" "$tmp/out"; fi
}

# The configuration as the container sees it, with the targets of one host.
mkdir -p "$tmp/etc/targets"
cp -r "$root/prometheus/prometheus.yml" "$root/prometheus/rules" "$tmp/etc/"
sed 's/@@HOST@@/pi/g' "$root/prometheus/targets.yml.tmpl" >"$tmp/etc/targets/pi.yml"
check "prometheus.yml and targets are valid" promtool check config --lint=all --lint-fatal "$tmp/etc/prometheus.yml"
check "rules are valid" promtool check rules --lint=all --lint-fatal "$root"/prometheus/rules/*.yml
for targets in "$root"/rendered/prometheus/targets/*.yml; do
    [ -e "$targets" ] || continue
    cp "$targets" "$tmp/etc/targets/"
    check "rendered ${targets##*/} is valid" promtool check config "$tmp/etc/prometheus.yml"
done

# What takes longest, beside all that follows.
mkdir "$tmp/week"
sh "$root/prometheus/tests/quiet-week.sh" "$root/prometheus/rules" "$tmp/week" >"$tmp/week-out" 2>&1 &
week=$!

# promtool reports by file, people want to know by case: ask for single cases only where a file fails.
for file in "$root"/prometheus/tests/*.yml; do
    short=${file##*/}
    sed -n 's/^  - name: "\(.*\)"$/\1/p' "$file" >"$tmp/names"
    cat "$tmp/names" >>"$tmp/all-names"
    if [ "$(grep -c '^  - ' "$file")" -ne "$(wc -l <"$tmp/names")" ]; then
        not_ok "$short: every case has a name in double quotes, as its first key"
    fi
    if [ -n "$(sort "$tmp/names" | uniq -d)" ]; then not_ok "$short: names of cases are unique"; fi
    promtool test rules "$file" >"$tmp/file-out" 2>&1
    whole=$?
    found=0
    while IFS= read -r name; do
        if [ "$whole" -eq 0 ]; then
            ok "$short: $name"
            continue
        fi
        regex=$(printf '%s' "$name" | sed 's/[][\\.*^$+?(){}|]/\\&/g')
        if promtool test rules --run="^$regex\$" "$file" >"$tmp/out" 2>&1; then
            ok "$short: $name"
        else
            found=1
            not_ok "$short: $name" "$tmp/out"
        fi
    done <"$tmp/names"
    if [ "$whole" -ne 0 ] && [ "$found" -eq 0 ]; then not_ok "$short" "$tmp/file-out"; fi
done

quiet="a quiet week tells nobody anything, and a bad day does"
if wait "$week"; then ok "$quiet"; else not_ok "$quiet" "$tmp/week-out"; fi

# Every alert fires, stays quiet and resolves in some case, and has a runbook page, and no page is left over.
sed -n 's/^ *- alert: *//p' "$root"/prometheus/rules/*.yml | sort -u >"$tmp/alerts"
while IFS= read -r alert; do
    missing=
    for kind in fires quiet resolves; do
        # Always firing is all there is to a Watchdog.
        if [ "$alert" = Watchdog ] && [ "$kind" != fires ]; then continue; fi
        grep -q "^$alert $kind: " "$tmp/all-names" || missing="$missing $kind"
    done
    if [ -z "$missing" ]; then ok "$alert has its cases"; else not_ok "$alert has no case for:$missing"; fi
    # The alerts' words are bound to their runbook by name.
    page="docs/runbooks/$alert.md"
    if [ ! -s "$root/$page" ]; then
        not_ok "$alert has no $page"
    elif [ "$(head -n 1 "$root/$page")" != "# $alert" ]; then
        not_ok "$page does not begin with '# $alert'"
    else
        ok "$alert has its runbook"
    fi
done <"$tmp/alerts"
awk '
    /^ *- alert:/ { alert = $3 }
    /runbook_url:/ { if ($2 != "docs/runbooks/" alert ".md") { print FILENAME ": " alert " points at " $2; bad = 1 } }
    END { exit bad }
' "$root"/prometheus/rules/*.yml >"$tmp/out" || not_ok "runbook_url names the page of its alert" "$tmp/out"
# The healer posts these itself; they have no rule.
own="AlertmanagerDown PrometheusDown HealingFailed HealingOnHold HealingWaits HostReliefStopped HostReliefFailed ContainerMemoryRunsOut"
# shellcheck disable=SC2086
printf '%s\n' $own >>"$tmp/alerts"
for page in "$root"/docs/runbooks/*.md; do
    name=${page##*/}
    name=${name%.md}
    if [ "$name" != README ] && ! grep -qx "$name" "$tmp/alerts"; then not_ok "docs/runbooks/$name.md belongs to no alert"; fi
done
for alert in $own; do
    [ -s "$root/docs/runbooks/$alert.md" ] || not_ok "$alert has no docs/runbooks/$alert.md"
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
