#!/bin/bash
# shellcheck disable=SC2016 # the shells in the containers expand it
# Breaks containers on purpose and records what the healer finds out about them: the cases of the labelled set that say
# "recorded": true. It needs Docker, the images that ./nexus up has built (nexus/debian, nexus/postgres, nexus/prometheus,
# nexus/alertmanager, nexus/haproxy), and a built example:
#
#   docker build -t nexus-diagnosis/products healer/tests/diagnosis
#   cargo build -p nexus-healer --example record_diagnosis
#   healer/tests/diagnosis/record.sh PATH/TO/record_diagnosis [NAME...]
#
# With names only these cases are recorded. What a case expects is written down here, before its findings are looked at.
set -uo pipefail
record=$1
shift
wanted=" $* "
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
project=nexus-diagnosis
labels=(--label "nexus.stack=$project" --label "com.docker.compose.project=$project")
products=nexus-diagnosis/products
postgres=nexus/postgres:17-debian
docker network create $project >/dev/null 2>&1

clean() {
    docker ps -aq --filter label=com.docker.compose.project=$project | xargs -r docker rm -fv >/dev/null 2>&1
}
trap 'clean; docker network rm $project >/dev/null 2>&1; rm -rf "$work"' EXIT

# make NAME DOCKER-OPTIONS...: creates the container NAME of the service NAME.
make() {
    local name=$1
    shift
    docker create --name "diag-$name" "${labels[@]}" --label com.docker.compose.service="$name" \
        --log-driver json-file "$@" >/dev/null
}
start() { docker start "diag-$1" >/dev/null 2>"$work/error"; }
run() { make "$@" && start "$1"; }

# until_state NAME WORD: waits for Docker's state or health, half a minute at most.
until_state() {
    for _ in $(seq 300); do
        case $(docker inspect -f '{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}' "diag-$1") in
        *"$2"*) return ;;
        esac
        sleep 0.1
    done
    echo "$1 has not become $2" >&2
}

# want NAME: whether this case is to be recorded.
want() {
    [ "$wanted" = "  " ] || [[ $wanted == *" $1 "* ]] || return 1
    clean
}

# keep SET EXPECTED NAME STATE ABOUT [BEFORE]
keep() {
    until_state "$3" "$4"
    printf '%-28s ' "$3"
    local said
    said=$(NEXUS_START_ERROR=$(head -1 "$work/error" | sed 's/^Error response from daemon: //') "$record" "diag-$3" "$2" "$1" "$5" ${6:+"$6"} 2>&1 >"$here/$3.json") || echo "$said"
    # Of the half that is held out nothing is shown: who writes the rules must not see it.
    if [ "$1" = rules ]; then echo "$said"; else echo "recorded"; fi
}

probe() { printf '%s\0' --health-interval 1s --health-timeout "${2:-1s}" --health-retries 3 --health-cmd "$1"; }
probed() { mapfile -d '' -t check < <(probe "$@"); }

# ends SET EXPECTED NAME ABOUT DOCKER-OPTIONS...: it ends, and is recorded.
ends() {
    local set=$1 expected=$2 name=$3 about=$4
    shift 4
    want "$name" || return
    run "$name" "$@"
    keep "$set" "$expected" "$name" exited "$about"
}

# ails SET EXPECTED NAME ABOUT DOCKER-OPTIONS...: it becomes unhealthy, and is recorded. The probe is in "check".
ails() {
    local set=$1 expected=$2 name=$3 about=$4
    shift 4
    want "$name" || return
    run "$name" "${check[@]}" "$@"
    keep "$set" "$expected" "$name" unhealthy "$about"
}

# never SET EXPECTED NAME ABOUT DOCKER-OPTIONS...: Docker can't start it.
never() {
    local set=$1 expected=$2 name=$3 about=$4
    shift 4
    want "$name" || return
    run "$name" "$@"
    keep "$set" "$expected" "$name" created "$about"
}

python_server='
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        MODE
server = http.server.HTTPServer(("0.0.0.0", 8080), Handler)
print("serving on 8080", flush=True)
server.serve_forever()'
server() { printf '%s' "${python_server/MODE/$1}"; }

# ---- memory -------------------------------------------------------------------------------------------------------
ends rules out_of_memory oom-perl "perl takes more than its limit of 32 MiB" \
    --memory 32m $products perl -e 'my @a; push @a, "x" x 1e6 while 1'
ends held_out out_of_memory oom-python "python takes more than its limit of 64 MiB" \
    --memory 64m $products python3 -c 'a=[]
while True: a.append(bytearray(1000000))'
probed 'test -e /nothing'
ails held_out out_of_memory oom-child "a worker is killed at the limit again and again while its master lives on" \
    --memory 32m $products sh -c 'while :; do perl -e "my @a; push @a, q(x) x 1e6 while 1"; echo worker ended; sleep 0.3; done'
ends rules out_of_memory heap-node "node's own heap is full" \
    $products node --max-old-space-size=20 -e 'const a=[]; for(;;) a.push(new Array(1000).fill({}))'
ends held_out out_of_memory heap-python "the address space of python is full" \
    $products sh -c 'ulimit -v 100000; exec python3 -c "a=bytearray(10**9)"'

# ---- signals ------------------------------------------------------------------------------------------------------
ends rules crashed segfault "a process kills itself with SIGSEGV" $products bash -c '(kill -SEGV $BASHPID); exit $?'
ends held_out crashed segfault-python "python reads where nothing is" \
    --init $products python3 -c 'import faulthandler; faulthandler._sigsegv()'
ends held_out crashed abort "a process aborts itself" $products bash -c 'echo working; (kill -ABRT $BASHPID); exit $?'
ends rules terminated sigterm "a process is asked to stop by another in its container" \
    --init $products bash -c 'echo working; kill -TERM $$; sleep 9'
ends rules killed sigkill "SIGKILL from inside its container" $products bash -c '(kill -KILL $BASHPID); exit $?'
if want sigkill-host; then
    run sigkill-host $products sleep 99
    docker kill diag-sigkill-host >/dev/null
    keep held_out killed sigkill-host exited "SIGKILL from outside"
fi
ends rules ended exit-0 "it does its work and ends" $products sh -c 'echo done'
ends held_out ended exit-0-with-errors "it ends well after an error that it could live with" \
    $products sh -c 'echo "ERROR: connection refused, skipping upload" >&2; exit 0'

# ---- commands -----------------------------------------------------------------------------------------------------
ends rules command_not_found command-in-shell "a shell looks for a program that is not there" \
    $products sh -c 'exec nosuchserver --port 80'
never rules command_not_found command-in-docker "Docker looks for a program that is not there" $products nosuchserver
never held_out command_not_found entrypoint-missing "the entrypoint is not there" --entrypoint /app/start $products
never held_out command_not_executable command-no-permission "the command is a file that is not executable" \
    $products /etc/hostname
ends rules command_not_executable script-no-permission "a shell starts a file that is not executable" \
    $products sh -c '/etc/passwd'
printf '\177ELF\002\001\001\000\000\000\000\000\000\000\000\000\002\000\363\000\001\000\000\000' >"$work/foreign"
head -c 400 /dev/zero >>"$work/foreign"
chmod 755 "$work/foreign"
ends rules wrong_architecture foreign-docker "a program for another processor" -v "$work/foreign:/app:ro" $products /app
ends held_out wrong_architecture foreign-bash "bash starts a program for another processor" \
    -v "$work/foreign:/app:ro" $products bash -c '/app; exit $?'

# ---- ports --------------------------------------------------------------------------------------------------------
if want port-docker; then
    run port-docker-holder -p 127.0.0.1:18099:80 $products sleep 99
    run port-docker -p 127.0.0.1:18099:80 $products sleep 99
    keep rules port_taken port-docker created "another container publishes the same port"
fi
if want port-host; then
    python3 -c 'import socket,time; s=socket.socket(); s.bind(("127.0.0.1",18098)); s.listen(); time.sleep(20)' &
    sleep 0.5
    run port-host -p 127.0.0.1:18098:80 $products sleep 99
    keep held_out port_taken port-host created "a process of the host has the port that is published"
fi
# shared SET NAME ABOUT PORT DOCKER-OPTIONS...: another container in the same network has the port.
shared() {
    local set=$1 name=$2 about=$3 port=$4
    shift 4
    want "$name" || return
    run "$name-holder" $products python3 -c "
import socket,time
s=socket.socket(); s.bind(('0.0.0.0',$port)); s.listen(); time.sleep(99)"
    sleep 0.5
    run "$name" --network "container:diag-$name-holder" "$@"
    keep "$set" port_taken "$name" exited "$about"
}
shared rules port-nginx "nginx finds port 80 taken" 80 $products nginx -g 'daemon off;'
shared rules port-mosquitto "mosquitto finds port 1883 taken" 1883 $products mosquitto -p 1883
shared held_out port-redis "redis finds port 6379 taken" 6379 $products redis-server --port 6379
shared held_out port-python "python finds port 8080 taken" 8080 $products python3 -c "$(server pass)"
shared held_out port-node "node finds port 8080 taken" 8080 \
    $products node -e 'require("http").createServer().listen(8080,"0.0.0.0")'
shared rules port-postgres "postgres finds port 5432 taken" 5432 --entrypoint bash $postgres \
    -c 'initdb -D /tmp/d >/dev/null; exec postgres -D /tmp/d -c listen_addresses=0.0.0.0'

# ---- disk ---------------------------------------------------------------------------------------------------------
ends rules disk_full disk-dd "a small tmpfs is full" \
    --tmpfs /data:size=1m $products sh -c 'dd if=/dev/zero of=/data/x bs=1M count=9 || exit 3'
ends held_out disk_full disk-postgres "initdb on a tmpfs that is too small" \
    --tmpfs /data:size=8m,uid=999,gid=999 -e POSTGRES_PASSWORD=x -e PGDATA=/data/p $postgres
ends held_out disk_full disk-python "python writes on a tmpfs that is too small" \
    --tmpfs /data:size=1m $products python3 -c 'open("/data/x","wb").write(b"x"*10**7)'
ends rules read_only readonly-nginx "nginx in a read-only container" --read-only $products nginx -g 'daemon off;'
ends held_out read_only readonly-python "python in a read-only container" \
    --read-only $products python3 -c 'open("/var/cache/state.db","w")'
ends held_out read_only readonly-prometheus "prometheus in a read-only container" \
    --read-only --user 0 nexus/prometheus:2.53-debian --config.file=/dev/null --storage.tsdb.path=/data

# ---- dependencies -------------------------------------------------------------------------------------------------
if want refused-python; then
    run db --network $project --network-alias db $products sleep 99
    run refused-python --network $project $products python3 -c 'import socket; socket.create_connection(("db",5432))'
    keep rules dependency_down refused-python exited "python connects to a host where nothing listens"
fi
if want refused-node; then
    run db --network $project --network-alias db $products sleep 99
    run refused-node --network $project $products node -e 'require("net").connect(5432,"db")'
    keep held_out dependency_down refused-node exited "node connects to a host where nothing listens"
fi
if want refused-psql; then
    run db --network $project --network-alias db $products sleep 99
    probed 'test -e /nothing'
    run refused-psql "${check[@]}" --network $project --entrypoint sh $postgres -c \
        'while :; do psql -h db -U shop -c "select 1"; sleep 0.5; done'
    keep held_out dependency_down refused-psql unhealthy "psql tries again and again to connect where nothing listens"
fi
if want stopped-dependency; then
    run db $products sh -c 'exit 1'
    probed 'test -e /nothing'
    run stopped-dependency "${check[@]}" --network $project \
        --label com.docker.compose.depends_on=db:service_started:false \
        $products sh -c 'while :; do curl -sS http://db:5432/; sleep 0.5; done'
    keep rules dependency_down stopped-dependency unhealthy "the service that it depends on has ended; it can't resolve its name"
fi
if want stopped-dependency-silent; then
    run db $products sh -c 'exit 1'
    probed 'echo not ready; exit 1'
    run stopped-dependency-silent "${check[@]}" \
        --label com.docker.compose.depends_on=db:service_started:false $products sh -c 'echo working; sleep 99'
    keep held_out dependency_down stopped-dependency-silent unhealthy "the service that it depends on has ended; it says nothing of it"
fi
ends rules name_not_resolved unresolved-psql "psql looks for a host that is not there" \
    --network $project --entrypoint psql $postgres -h db -U shop
ends held_out name_not_resolved unresolved-nginx "nginx has an upstream that is not there" --network $project $products \
    sh -c 'echo "events {} http { server { location / { proxy_pass http://api:80; } } }" >/tmp/c; nginx -c /tmp/c -g "daemon off;"'
ends held_out name_not_resolved unresolved-node "node looks for a host that is not there" \
    --network $project $products node -e 'require("net").connect(5432,"db.internal")'
ends held_out name_not_resolved unresolved-python "python looks for a host that is not there" \
    --network $project $products python3 -c 'import socket; socket.create_connection(("broker",1883))'

# ---- probes -------------------------------------------------------------------------------------------------------
probed 'curl -sf http://127.0.0.1:8080/'
busy="$(server 'sum(i for i in range(10**12))')"
ails rules busy busy-python "a server of one thread computes for ever" $products python3 -c "$busy"
ails held_out busy busy-node "node's loop is blocked by a computation" $products node -e \
    'require("http").createServer(()=>{for(;;);}).listen(8080); console.log("up")'
ails held_out busy busy-limited "a server computes with a tenth of a processor" --cpus 0.1 $products python3 -c "$busy"
ails rules hangs hangs-python "a server waits for ever" $products python3 -c "$(server 'time.sleep(999)')"
ails held_out hangs hangs-node "a server never answers" $products node -e \
    'require("http").createServer(()=>{}).listen(8080); console.log("up")'
if want hangs-stopped; then
    probed 'curl -sf http://127.0.0.1:8080/'
    run hangs-stopped --init "${check[@]}" $products sh -c 'sleep 3 && kill -STOP $(pidof python3) & python3 -c "$0"' "$(server 'self.send_response(200); self.end_headers()')"
    keep held_out hangs hangs-stopped unhealthy "its process is stopped with SIGSTOP"
fi
probed 'curl -sSf -o /dev/null http://127.0.0.1:8080/health'
ails rules answers_with_error error-500 "a server answers 500" $products python3 -c "$(server 'self.send_error(500)')"
ails held_out answers_with_error error-404 "a server does not know the path of the probe" $products node -e \
    'require("http").createServer((q,a)=>{a.statusCode=404;a.end()}).listen(8080)'
probed 'python3 -c "import urllib.request as u; u.urlopen(\"http://127.0.0.1:8080/\")"' 3s
ails held_out answers_with_error error-503-nginx "nginx answers 503, and the probe is python's" $products \
    sh -c 'echo "events {} http { server { listen 8080; location / { return 503; } } }" >/tmp/c; nginx -c /tmp/c -g "daemon off;"'
probed 'wget -q http://127.0.0.1/'
ails rules probe_broken probe-missing "the program of the probe is not there" $products sleep 99
probed '/etc/passwd'
ails held_out probe_broken probe-no-permission "the program of the probe is not executable" $products sleep 99
probed '/app/health.sh'
ails held_out probe_broken probe-script-missing "the script of the probe is not there" $products sleep 99
probed 'curl -sSf http://127.0.0.1:80/'
ails rules not_listening not-listening-nginx "the probe asks another port than nginx listens on" $products \
    sh -c 'echo "events {} http { server { listen 8080; } }" >/tmp/c; nginx -c /tmp/c -g "daemon off;"'
probed 'redis-cli -p 6380 ping'
ails held_out not_listening not-listening-redis "redis-cli asks another port than redis listens on" $products redis-server
probed 'pg_isready -h 127.0.0.1 -p 5433'
ails held_out not_listening not-listening-postgres "pg_isready asks another port than postgres listens on" \
    -e POSTGRES_PASSWORD=x -e PGDATA=/tmp/data $postgres

# ---- permissions, files, configuration, credentials ---------------------------------------------------------------
ends rules permission_denied permission-nginx "nginx may not write its files" --user 1000 $products nginx -g 'daemon off;'
ends held_out permission_denied permission-python "python may not read a file" \
    --user 1000 $products python3 -c 'open("/etc/shadow")'
ends held_out permission_denied permission-redis "redis may not write its data" \
    --user 1000 $products sh -c 'cd /root 2>/dev/null || cd /usr; exec redis-server --appendonly yes'
ends held_out permission_denied permission-postgres "postgres may not create its folder" \
    -e POSTGRES_PASSWORD=x -e PGDATA=/root/data $postgres
ends rules file_missing module-python "a module of python is missing" $products python3 -c 'import flask'
ends held_out file_missing module-node "a module of node is missing" $products node -e 'require("express")'
ends held_out file_missing script-node "the program that node is to run is missing" $products node /app/server.js
ends held_out file_missing config-prometheus "prometheus does not find its configuration" \
    nexus/prometheus:2.53-debian --config.file=/etc/none.yml --storage.tsdb.path=/tmp/data
ends rules configuration config-nginx "a directive that nginx does not know" $products \
    sh -c 'echo "evnets {}" >/tmp/c; nginx -c /tmp/c -g "daemon off;"'
ends rules configuration config-prometheus-yaml "a mistake in prometheus.yml" --entrypoint sh nexus/prometheus:2.53-debian \
    -c 'echo "scrape_configs: {a: b}" >/tmp/c.yml; exec prometheus --config.file=/tmp/c.yml --storage.tsdb.path=/tmp/data'
ends held_out configuration config-alertmanager "a mistake in alertmanager.yml" --entrypoint sh nexus/alertmanager:0.28-debian \
    -c 'echo "route: {receiver: nobody}" >/tmp/c.yml; exec alertmanager --config.file=/tmp/c.yml --storage.path=/tmp'
ends rules configuration config-redis "a setting that redis does not know" \
    $products redis-server --maxmemory-polcy allkeys-lru
ends held_out configuration config-haproxy "a keyword that haproxy does not know" --entrypoint sh nexus/haproxy:3.0-debian \
    -c 'printf "global\n  maxcon 5\n" >/tmp/c; exec haproxy -f /tmp/c'
ends held_out configuration config-mosquitto "a setting that mosquitto does not know" $products \
    sh -c 'echo "listner 1883" >/tmp/c; exec mosquitto -c /tmp/c'
ends held_out configuration config-password "postgres is given no password for its first start" $postgres
ends rules configuration config-shell "a shell script misses a variable" $products sh -c ': "${DATABASE_URL:?must be set}"'
if want credentials-psql; then
    run db --network $project --network-alias db -e POSTGRES_PASSWORD=right -e PGDATA=/tmp/data $postgres
    for _ in $(seq 100); do docker exec diag-db pg_isready -q && break; sleep 0.1; done
    run credentials-psql --network $project -e PGPASSWORD=wrong --entrypoint psql $postgres -h db -U postgres
    keep rules credentials_refused credentials-psql exited "psql with a wrong password"
fi
if want credentials-redis; then
    run cache --network $project --network-alias cache $products redis-server --protected-mode no --requirepass right
    probed 'test -e /nothing'
    sleep 1
    run credentials-redis "${check[@]}" --network $project $products \
        sh -c 'while :; do redis-cli -h cache --no-auth-warning -a wrong incr x; sleep 0.5; done'
    keep held_out credentials_refused credentials-redis unhealthy "redis-cli with a wrong password, again and again"
fi

# ---- data ---------------------------------------------------------------------------------------------------------
standby='initdb -D /tmp/d >/dev/null; touch /tmp/d/standby.signal
exec postgres -D /tmp/d -c hot_standby=off -c restore_command=false'
probed 'pg_isready -h /tmp' 3s
check+=(--health-start-period 20s)
ails rules slow_start recovery-postgres "postgres is in recovery, where it is kept" --entrypoint bash $postgres \
    -c "$standby -c unix_socket_directories=/tmp"
probed 'psql -h /tmp -U postgres -c "select 1"' 3s
check+=(--health-start-period 20s)
ails rules slow_start recovery-postgres-psql "the same, and the probe is psql" --entrypoint bash $postgres \
    -c "$standby -c unix_socket_directories=/tmp"
loading='redis-server --save "" --daemonize yes --dir /tmp >/dev/null; sleep 1
for i in $(seq 20000); do echo "set k$i v"; done | redis-cli >/dev/null
redis-cli save >/dev/null; redis-cli shutdown nosave; sleep 1
exec redis-server --dir /tmp --key-load-delay 10000 --loading-process-events-interval-bytes 1024'
probed 'redis-cli ping | grep -q PONG || { redis-cli ping; exit 1; }' 3s
check+=(--health-start-period 20s)
ails held_out slow_start loading-redis "redis loads its data, slowed down on purpose" $products bash -c "$loading"
ends rules data_damaged damaged-redis "the file of redis is not one of redis" $products \
    sh -c 'echo nonsense-nonsense >/tmp/dump.rdb; cd /tmp; exec redis-server'
ends held_out data_damaged damaged-postgres "the write-ahead log of postgres is gone" --entrypoint bash $postgres \
    -c 'initdb -D /tmp/d >/dev/null; rm -f /tmp/d/pg_wal/0*; exec postgres -D /tmp/d'
ends held_out data_of_other_version version-postgres "the data of postgres is of version 13" --entrypoint bash $postgres \
    -c 'initdb -D /tmp/d >/dev/null; echo 13 >/tmp/d/PG_VERSION; exec postgres -D /tmp/d'
ends rules data_locked locked-postgres "another postgres runs on the same data" --entrypoint bash $postgres \
    -c 'initdb -D /tmp/d >/dev/null; postgres -D /tmp/d -k /tmp >/dev/null 2>&1 & while [ ! -e /tmp/d/postmaster.pid ]; do sleep 0.1; done; sleep 1; postgres -D /tmp/d -k /tmp -p 5433; exit $?'
# ---- Docker -------------------------------------------------------------------------------------------------------
if want mount-missing; then
    mkdir "$work/source"
    make mount-missing --mount "type=bind,source=$work/source,target=/data" $products sleep 99
    rmdir "$work/source"
    start mount-missing
    keep rules mount_failed mount-missing created "the folder that is mounted is gone"
fi
if want mount-not-a-folder; then
    mkdir -p "$work/folder"
    make mount-not-a-folder -v "$work/folder:/etc/passwd" $products sleep 99
    start mount-not-a-folder
    keep held_out mount_failed mount-not-a-folder created "a folder is mounted over a file"
fi
if want device-missing; then
    mknod "$work/ttyUSB0" c 188 0
    make device-missing --device "$work/ttyUSB0:/dev/ttyUSB0" $products sleep 99
    rm "$work/ttyUSB0"
    start device-missing
    keep held_out device_missing device-missing created "the device was unplugged"
fi
if want network-stopped; then
    make network-stopped-vpn $products sleep 99
    make network-stopped --network container:diag-network-stopped-vpn $products sleep 99
    start network-stopped
    keep rules network_missing network-stopped created "the container whose network it shares does not run"
fi
if want network-removed; then
    docker network create $project-gone >/dev/null
    make network-removed --network $project-gone $products sleep 99
    docker network rm $project-gone >/dev/null
    start network-removed
    keep held_out network_missing network-removed created "its network was removed"
fi

# ---- a run that Docker has lost -----------------------------------------------------------------------------------
# In a daemon of its own, as root: it is killed while the container runs, and comes back with what it had written down before the
# start, as when it is killed in the moment after one. `docker start` runs into the run that goes on.
lost_run() (
    own=$work/own
    mkdir -p "$own"
    echo '{}' >"$own/daemon.json"
    come_back() {
        rm -f "$own/pid" "$own/exec/containerd/containerd.pid"
        unshare --net dockerd --host="unix://$own/docker.sock" --data-root="$own/data" --exec-root="$own/exec" \
            --pidfile="$own/pid" --config-file="$own/daemon.json" --cgroup-parent=/$project --bridge=none --iptables=false \
            --ip-forward=false --ip-masq=false --ip6tables=false >>"$own/log" 2>&1 &
        daemon=$!
        for _ in $(seq 300); do docker --host "unix://$own/docker.sock" version >/dev/null 2>&1 && return; sleep 0.2; done
        echo "the daemon does not answer" >&2
    }
    # Its shims outlive it, know it by its folder, and their children are its containers.
    # shellcheck disable=SC2317 # the trap calls it
    bury() {
        kill "$daemon"
        wait "$daemon"
        local line pid
        for line in /proc/[0-9]*/cmdline; do
            grep -qs "$own/" "$line" || continue
            pid=${line//[!0-9]/}
            # shellcheck disable=SC2046 # a list of ids
            kill -9 $(cat "/proc/$pid/task/$pid/children") "$pid"
        done
        awk -v own="$own/" 'index($2, own) == 1 { print $2 }' /proc/self/mounts | xargs -r umount --lazy
    } 2>/dev/null
    trap bury EXIT
    come_back
    docker save nexus/debian:trixie | docker --host "unix://$own/docker.sock" load >/dev/null
    export DOCKER_HOST=unix://$own/docker.sock NEXUS_DOCKER_SOCKET=$own/docker.sock
    make lost-run --network none nexus/debian:trixie sh -c 'echo working; sleep 999'
    id=$(docker inspect -f '{{.Id}}' diag-lost-run) || return
    works() { for _ in $(seq 100); do [ "$(docker logs diag-lost-run | grep -c working)" = "$1" ] && break; sleep 0.1; done; }
    start lost-run
    works 1
    docker stop --time 0 diag-lost-run >/dev/null
    cp "$own/data/containers/$id/config.v2.json" "$work/before"
    start lost-run
    works 2
    kill -9 "$daemon"
    wait "$daemon" 2>/dev/null
    # Its containerd ends with it.
    for _ in $(seq 100); do [ -e "/proc/$(cat "$own/exec/containerd/containerd.pid")" ] || break; sleep 0.1; done
    cp "$work/before" "$own/data/containers/$id/config.v2.json"
    come_back
    start lost-run
    keep rules lost_run lost-run exited "docker was killed in the moment after a start, and has lost the run that goes on"
)
if want lost-run; then lost_run; fi

# ---- a new image --------------------------------------------------------------------------------------------------
# changed SET NAME ABOUT COMMAND: the service had another image before, and Docker restarts it.
changed() {
    local set=$1 name=$2 about=$3 command=$4
    want "$name" || return
    make "$name-before" $postgres true
    run "$name" --restart on-failure:3 $products sh -c "$command"
    keep "$set" new_image "$name" exited "$about" "diag-$name-before"
}
changed rules new-image "it exits with code 3 since it got another image" 'sleep 0.2; exit 3'
changed held_out new-image-python "python stops at an exception since it got another image" \
    'python3 -c "{}[1]"'

# ---- errors of its own --------------------------------------------------------------------------------------------
ends rules application_error error-python "an exception of python" $products python3 -c '{}["price"]'
ends rules application_error error-node "an exception of node" $products node -e 'undefined.price'

# ---- what nothing tells -------------------------------------------------------------------------------------------
ends rules unknown silent "it exits with code 1 without a word" $products sh -c 'exit 1'
ends held_out unknown chatter "it says good-bye and exits with code 3" $products sh -c 'echo hello; echo good-bye; exit 3'
probed 'exit 1'
ails rules unknown probe-silent "its probe fails without a word" $products sh -c 'echo working; sleep 99'
ails held_out unknown misleading-oom "its probe fails without a word, and its log tells of the memory of others" $products \
    sh -c 'echo "INFO out of memory killer score is adjusted"; echo "INFO customer 7: their printer is out of memory"; sleep 99'
ends rules unknown misleading-survived "it came through an error before it ended for another reason" $products \
    sh -c 'echo "ERROR connection refused, retrying"; echo "connected to db"; echo "job 17 ended"; exit 2'
ends held_out unknown misleading-info "its log quotes an error at the level of information" $products \
    sh -c 'echo "[info] see the manual on: Address already in use"; echo "level=debug msg=\"no such host is normal\""; exit 4'
ends held_out unknown misleading-ticket "its log quotes an error of somebody else, as an error" $products \
    sh -c 'echo "ERROR could not mail ticket 4711: \"our printer says no space left on device\""; echo "giving up"; exit 1'
probed 'echo "queue too long: 500 > 100"; exit 1'
ails held_out unknown misleading-number "its probe speaks of a number that looks like an HTTP status" $products \
    sh -c 'echo working; sleep 99'
ends held_out unknown misleading-old "an error long before a good life" $products \
    sh -c 'echo "bind: Address already in use, trying the next port"; echo "listening on 8081"; echo "shutting down: license"; exit 1'

# ---- the second part, written after the rules had been mended by what the first had shown --------
ends held_out data_locked locked-sqlite "another connection is writing to a database of SQLite" $products python3 -c '
import sqlite3
sqlite3.connect("/tmp/x.db", isolation_level=None).execute("create table t (a)")
one = sqlite3.connect("/tmp/x.db", isolation_level=None); one.execute("begin exclusive")
sqlite3.connect("/tmp/x.db", timeout=0.1).execute("insert into t values (1)")'
ends held_out out_of_memory oom-node "node takes more than its limit of 48 MiB" --memory 48m --memory-swap 48m \
    $products node -e 'const a=[]; for(;;) a.push(Buffer.alloc(1e6,1))'
if want oom-redis; then
    run oom-redis --memory 24m --memory-swap 24m $products redis-server --save ''
    sleep 1
    docker exec diag-oom-redis redis-cli debug jmap >/dev/null 2>&1
    docker exec diag-oom-redis sh -c \
        'v=$(head -c 100000 /dev/zero | tr "\0" x); for i in $(seq 2000); do echo "set k$i $v"; done | redis-cli' >/dev/null 2>&1
    keep held_out out_of_memory oom-redis exited "redis is filled beyond the limit of its container"
fi
shared held_out port-haproxy "haproxy finds port 8080 taken" 8080 --entrypoint sh nexus/haproxy:3.0-debian -c \
    'printf "defaults\n mode http\n timeout client 1s\n timeout server 1s\n timeout connect 1s\nfrontend f\n bind :8080\n" >/tmp/c; exec haproxy -db -f /tmp/c'
shared held_out port-prometheus "prometheus finds port 9090 taken" 9090 --entrypoint sh nexus/prometheus:2.53-debian -c \
    'echo >/tmp/c.yml; exec prometheus --config.file=/tmp/c.yml --storage.tsdb.path=/tmp/data'
shared held_out port-alertmanager "alertmanager finds port 9093 taken" 9093 --entrypoint sh nexus/alertmanager:0.28-debian -c \
    'printf "route: {receiver: a}\nreceivers: [{name: a}]\n" >/tmp/c.yml; exec alertmanager --config.file=/tmp/c.yml --storage.path=/tmp --cluster.listen-address='
ends held_out disk_full disk-node "node writes on a tmpfs that is too small" --tmpfs /data:size=1m \
    $products node -e 'require("fs").writeFileSync("/data/x", Buffer.alloc(1e7))'
ends held_out read_only readonly-node "node in a read-only container" --read-only \
    $products node -e 'require("fs").writeFileSync("/var/cache/x", "1")'
if want refused-perl; then
    run db --network $project --network-alias db $products sleep 99
    run refused-perl --network $project $products perl -MSocket -e \
        'socket(S,2,1,0); connect(S, sockaddr_in(5432, inet_aton("db"))) or die "cannot reach the database: $!\n"'
    keep held_out dependency_down refused-perl exited "perl connects to a host where nothing listens"
fi
if want refused-curl; then
    run api --network $project --network-alias api $products sleep 99
    probed 'test -e /nothing'
    run refused-curl "${check[@]}" --network $project $products sh -c 'while :; do curl -sS http://api:8080/; sleep 0.5; done'
    keep held_out dependency_down refused-curl unhealthy "curl tries again and again where nothing listens"
fi
probed 'test -e /nothing'
ails held_out name_not_resolved unresolved-curl "curl tries again and again to resolve a name" --network $project \
    $products sh -c 'while :; do curl -sS http://weather.invalid/; sleep 0.5; done'
ends held_out name_not_resolved unresolved-haproxy "haproxy has a server that is not there" --network $project \
    --entrypoint sh nexus/haproxy:3.0-debian -c \
    'printf "defaults\n mode http\n timeout client 1s\n timeout server 1s\n timeout connect 1s\nfrontend f\n bind :8080\n default_backend b\nbackend b\n server s api:80\n" >/tmp/c; exec haproxy -db -f /tmp/c'
probed 'curl -sf http://127.0.0.1:8080/'
ails held_out hangs hangs-nginx "nginx passes to a server that never answers" $products sh -c \
    'node -e "require(\"http\").createServer(()=>{}).listen(9000)" & echo "events {} http { server { listen 8080; location / { proxy_pass http://127.0.0.1:9000; } } }" >/tmp/c; nginx -c /tmp/c -g "daemon off;"'
probed 'curl -sSf http://127.0.0.1:8080/'
ails held_out answers_with_error error-502-nginx "nginx passes to a server that is not there" $products sh -c \
    'echo "events {} http { server { listen 8080; location / { proxy_pass http://127.0.0.1:9000; } } }" >/tmp/c; nginx -c /tmp/c -g "daemon off;"'
ails held_out not_listening not-listening-node "node listens on another port than the probe asks" $products \
    node -e 'require("http").createServer((q,a)=>a.end()).listen(3000); console.log("ready on 3000")'
probed 'python4 /app/health.py'
ails held_out probe_broken probe-python "the probe names a program that is not there" $products sleep 99
ends held_out permission_denied permission-prometheus "prometheus may not write its data" --entrypoint sh \
    nexus/prometheus:2.53-debian -c 'echo >/tmp/c.yml; exec prometheus --config.file=/tmp/c.yml --storage.tsdb.path=/data'
ends held_out permission_denied permission-node "node may not read a file" --user 1000 \
    $products node -e 'require("fs").readFileSync("/etc/shadow")'
ends held_out file_missing script-perl "the program that perl is to run is missing" $products perl /app/main.pl
ends held_out file_missing library-nginx "a library of nginx is missing" $products \
    sh -c 'rm -f /usr/lib/*/libpcre2-8.so*; exec nginx -g "daemon off;"'
ends rules configuration config-nginx-semicolon "a semicolon is missing in nginx.conf" $products \
    sh -c 'echo "events {} http { server { listen 80 } }" >/tmp/c; nginx -c /tmp/c -g "daemon off;"'
ends held_out configuration config-postgres "a setting that postgres does not know" --entrypoint bash $postgres \
    -c 'initdb -D /tmp/d >/dev/null; exec postgres -D /tmp/d -c shared_bufers=16MB'
ends held_out configuration config-flag-prometheus "a flag that prometheus does not know" \
    nexus/prometheus:2.53-debian --storge.tsdb.path=/tmp/data
ends held_out configuration config-env-python "python misses an environment variable" $products python3 -c \
    'import os; os.environ["DATABASE_URL"]'
ends rules configuration config-node-json "node reads a configuration that is not JSON" $products sh -c \
    'echo "{port: 80" >/tmp/config.json; exec node -e "JSON.parse(require(\"fs\").readFileSync(\"/tmp/config.json\"))"'
ends rules data_damaged damaged-sqlite "a database of SQLite is damaged" $products sh -c \
    'head -c 9000 /dev/urandom >/tmp/x.db; exec python3 -c "import sqlite3; sqlite3.connect(\"/tmp/x.db\").execute(\"select * from t\")"'
ends held_out data_of_other_version version-redis "the file of redis is of a later version" $products sh -c \
    'printf "REDIS0099\372\011redis-ver\0059.9.9\377AAAAAAAA" >/tmp/dump.rdb; cd /tmp; exec redis-server'
ends held_out terminated sigint "a process is interrupted" $products bash -c '(kill -INT $BASHPID; sleep 5); exit 130'
ends held_out unknown license "it says something of its own and exits with code 42" $products \
    sh -c 'echo "trial period is over"; exit 42'
probed 'echo "latency 3.2 s is more than 2 s"; exit 1'
ails held_out unknown probe-of-its-own "its probe says something of its own" $products sh -c 'echo working; sleep 99'
ends held_out unknown misleading-upload "it went on after an upload had failed, and ends for a reason that it does not tell" $products \
    sh -c 'echo "ERROR upload failed: 500 Internal Server Error"; echo "INFO upload succeeded at the second try"; exit 9'
changed held_out new-image-node "node ends with code 1 without a word since it got another image" 'node -e "process.exit(1)"'
