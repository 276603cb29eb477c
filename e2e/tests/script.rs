//! What `./nexus` itself says, with a docker in its way that only notes what it is told.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "script/backup.rs"]
mod backup;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// A checkout with a stack in it, as far as `./nexus logs` looks.
struct Checkout(tempfile::TempDir);

impl Checkout {
    fn new() -> Checkout {
        let folder = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        fs::create_dir(folder.path().join("setup")).unwrap();
        fs::copy(root.join("nexus"), folder.path().join("nexus")).unwrap();
        for entry in fs::read_dir(root.join("setup")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join("setup").join(entry.file_name())).unwrap();
        }
        fs::write(folder.path().join(".env"), "").unwrap();
        fs::create_dir(folder.path().join("path")).unwrap();
        let checkout = Checkout(folder);
        checkout.docker(
            "#!/bin/sh\ncase \" $* \" in\n*' config --services '*) printf 'prometheus\\nhealer\\n' ;;\n\
            *' ps '*) echo c1 ;;\n*' logs '*) printf '\\033[2K%s\\n' \"$*\" ;;\nesac\n",
        );
        checkout
    }

    /// Puts this in docker's place.
    fn docker(&self, script: &str) {
        let docker = self.0.path().join("path/docker");
        fs::write(&docker, script).unwrap();
        fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a function of the scripts in setup/.
    fn function(&self, call: &str) -> String {
        let sourced = "for file in setup/common.sh setup/stack.sh; do . \"$root/$file\"; done";
        let line =
            format!("set -euo pipefail; root=$PWD cache=$PWD/cache logs=$PWD/cache as_docker=(); {sourced}; {call}");
        let path = format!("{}:{}", self.0.path().join("path").display(), std::env::var("PATH").unwrap());
        let output =
            Command::new("bash").args(["-c", &line]).env("PATH", path).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn nexus(&self, arguments: &[&str]) -> Output {
        let path = format!("{}:{}", self.0.path().join("path").display(), std::env::var("PATH").unwrap());
        Command::new("bash")
            .arg(self.0.path().join("nexus"))
            .args(arguments)
            .env("PATH", path)
            .env("XDG_CACHE_HOME", self.0.path().join("cache"))
            .output()
            .unwrap()
    }
}

#[test]
fn tune_is_handed_on_with_the_checkout_and_only_once_docker_answers() {
    let checkout = Checkout::new();
    let program = checkout.0.path().join("bin/nexus");
    fs::create_dir(program.parent().unwrap()).unwrap();
    fs::write(&program, "#!/bin/sh\necho \"$NEXUS_DIRECTORY $*\"\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let said = |arguments: &[&str]| String::from_utf8(checkout.nexus(arguments).stdout).unwrap();
    let here = checkout.0.path().canonicalize().unwrap();
    assert_eq!(said(&["tune", "apply", "a b", "--yes"]), format!("{} tune apply a b --yes\n", here.display()));
    // Without a stack there is nothing to tune, but help there is.
    fs::remove_file(checkout.0.path().join(".env")).unwrap();
    assert_eq!(said(&["tune"]), "");
    assert_eq!(said(&["tune", "--help"]), format!("{} tune --help\n", here.display()));
}

#[test]
fn logs_of_a_service_that_there_is_not_name_those_that_there_are() {
    let checkout = Checkout::new();
    let check = |arguments: &[&str], expected: Result<&str, &str>| {
        let output = checkout.nexus(&[&["logs"], arguments].concat());
        let (said, failed) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        match expected {
            Ok(end) => {
                assert!(output.status.success() && said.trim_end().ends_with(end), "{arguments:?}: {said}{failed}");
                // Compose begins each line by clearing the terminal's, where there is none, too.
                assert!(said.starts_with("compose "), "{said:?}");
            }
            Err(message) => {
                assert_eq!((failed.trim_end(), said.as_str()), (message, ""), "{arguments:?}");
                assert_eq!(output.status.code(), Some(2));
            }
        }
    };
    check(&[], Ok("logs --tail 100"));
    check(&["-f"], Ok("logs --tail 100 -f"));
    check(&["healer", "prometheus"], Ok("logs --tail 100 healer prometheus"));
    check(&["-n", "5", "--since=1h", "--until", "10m", "healer"], Ok("-n 5 --since=1h --until 10m healer"));
    check(&["-fn", "5", "healer"], Ok("-fn 5 healer"));
    check(&["-tn5", "healer"], Ok("-tn5 healer"));
    check(&["--tail"], Ok("logs --tail 100 --tail"));
    check(&["nosuch"], Err("nexus: no service is called \"nosuch\"; there are healer, prometheus"));
    check(&["healer", "-f", "heal"], Err("nexus: no service is called \"heal\"; there are healer, prometheus"));
    check(&["--tail", "healer", "h.*"], Err("nexus: no service is called \"h.*\"; there are healer, prometheus"));
    checkout.docker("#!/bin/sh\n");
    let output = checkout.nexus(&["logs"]);
    let failed = String::from_utf8(output.stderr).unwrap();
    assert!(failed.ends_with("nexus: no container of the stack is there: ./nexus up starts it\n"), "{failed}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn under_sudo_the_callers_folders_are_used() {
    let checkout = Checkout::new();
    let here = checkout.0.path().canonicalize().unwrap();
    let says = |uid: u32, sudo_uid: &str| {
        let known = format!(
            "id() {{ echo {uid}; }}; getent() {{ echo \"rosa:x:1000:1000::$PWD:/bin/sh\"; }}; HOME=/root SUDO_UID={sudo_uid} SUDO_GID=1000"
        );
        checkout.function(&format!("{known}; stay_the_owners; echo \"$HOME ${{as_owner[*]}}\"; as_owner=()"))
    };
    let owners = format!("{} setpriv --reuid 1000 --regid 1000 --init-groups\n", here.display());
    assert_eq!(says(0, "1000"), owners);
    assert_eq!(says(0, "0"), "/root \n");
    assert_eq!(says(1000, "1000"), "/root \n");
}

#[test]
fn grafana_runs_where_it_can_be_had_unless_it_is_switched_off() {
    let checkout = Checkout::new();
    let runs = |source: &str, settings: &str| {
        fs::write(checkout.0.path().join(".env"), settings).unwrap();
        checkout.function(&format!(". setup/images.sh; image_source={source}; with_grafana && echo yes || echo no"))
    };
    assert_eq!(runs("registry", ""), "yes\n");
    assert_eq!(runs("registry", "NEXUS_GRAFANA=on\n"), "yes\n");
    assert_eq!(runs("registry", "NEXUS_GRAFANA=off\n"), "no\n");
    assert_eq!(runs("debian", "NEXUS_GRAFANA=on\n"), "no\n");
}

#[test]
fn a_mistake_in_the_settings_is_told_before_anything_is_compiled() {
    let checkout = Checkout::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::copy(root.join(".env.example"), checkout.0.path().join(".env.example")).unwrap();
    let told = |settings: &str| {
        fs::write(checkout.0.path().join(".env"), settings).unwrap();
        let said = checkout.function(". setup/host.sh; as_root=(); (check_settings 2>&1) || echo \"rc $?\"");
        said.trim().to_owned()
    };
    for right in ["", "# NEXUS_NONE=1\n", "NEXUS_GRAFANA=off\n", "FOREIGN=1\nNEXUS_QUIET_HOURS=22:00-07:00\n"] {
        assert_eq!(told(right), "", "{right}");
    }
    assert!(told("NEXUS_GRAFANA=maybe\n").ends_with("is neither on nor off\nrc 2"));
    assert!(told("NEXUS_GRAFNA=off\n").contains("has NEXUS_GRAFNA, which is no setting"));
}

#[test]
fn links_to_an_address_that_the_machine_no_longer_has_are_told() {
    let checkout = Checkout::new();
    let told = |url: &str| {
        fs::write(checkout.0.path().join(".env"), format!("NEXUS_PAGE_URL={url}\n")).unwrap();
        let said = checkout.function("hostname() { echo '192.168.1.17 172.17.0.1 '; }; say_where_links_lead");
        (said.lines().count(), said.contains("no address of this machine"))
    };
    assert_eq!(told(""), (0, false));
    assert_eq!(told("http://192.168.1.17:10192"), (1, false));
    assert_eq!(told("https://192.168.1.17"), (1, false));
    assert_eq!(told("http://raspberrypi.local:10192"), (1, false));
    assert_eq!(told("http://192.168.1.1:10192"), (2, true));
    assert_eq!(told("https://192.168.1.1/nexus"), (2, true));
}

#[test]
fn each_command_has_a_help_of_its_own() {
    let checkout = Checkout::new();
    let said = |arguments: &[&str]| {
        let output = checkout.nexus(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for (command, option) in [
        ("up", "--no-lan"),
        ("down", "--volumes"),
        ("backup", "FILE"),
        ("restore", "--replace"),
        ("uninstall", "--yes"),
        ("logs", "--tail N"),
        ("test", "soak"),
    ] {
        for flags in
            [&[command, "--help"][..], &[command, "-h"], &[command, option.split(' ').next().unwrap(), "--help"]]
        {
            let help = said(flags);
            assert!(
                help.starts_with(&format!("Usage: ./nexus {command} ")) && help.contains(option),
                "{flags:?}: {help}"
            );
        }
        let general = said(&["help"]);
        assert!(
            general.starts_with("Usage: ./nexus COMMAND\n") && general.contains(&format!("  {command} ")),
            "{general}"
        );
    }
}

#[test]
fn of_a_start_that_fails_the_worst_service_is_told_with_its_probe_and_its_last_words() {
    let checkout = Checkout::new();
    let check = |states: &str, health: &str, error: &str, told: &[&str]| {
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in\n*' ps '*' --format '*) printf '%b' '{states}' ;;\n*' ps '*) echo 0123 ;;\n\
             *' logs '*) echo \"words of $*\"; echo 'password=hunter2' ;;\n*State.Error*) echo '{error}' ;;\n*' inspect '*) printf '%s\\n' {health} ;;\nesac\n"
        );
        checkout.docker(&script);
        let said = checkout.function("why_not_healthy");
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[lines.len().saturating_sub(told.len())..], *told, "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        said
    };
    let ill = "nexus: the service postgres is not healthy (Up 3 minutes (unhealthy)): ./nexus logs postgres says more; then run ./nexus up again";
    let said = check(
        "alertmanager Created\\nhealer Up 2 minutes (healthy)\\nmigrate Exited (1) 1 minute ago\\npostgres Up 3 minutes (unhealthy)\\n",
        r#"'0 "fine\n"' '2 "no response\n from postgres://u:hunter2@db"'"#,
        "",
        &["password=***", "its health check ended with 2 and said: \"no response from postgres://***@db\"", ill],
    );
    assert!(said.contains("words of compose "), "{said}");
    // One that never started has no probe, but a reason.
    check(
        "healer Up 2 minutes (healthy)\\nprometheus Created\\n",
        "''",
        "port is already allocated",
        &[
            "nexus: the service prometheus is not healthy (Created: port is already allocated): ./nexus logs prometheus says more; then run ./nexus up again",
        ],
    );
    check(
        "healer Created\\nreporter Exited (2) 4 seconds ago\\n",
        "''",
        "",
        &[
            "nexus: the service reporter is not healthy (Exited (2) 4 seconds ago): ./nexus logs reporter says more; then run ./nexus up again",
        ],
    );
    // All are: Compose has said itself what is wrong.
    assert_eq!(check("healer Up 2 minutes (healthy)\\nmigrate Exited (0) 1 minute ago\\n", "''", "", &[]), "");
}

#[test]
fn what_the_owner_exports_for_another_project_is_not_the_stacks() {
    let checkout = Checkout::new();
    checkout.docker("#!/bin/sh\necho \"$*\"\nenv | grep '^COMPOSE_'\ntrue\n");
    let said = checkout.function(
        "export COMPOSE_FILE=/other/compose.yml COMPOSE_PROJECT_NAME=blog COMPOSE_PROFILES=all COMPOSE_ENV_FILES=other.env \
         COMPOSE_PATH_SEPARATOR=, COMPOSE_DISABLE_ENV_FILE=1 COMPOSE_PARALLEL_LIMIT=1; compose ps",
    );
    // What only says how Compose works is left to them.
    assert_eq!(said, "compose --ansi never ps\nCOMPOSE_PARALLEL_LIMIT=1\n");
}

#[test]
fn secrets_in_what_is_shown_are_hidden() {
    let checkout = Checkout::new();
    let check = |line: &str, shown: &str| {
        fs::write(checkout.0.path().join("said"), format!("{line}\n")).unwrap();
        assert_eq!(checkout.function("without_secrets <said").trim_end(), shown, "{line}");
    };
    check("no answer from postgres://u:hun/ter2@db:5432, retry", "no answer from postgres://***@db:5432, retry");
    check("https://hunter2@host/x and a@b", "https://***@host/x and a@b");
    check("http://127.0.0.1:80/readyz: connection refused", "http://127.0.0.1:80/readyz: connection refused");
    check("password=hunter2,hunter2 next", "password=*** next");
    check(r#"{"password": "hunter 2", "port": 1}"#, r#"{"password": ***, "port": 1}"#);
    check("PGPASSWORD='hunter 2' psql", "PGPASSWORD=*** psql");
    check("X-Api-Key: hunter2", "X-Api-Key: ***");
    check("Authorization: Bearer hunter2", "Authorization: Bearer ***");
    check("bot1234567:abcdefghijklmnopqrstuvwxyz-ABCDEF/send", "bot***/send");
    check("exit status 1: no such file", "exit status 1: no such file");
}

#[test]
fn a_secret_where_a_long_probe_is_cut_is_hidden_whole() {
    let checkout = Checkout::new();
    let token = "1234567:abcdefghijklmnopqrstuvwxyz-ABCDEF";
    let before = "x".repeat(370);
    checkout.docker(&format!(
        "#!/bin/sh\ncase \" $* \" in\n*' ps '*' --format '*) echo 'healer Up 2 minutes (unhealthy)' ;;\n*' ps '*) echo 0123 ;;\n\
         *State.Error*) ;;\n*' inspect '*) printf '%s\\n' '1 \"{before} {token} \\\"password\\\": \\\"hunter2\\\"\"' ;;\nesac\n"
    ));
    let said = checkout.function("why_not_healthy");
    assert!(
        said.contains(&format!("{before} ***")) && !said.contains("1234567") && !said.contains("hunter2"),
        "{said}"
    );
}
