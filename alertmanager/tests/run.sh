#!/bin/sh
# Checks the Alertmanager side: the configuration with Telegram and without, who gets what (routes.txt), what mutes what
# (inhibition.txt, played to the real Alertmanager), and the messages: word by word (messages/*), and as HTML that Telegram
# takes, whatever the input.
#
#   docker run --rm -v "$PWD:/work:ro" --tmpfs /tmp --entrypoint sh IMAGE /work/alertmanager/tests/run.sh
#
# Needs amtool, alertmanager and what busybox has, nothing else. One line a case, the sum at the end, exit code 1 if a case failed.
# Reads the checkout it lies in; writes only under $TMPDIR (default /tmp).
# With WRITE_MESSAGES=1 it writes the messages as they are now into messages/ instead of comparing: look at them.
set -u
LC_ALL=C
TZ=UTC
export LC_ALL TZ
here=$(cd "$(dirname "$0")" && pwd) || exit 1
root=$(cd "$here/../.." && pwd) || exit 1
tmp=$(mktemp -d) || exit 1
server=
trap 'if [ -n "$server" ]; then kill "$server" 2>/dev/null; fi; rm -rf "$tmp"' EXIT
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

# The template's tiny syntax once more, with fixed values. render yes|no yes|no BASE_URL PAGE_URL <TEMPLATE: with Telegram, and with
# quiet hours, a window for backups and a dead man's switch.
render() {
    awk -v telegram="$1" -v others="$2" '
        /^ *# @@if [a-z]+@@$/ {
            inside = 1
            keep = (/telegram@@$/ ? telegram : others) == "yes"
            next
        }
        /^ *# @@else@@$/ { keep = !keep; next }
        /^ *# @@end@@$/ { inside = 0; next }
        !inside || keep
    ' | sed -e 's|@@TELEGRAM_CHAT_ID@@|-1001234567890|' -e 's|@@TELEGRAM_API_URL@@|https://api.telegram.org|' -e "s|@@BASE_URL@@|$3|g" -e "s|@@PAGE_URL@@|$4|g" \
        -e 's|@@STACK@@|nexus|' -e 's|@@TIMEZONE@@|Europe/Berlin|' -e 's|@@QUIET_FROM@@|22:00|' -e 's|@@QUIET_TO@@|24:00|' \
        -e 's|@@QUIET_THEN_FROM@@|00:00|' -e 's|@@QUIET_THEN_TO@@|07:00|' -e 's|@@BACKUP_\(THEN_\)*FROM@@|03:00|g' -e 's|@@BACKUP_\(THEN_\)*TO@@|04:00|g'
}

for telegram in yes no quiet; do
    mkdir -p "$tmp/$telegram"
    cp -r "$root/alertmanager/templates" "$tmp/$telegram/"
    case $telegram in quiet) with="yes yes" ;; *) with="$telegram no" ;; esac
    # shellcheck disable=SC2086
    render $with http://raspberrypi.local:3000 http://raspberrypi.local:10192 <"$root/alertmanager/alertmanager.yml.tmpl" >"$tmp/$telegram/alertmanager.yml"
    if amtool check-config "$tmp/$telegram/alertmanager.yml" >"$tmp/out" 2>&1; then
        ok "configuration is valid, telegram: $telegram"
    else
        not_ok "configuration is valid, telegram: $telegram" "$tmp/out"
    fi
done
if [ -e "$root/rendered/alertmanager/alertmanager.yml" ]; then
    mkdir -p "$tmp/rendered"
    cp -r "$root/alertmanager/templates" "$root/rendered/alertmanager/alertmanager.yml" "$tmp/rendered/"
    if amtool check-config "$tmp/rendered/alertmanager.yml" >"$tmp/out" 2>&1; then
        ok "rendered configuration is valid"
    else
        not_ok "rendered configuration is valid" "$tmp/out"
    fi
fi

# --- who gets what
grep -v -e '^#' -e '^$' "$here/routes.txt" >"$tmp/routes"
while read -r receiver labels; do
    for telegram in yes no quiet; do
        # Label values in the table have no spaces.
        # shellcheck disable=SC2086
        if amtool config routes test --config.file="$tmp/$telegram/alertmanager.yml" --verify.receivers="$receiver" $labels >"$tmp/out" 2>&1; then
            ok "$receiver gets, telegram $telegram: $labels"
        else
            not_ok "$receiver gets, telegram $telegram: $labels" "$tmp/out"
        fi
    done
done <"$tmp/routes"

# --- what mutes what
port=$((20000 + $$ % 10000))
url=http://127.0.0.1:$port
alertmanager --config.file="$tmp/no/alertmanager.yml" --storage.path="$tmp/data" --web.listen-address="127.0.0.1:$port" \
    --cluster.listen-address= --log.level=error >"$tmp/server" 2>&1 &
server=$!

# within SECONDS COMMAND...: again and again until it succeeds
within() {
    left=$1
    shift
    until "$@"; do
        left=$((left - 1))
        if [ "$left" -le 0 ]; then return 1; fi
        sleep 1
    done
}

answers() {
    amtool --alertmanager.url="$url" alert query >/dev/null 2>&1
}

add() {
    amtool --alertmanager.url="$url" alert add "$@" >"$tmp/added" 2>&1 || not_ok "alertmanager takes: $*" "$tmp/added"
}

# list STATE: the alerts in that state, one a line.
list() {
    amtool --alertmanager.url="$url" -o extended alert query "--$1" >"$tmp/$1" 2>&1
}

# verdict NUMBER: muted, heard, or missing, when Alertmanager does not show the alert, or not what it is held against.
verdict() {
    if ! grep -q "source=\"$1\"" "$tmp/active" "$tmp/inhibited"; then
        echo missing
    elif grep -q "case=\"$1\"" "$tmp/inhibited"; then
        echo muted
    elif grep -q "case=\"$1\"" "$tmp/active"; then
        echo heard
    else
        echo missing
    fi
}

# Every case is in one of the lists, and what must be muted is.
all_judged() {
    list active && list inhibited || return 1
    number=0
    while IFS= read -r line; do
        number=$((number + 1))
        case ${line%%:*} in
        muted) [ "$(verdict $number)" = muted ] || return 1 ;;
        *) [ "$(verdict $number)" != missing ] || return 1 ;;
        esac
    done <"$tmp/inhibition"
}

if ! within 20 answers; then
    not_ok "alertmanager starts" "$tmp/server"
else
    number=0
    grep -v -e '^#' -e '^$' "$here/inhibition.txt" >"$tmp/inhibition"
    while IFS= read -r line; do
        number=$((number + 1))
        pair=${line#*: }
        source=${pair%%|*}
        target=${pair#*|}
        case $pair in *host=*) host= ;; *) host=host=pi$number ;; esac
        # shellcheck disable=SC2086
        add $source $host source=$number
        # shellcheck disable=SC2086
        add $target $host case=$number
    done <"$tmp/inhibition"
    # When it never comes to that, the verdicts below say what is wrong.
    within 10 all_judged || true
    number=0
    while IFS= read -r line; do
        number=$((number + 1))
        is=$(verdict $number)
        if [ "${line%%:*}" = "$is" ]; then ok "$line"; else not_ok "$line (is $is)" "$tmp/inhibited"; fi
    done <"$tmp/inhibition"
fi

# --- the dead man's switch: its address is read from the secret, and from nothing else
if grep -q 'http.*watchdog\|watchdog.*http' "$tmp/quiet/alertmanager.yml" || ! grep -q '^ *- url_file: /run/secrets/watchdog_url$' "$tmp/quiet/alertmanager.yml"; then
    not_ok "the address of the watchdog is in a file of its own" "$tmp/quiet/alertmanager.yml"
else
    outside=$((port + 1))
    printf 'http://127.0.0.1:%s/ping/0195b0c4\n' "$outside" >"$tmp/watchdog_url"
    sed "s|/run/secrets/watchdog_url|$tmp/watchdog_url|" "$tmp/quiet/alertmanager.yml" >"$tmp/quiet/watched.yml"
    # Says nothing, and does not hang up either: its input has no end. Who hangs up at once may be left before anything was asked.
    mkfifo "$tmp/never"
    busybox nc -l -p "$outside" <>"$tmp/never" >"$tmp/pinged" 2>&1 &
    listener=$!
    alertmanager --config.file="$tmp/quiet/watched.yml" --storage.path="$tmp/watched" --web.listen-address="127.0.0.1:$((port + 2))" \
        --cluster.listen-address= --log.level=error >"$tmp/watching" 2>&1 &
    watching=$!
    fires() { amtool --alertmanager.url="http://127.0.0.1:$((port + 2))" alert add alertname=Watchdog severity=none >"$tmp/out" 2>&1; }
    pinged() { grep -q '^POST /ping/0195b0c4 ' "$tmp/pinged"; }
    if within 20 fires && within 20 pinged; then ok "the watchdog reaches the address in its file"; else not_ok "the watchdog reaches the address in its file" "$tmp/watching"; fi
    kill "$watching" "$listener" 2>/dev/null
fi

# --- what is acknowledged is told no more, and its end when it has ended: the shipped routes with shorter waits, and a receiver here
cat >"$tmp/receive" <<EOF
#!/bin/sh
cr=\$(printf '\\r')
length=0
while IFS= read -r line; do
    line=\${line%"\$cr"}
    case \$line in Content-Length:*) length=\${line#*: } ;; '') break ;; esac
done
# One write, so that two at a time don't mix.
body=\$(head -c "\$length")
printf '%s\\n' "\$body" >>"$tmp/people"
printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n'
EOF
: >"$tmp/people"
sed -e "s|^  - name: people\$|&\n    webhook_configs: [{url: 'http://127.0.0.1:$((port + 3))/'}]|" -e 's/\(group_wait\|group_interval\): .*/\1: 1s/' \
    "$tmp/no/alertmanager.yml" >"$tmp/no/soon.yml"
busybox nc -ll -p $((port + 3)) -e sh "$tmp/receive" >"$tmp/receiver" 2>&1 &
listener=$!
alertmanager --config.file="$tmp/no/soon.yml" --storage.path="$tmp/soon" --web.listen-address="127.0.0.1:$((port + 4))" \
    --cluster.listen-address= --log.level=error >"$tmp/soon-server" 2>&1 &
soon=$!
# It takes what is posted and says so, or it is not there yet.
post() { amtool --alertmanager.url="http://127.0.0.1:$((port + 4))" alert add "$@" host=pi project=shop >"$tmp/out" 2>&1; }
# told STATUS ALERT SERVICE [COUNT]: there was a message with it, or so many.
told() { count=$(grep -c "\"status\":\"$1\",\"labels\":{\"alertname\":\"$2\",[^}]*\"service\":\"$3\"" "$tmp/people"); if [ -n "${4:-}" ]; then [ "$count" -eq "$4" ]; else [ "$count" -gt 0 ]; fi; }
ended() { post --end="$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$@"; }
gave_up="alertname=HealerGaveUp severity=critical service=api"
down="alertname=ContainerDown severity=critical service=api name=shop-api-1"
acknowledged="alertname=ServiceAcknowledged severity=none service=api"
# shellcheck disable=SC2086
if within 20 post $gave_up && within 20 told firing HealerGaveUp api; then ok "giving up is told"; else not_ok "giving up is told" "$tmp/soon-server"; fi
# shellcheck disable=SC2086
post $acknowledged && post $down && post alertname=ContainerDown severity=critical service=web name=shop-web-1
# What came last of the same group has been told, so the others would have been.
if within 20 told firing ContainerDown web && told firing HealerGaveUp api 1 && told firing ContainerDown api 0 && told resolved HealerGaveUp api 0; then
    ok "what is acknowledged is neither told again nor called ended"
else
    not_ok "what is acknowledged is neither told again nor called ended" "$tmp/people"
fi
# shellcheck disable=SC2086
ended $gave_up && ended $acknowledged && ended $down
if within 20 told resolved HealerGaveUp api && told firing ContainerDown api 0; then ok "the end of what was acknowledged is told"; else not_ok "the end of what was acknowledged is told" "$tmp/people"; fi
kill "$soon" "$listener" 2>/dev/null

# --- what comes as one message: GET /api/v2/alerts/groups has a line like this for each group
one_message() {
    wget -q -O - "$url/api/v2/alerts/groups" 2>"$tmp/out" | grep -o '"labels":{[^}]*},"receiver":{"name":"[a-z]*"}' >"$tmp/groups"
    grep -qxF "$1" "$tmp/groups"
}
if ! answers; then
    not_ok "alertmanager goes on answering" "$tmp/server"
else
    add alertname=ContainerDown severity=critical host=group project=shop service=api name=shop-api-1
    add alertname=ContainerOomKilled severity=warning host=group project=shop service=web name=shop-web-1
    add alertname=ContainerDown severity=critical host=group project=blog service=api name=blog-api-1
    add alertname=ContainerMemoryRunsOut severity=critical host=group project=shop service=api name=shop-api-1
    add alertname=ContainerMemoryRunsOut severity=critical host=group project=shop service=web name=shop-web-1
    add alertname=DiskCritical severity=critical host=group mountpoint=/
    add alertname=DiskCritical severity=critical host=group mountpoint=/data
    add alertname=ContainerDown severity=critical host=group name=adguard
    add alertname=ContainerDown severity=none heal=restart host=group project=shop service=api name=shop-api-1
    add alertname=HealerSawDown severity=none heal=restart host=group project=shop service=api name=shop-api-1
    add alertname=NexusMessage severity=none level=info host=group message=1
    add alertname=NexusMessage severity=none level=info host=group message=2
    for group in \
        '"labels":{"alertname":"NexusMessage","host":"group","level":"info","message":"1","severity":"none"},"receiver":{"name":"messages"}' \
        '"labels":{"alertname":"NexusMessage","host":"group","level":"info","message":"2","severity":"none"},"receiver":{"name":"messages"}' \
        '"labels":{"host":"group","project":"shop"},"receiver":{"name":"people"}' \
        '"labels":{"host":"group","project":"blog"},"receiver":{"name":"people"}' \
        '"labels":{"alertname":"ContainerMemoryRunsOut","host":"group","project":"shop","service":"api"},"receiver":{"name":"people"}' \
        '"labels":{"alertname":"ContainerMemoryRunsOut","host":"group","project":"shop","service":"web"},"receiver":{"name":"people"}' \
        '"labels":{"host":"group","mountpoint":"/"},"receiver":{"name":"people"}' \
        '"labels":{"host":"group","mountpoint":"/data"},"receiver":{"name":"people"}' \
        '"labels":{"alertname":"ContainerDown","host":"group"},"receiver":{"name":"people"}' \
        '"labels":{"alertname":"HealerSawDown","heal":"restart","host":"group","name":"shop-api-1","project":"shop","service":"api","severity":"none"},"receiver":{"name":"healer"}' \
        '"labels":{"alertname":"ContainerDown","heal":"restart","host":"group","name":"shop-api-1","project":"shop","service":"api","severity":"none"},"receiver":{"name":"healer"}'; do
        if within 5 one_message "$group"; then ok "one message: $group"; else not_ok "one message: $group" "$tmp/groups"; fi
    done
fi

# --- messages
# message FILE [RECEIVER]: the `message` of the configuration itself, out of its YAML string.
message() {
    sed -n -e "/^  - name: ${2:-people}\$/,/^  - name: /s/^ *message: \"\(.*\)\"\$/\1/p" "$1" | awk '{ gsub(/\\"/, "\""); gsub(/\\n/, "\n"); printf "%s", $0 }'
}
render yes no "" "" <"$root/alertmanager/alertmanager.yml.tmpl" >"$tmp/no-link.yml"
plain=$(message "$tmp/no-link.yml")
linked=$(message "$tmp/yes/alertmanager.yml")
sent=$(message "$tmp/yes/alertmanager.yml" messages)

# write_message TEXT DATA
write_message() {
    amtool template render --template.glob="$root/alertmanager/templates/*.tmpl" --template.type=html \
        --template.text="$1" --template.data="$2"
}

# Says what Telegram would refuse: tags it does not know, that are not closed or not in order, stray & and <, too long.
# (Its parser knows &lt; &gt; &amp; &quot; and numbers; it counts UTF-16 after parsing, Alertmanager cuts at 4096 as written.)
refused() {
    awk '
        function bad(what) { print what; wrong = 1 }
        { text = text $0 "\n" }
        END {
            while (match(text, /[<>&]/)) {
                c = substr(text, RSTART, 1)
                text = substr(text, RSTART)
                if (c == ">") { bad("stray >"); break }
                if (c == "&") {
                    if (match(text, /^&(lt|gt|amp|quot|#[0-9]+|#x[0-9a-fA-F]+);/) != 1) { bad("stray &: " substr(text, 1, 20)); break }
                    text = substr(text, RLENGTH + 1)
                    continue
                }
                if (match(text, /^<\/(b|i|pre|code|a)>/) == 1) {
                    name = substr(text, 3, RLENGTH - 3)
                    if (depth == 0 || open[depth] != name) { bad("</" name "> closes nothing"); break }
                    depth--
                } else if (match(text, /^<(b|i|pre|code)>/) == 1) {
                    open[++depth] = substr(text, 2, RLENGTH - 2)
                } else if (match(text, /^<a href="https?:\/\/[^"<>]+">/) == 1) {
                    open[++depth] = "a"
                } else { bad("unknown tag: " substr(text, 1, 20)); break }
                text = substr(text, RLENGTH + 1)
            }
            if (!wrong && depth > 0) bad("<" open[depth] "> is not closed")
            exit wrong
        }
    ' "$1" || return 0
    written=$(tr -d '\200-\277' <"$1" | wc -c)
    sed -e 's/<[^>]*>//g' -e 's/&[#a-z0-9]*;/x/g' "$1" >"$tmp/parsed"
    parsed=$(($(tr -d '\200-\277' <"$tmp/parsed" | wc -c) + $(tr -cd '\360-\367' <"$tmp/parsed" | wc -c)))
    if [ "$written" -le "${longest:=0}" ]; then :; else longest=$written; fi
    if [ "$parsed" -le "${longest_parsed:=0}" ]; then :; else longest_parsed=$parsed; fi
    if [ "$written" -gt 4096 ] || [ "$parsed" -gt 4096 ]; then
        echo "$written characters as written, $parsed after parsing"
        return 0
    fi
    if ! grep -q '[^[:space:]]' "$tmp/parsed"; then
        echo "empty"
        return 0
    fi
    return 1
}

for file in "$here"/messages/*.json; do
    name=${file##*/}
    name=${name%.json}
    want=$here/messages/$name.html
    # Some of them show the links; some are what somebody sends.
    case $name in gave-up | disk | several*) text=$linked ;; sent*) text=$sent ;; *) text=$plain ;; esac
    if ! write_message "$text" "$file" >"$tmp/got" 2>"$tmp/out"; then
        not_ok "message $name" "$tmp/out"
    elif refused "$tmp/got" >"$tmp/out"; then
        not_ok "message $name is refused" "$tmp/out"
    elif [ -n "${WRITE_MESSAGES:-}" ]; then
        cp "$tmp/got" "$want"
    elif cmp -s "$tmp/got" "$want"; then
        ok "message $name"
    else
        echo "wanted $want, got:" >"$tmp/out"
        cat "$tmp/got" >>"$tmp/out"
        not_ok "message $name" "$tmp/out"
    fi
done

# data SERVICES SEED PIECE...: 120 alerts of one or of several SERVICES, two thirds firing, whose every label and annotation is made
# of PIECEs, 30 to 2000 of them. SEED 0 takes the first PIECE only and always 2000 of them.
data() {
    services_of_data=$1
    seed_of_data=$2
    shift 2
    awk -v services="$services_of_data" -v seed="$seed_of_data" '
        function text(   n, out) {
            n = seed ? 30 + int(1970 * rand() * rand() * rand() * rand()) : 2000
            for (out = ""; n > 0; n--) out = out piece[seed ? int(rand() * pieces) + 1 : 1]
            return "\"" out "\""
        }
        function alert(number) {
            printf "%s{\"status\":\"%s\",\"startsAt\":\"2026-03-02T14:03:11Z\",\"endsAt\":\"2026-03-12T16:03:11Z\",\"fingerprint\":\"%d\",", \
                number == 1 ? "" : ",", number % 3 ? "firing" : "resolved", number
            printf "\"labels\":{\"alertname\":%s,\"severity\":\"critical\",\"host\":%s,\"project\":%s,\"service\":%s},", text(), host, project, services == "one" ? service : text()
            printf "\"annotations\":{\"summary\":%s,\"description\":%s,\"cause\":%s,\"tried\":%s,\"evidence\":%s,\"action\":%s,\"runbook_url\":%s,\"dashboard_url\":%s,\"incident\":%s}}", \
                text(), text(), text(), text(), text(), text(), text(), text(), text()
        }
        BEGIN {
            srand(seed)
            for (i = 1; i < ARGC; i++) piece[++pieces] = ARGV[i]
            host = text(); project = text(); service = text()
            printf "{\"receiver\":\"people\",\"status\":\"firing\",\"alerts\":["
            for (number = 1; number <= 120; number++) alert(number)
            printf "],\"groupLabels\":{},\"commonAnnotations\":{},\"commonLabels\":{\"host\":%s,\"project\":%s%s},\"externalURL\":\"http://a\"}\n", \
                host, project, services == "one" ? ",\"service\":" service : ""
        }
    ' "$@"
}

# takes NAME DATA-FILE: as alerts, and as what somebody sends.
takes() {
    for text in "$linked" "$sent"; do
        if ! write_message "$text" "$2" >"$tmp/got" 2>"$tmp/out"; then
            not_ok "$1" "$tmp/out"
            return
        elif refused "$tmp/got" >"$tmp/out"; then
            not_ok "$1" "$tmp/out"
            return
        fi
    done
    ok "$1"
}

# As JSON writes them. The last three: an emoji (two units in UTF-16), a combining mark, and one that reverses the text.
# shellcheck disable=SC1003
set -- x "'" '\"' '<' '>' '&' '+' '<b>' '</pre>' '&lt;' '&#0;' '{{ . }}' '\n' '\u0000' '\\' ' ' '%s' 'http://e.x/?a=b&c=d ' '\ud83d\udd25' '\u0301' '\u202e'
for piece in "$@"; do
    for services in one several; do
        data $services 0 "$piece" "$piece" >"$tmp/data.json"
        takes "120 alerts ($services) full of $(printf '%s' "$piece")" "$tmp/data.json"
    done
done
# One special character less than the number at which they are replaced, then twice as many, and all the rest two units wide
# in UTF-16.
for specials in 17 35 399 400 1700; do
    for services in one several; do
        data $services 0 Q | sed -e "s/\"Q\{$specials\}/\"$(printf "%${specials}s" | tr ' ' "'")/g" -e 's/Q/\\ud83d\\udd25/g' >"$tmp/data.json"
        takes "120 alerts ($services) with $specials special characters and as long as they can be" "$tmp/data.json"
    done
done
seed=0
while [ "$seed" -lt "${RANDOM_MESSAGES:-60}" ]; do
    seed=$((seed + 1))
    if [ $((seed % 2)) -eq 0 ]; then services=one; else services=several; fi
    data $services "$seed" "$@" >"$tmp/data.json"
    takes "random messages, seed $seed" "$tmp/data.json"
done
echo "longest message: $longest characters as written, $longest_parsed after parsing"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
