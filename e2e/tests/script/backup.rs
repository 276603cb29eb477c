//! `./nexus backup`, `restore` and `uninstall`, as far as they go without a stack.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::Checkout;

/// What Docker says of a stack that runs. `calls` has what it was told.
const RUNS: &str = "#!/bin/sh
echo \"$*\" >>\"$(dirname \"$0\")/calls\"
case \" $* \" in
*' ps --status running --services '*) printf 'healer\\npostgres\\n' ;;
*' journal copy '*) printf 'a journal' ;;
*' pg_dump '*) printf 'a dump' ;;
*' pg_restore '*) [ \"$(cat)\" = 'a dump' ] ;;
*refinery*) echo 5 ;;
*' psql '*) echo 12 ;;
esac
";

impl Checkout {
    /// With a stack that can be saved.
    fn running() -> Checkout {
        let checkout = Checkout::new();
        checkout.docker(RUNS);
        checkout.write("Cargo.toml", "[workspace.package]\nversion = \"0.2.0\"\n");
        checkout.write("migrations/V5__reader.sql", "");
        checkout.write("migrations/V12__later.sql", "");
        checkout.write(".env", "NEXUS_HOST=pi\nNEXUS_IMAGE_NEXUS=nexus/nexus:0.2.0\n");
        checkout.write("secrets/cli/token", "hush");
        checkout.write("policy/healer.yml", "default: shadow\n");
        checkout.program("bin/nexus-healer", "#!/bin/sh\necho 'schema 3, 12 incidents, 1 of them open, 2 switches'\n");
        // As on a host where the owner may do everything.
        checkout.program("path/sudo", "#!/bin/sh\n[ \"$1\" = -n ] && shift\n[ \"$1\" = -v ] || exec \"$@\"\n");
        checkout
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        self.write(name, text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs bash in the checkout.
    fn bash(&self, script: &str) -> String {
        let output = Command::new("bash").args(["-euc", script]).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What Docker was told since the last time that may change something.
    fn changes(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("path/calls")).unwrap_or_default();
        _ = fs::remove_file(self.path("path/calls"));
        let reads = [" ps ", "info", " ls ", " exec "];
        let changes = |call: &&str| !reads.iter().any(|read| format!(" {call} ").contains(read));
        calls.lines().filter(changes).map(str::to_owned).collect()
    }

    /// A backup as it is written, then changed by a script that runs where it is unpacked, and packed again with its checksums.
    fn altered(&self, script: &str) -> PathBuf {
        let (file, whole) = (self.path("altered.tar"), self.path("whole.tar"));
        if !whole.exists() {
            let output = self.nexus(&["backup", whole.to_str().unwrap()]);
            assert!(output.status.success(), "{output:?}");
            self.changes();
        }
        fs::copy(whole, &file).unwrap();
        let parts = "database.dump journal.db env secrets.tar policy.tar state.tar";
        self.bash(&format!(
            "rm -rf unpacked; mkdir unpacked; cd unpacked; tar -xf ../altered.tar\n\
             sums() {{ for part in {parts}; do sed -i \"s/^sha256 $part .*/sha256 $part $(sha256sum <$part | cut -d ' ' -f 1)/\" manifest; done; }}\n\
             pack() {{ tar -cf ../altered.tar manifest {parts}; }}\n\
             {script}"
        ));
        file
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_backup_is_one_private_file_with_all_its_parts() {
    let checkout = Checkout::running();
    let file = checkout.path("my backup.tar");
    let output = checkout.nexus(&["backup", file.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("has the incidents (12) with their history"), "{said}");
    assert_eq!(said.matches("passwords").count(), 1, "{said}");
    assert!(said.ends_with(&format!("./nexus restore {}\n", file.display())), "{said}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!checkout.path("my backup.tar.partial").exists());
    let names = checkout.bash("tar -tf 'my backup.tar'");
    assert_eq!(names, "manifest\ndatabase.dump\njournal.db\nenv\nsecrets.tar\npolicy.tar\nstate.tar\n");
    let content = checkout
        .bash("tar -xOf 'my backup.tar' secrets.tar | tar -xO ./cli/token; tar -xOf 'my backup.tar' env journal.db");
    assert_eq!(content, "husha journalNEXUS_HOST=pi\nNEXUS_IMAGE_NEXUS=nexus/nexus:0.2.0\n");
    let manifest = checkout.bash("tar -xOf 'my backup.tar' manifest");
    for line in ["nexus backup 1\n", "\nversion 0.2.0\n", "\nhost pi\n", "\nschema 5\n", "\nincidents 12\n"] {
        assert!(format!("\n{manifest}").contains(line), "{manifest}");
    }
    // Nothing secret is left on the way, and nothing but reading was done.
    assert_eq!(checkout.bash("find cache/nexus -name 'backup.*' ! -name backup.lock"), "");
    assert_eq!(checkout.changes(), [""; 0]);
}

#[test]
fn without_a_name_it_is_called_after_host_and_time_and_a_dash_is_stdout() {
    let checkout = Checkout::running();
    let output = checkout.nexus(&["backup"]);
    assert!(output.status.success(), "{output:?}");
    let made = checkout.bash("ls backups");
    assert!(made.starts_with("nexus-pi-20") && made.trim_end().ends_with(".tar"), "{made}");
    assert_eq!(checkout.bash("stat -c %a backups").trim(), "700");

    let output = checkout.nexus(&["backup", "-"]);
    assert!(output.status.success() && told(&output).contains("passwords"), "{}", told(&output));
    fs::write(checkout.path("out.tar"), output.stdout).unwrap();
    assert!(checkout.bash("tar -tf out.tar").starts_with("manifest\n"));
}

#[test]
fn a_backup_that_fails_leaves_no_file_and_an_older_one_alone() {
    let checkout = Checkout::running();
    checkout.write("old.tar", "an older one");
    let check = |broken: (&str, &str), arguments: &[&str], code: i32, says: &str| {
        checkout.docker(&RUNS.replace(broken.0, broken.1));
        let arguments: Vec<String> =
            arguments.iter().map(|it| it.replace("HERE", checkout.path("").to_str().unwrap())).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = checkout.nexus(&[&["backup"], &arguments[..]].concat());
        assert!(told(&output).contains(says), "{arguments:?}: {:?} lacks {says:?}", told(&output));
        assert_eq!(output.status.code(), Some(code), "{}", told(&output));
        assert!(output.stdout.is_empty() || arguments != ["-"], "{output:?}");
        assert_eq!(
            checkout
                .bash("ls; cat old.tar; find cache/nexus -name 'backup.*' ! -name backup.lock")
                .matches(".tar")
                .count(),
            1
        );
        assert_eq!(checkout.bash("cat old.tar"), "an older one");
    };
    let well = ("nothing", "nothing");
    let dies = ("printf 'a dump'", "echo 'pg_dump: error: out of memory' >&2; printf 'a d'; exit 1");
    check(dies, &["HERE/new.tar"], 1, "incidents and history failed");
    check(dies, &["HERE/new.tar"], 1, "pg_dump: error: out of memory");
    check(dies, &["HERE/old.tar"], 1, "out of memory");
    check(dies, &["-"], 1, "out of memory");
    check(("printf 'a dump'", "printf 'a du'"), &["HERE/new.tar"], 1, "incidents and history failed");
    check(("printf 'a journal'", "exit 137"), &["HERE/new.tar"], 1, "journal of the healer failed");
    check(
        ("'healer\\npostgres\\n'", "'healer\\n'"),
        &["HERE/new.tar"],
        1,
        "postgres does not run, and only what runs can be saved: ./nexus up starts it",
    );
    check(("printf 'healer\\npostgres\\n'", "true"), &["HERE/new.tar"], 1, "./nexus up starts it");
    check(well, &["HERE/none/new.tar"], 2, "there is no folder");
    check(well, &["HERE/policy"], 2, "policy is a folder");
    check(well, &["--all"], 2, "backup does not know \"--all\"");
    check(well, &["a", "b"], 2, "backup takes one file");
    check(well, &[""], 2, "empty file name");
    fs::rename(checkout.path("policy"), checkout.path("away")).unwrap();
    check(well, &["HERE/new.tar"], 1, "there is no folder");
}

#[test]
fn a_backup_that_is_damaged_newer_or_hostile_changes_nothing() {
    let checkout = Checkout::running();
    let before = checkout.bash("cat .env secrets/cli/token policy/healer.yml");
    let refused = |arguments: &[&str], code: i32, says: &str| {
        let output = checkout.nexus(&[&["restore"], arguments].concat());
        let told = told(&output);
        assert!(told.contains(says), "{told:?} lacks {says:?}");
        assert!(!told.contains('\x1b'), "{told:?}");
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(code), &b""[..]), "{told}");
        assert_eq!(checkout.changes(), [""; 0], "{says}");
        assert_eq!(checkout.bash("cat .env secrets/cli/token policy/healer.yml"), before);
        assert_eq!(
            checkout.bash("ls cache/nexus 2>/dev/null | grep '^restore' || true; ls -d backups 2>/dev/null || true"),
            ""
        );
    };
    refused(&[], 2, "restore needs the file that ./nexus backup has made");
    refused(&["--force"], 2, "restore does not know \"--force\"");
    refused(&["a", "b"], 2, "restore takes one file");
    refused(&["/nowhere/a.tar"], 2, "there is no file /nowhere/a.tar");
    refused(&["/"], 2, "/ is no file that can be read");

    let check = |script: &str, says: &str| {
        let file = checkout.altered(script);
        refused(&["--replace", file.to_str().unwrap()], 1, says);
    };
    check("echo nonsense >../altered.tar", "is no backup, or is damaged");
    check(": >../altered.tar", "is no backup, or is damaged");
    check("head -c 3000 ../altered.tar >x; cat x >../altered.tar", "is no backup");
    check("echo x >>database.dump; pack", "database.dump is not what was written");
    check("sed -i '/^sha256 journal.db/d' manifest; pack", "journal.db is not what was written");
    check("tar -cf ../altered.tar manifest env", "is no backup of Nexus: one has manifest");
    check("pack; tar -rf ../altered.tar env", "and nothing else");
    check("touch more; pack; tar -rf ../altered.tar more", "and nothing else");
    check("pack; touch ../x; tar -P -rf ../altered.tar ../x", "and nothing else");
    check(
        "rm env; ln -s /etc/shadow env; tar -cf ../altered.tar manifest database.dump journal.db env secrets.tar policy.tar state.tar",
        "not all in it are plain files",
    );
    check("sed -i 's/^nexus backup 1/nexus backup 2/' manifest; pack", "written by a newer Nexus");
    check("sed -i '1s/.*/\\x1b[31mred/' manifest; pack", "its manifest does not begin as one");
    check(
        "sed -i 's/^version .*/version 0.10.0/' manifest; pack",
        "is of Nexus 0.10.0 (schema 5), and this is 0.2.0 (schema 12): git pull",
    );
    check("sed -i 's/^schema .*/schema 13/' manifest; pack", "(schema 13), and this is 0.2.0 (schema 12)");
    check("sed -i 's/^schema .*/schema a[$(touch x)]/' manifest; pack", "does not say of which version");
    check("sed -i '/^version/d' manifest; pack", "does not say of which version");
    let elsewhere = "has a name in secrets.tar that leads elsewhere";
    check("touch ../x; tar -P -cf secrets.tar ../x; sums; pack", elsewhere);
    check("touch x; tar --transform 's,x,./a/../../x,' -cf secrets.tar x; sums; pack", elsewhere);
    check("tar -P -cf secrets.tar /etc/hostname; sums; pack", elsewhere);
    check("ln -s /etc x; tar -cf state.tar ./x; sums; pack", "something else than files and folders in state.tar");
    check("mkfifo x; tar -cf policy.tar ./x; sums; pack", "something else than files and folders in policy.tar");
    check("echo x >policy.tar; sums; pack", "policy.tar can't be read");
    let file = checkout.altered("echo NEXUS_STACK='../x' >>env; sums; pack");
    refused(&[file.to_str().unwrap()], 2, "a stack with a name that can't be");
}

#[test]
fn a_stack_that_is_here_is_replaced_only_when_asked_and_never_anothers() {
    let checkout = Checkout::running();
    let file = checkout.altered("pack");
    let here = checkout.path("");
    let here = here.to_str().unwrap().trim_end_matches('/');
    let check = |docker: &str, says: &str| {
        checkout.docker(&format!(
            "#!/bin/sh\necho \"$*\" >>\"$(dirname \"$0\")/calls\"\ncase \" $* \" in\n{docker}\nesac\n"
        ));
        let stubs =
            ". setup/backup.sh; prepare_machine() { docker_socket=/; }; prepare_programs() { echo builds; exit 0; }";
        let said = checkout.function(&format!("{stubs}; (restore {}) 2>&1 || true", file.display()));
        assert!(said.contains(says), "{said:?} lacks {says:?}");
        assert_eq!(checkout.changes(), [""; 0]);
    };
    check("*) ;;", "builds");
    check(&format!("*working_dir*) echo {here} ;;\n*' ps '*) echo c1 ;;"), "./nexus restore --replace ");
    check(
        "*' volume ls '*) printf 'nexus_postgres-data\\nnexus_prometheus-data\\n' ;;",
        "a stack nexus is here already",
    );
    // Without what has been recorded there is nothing to lose.
    check("*' volume ls '*) echo nexus_prometheus-data ;;", "builds");
    check("*working_dir*) echo /srv/nexus ;;\n*' ps '*) echo c1 ;;", "a stack nexus runs from /srv/nexus");
    checkout.write(".env", "NEXUS_STACK=second\n");
    check("*=second*) echo c1 ;;", "the stack of this checkout is called second, and that of the backup nexus");
}

#[test]
fn what_is_uninstalled_is_named_first_and_nothing_else_is_touched() {
    let checkout = Checkout::running();
    let home = tempfile::tempdir().unwrap();
    let home = |name: &str| home.path().join(name);
    let here = checkout.path("");
    let here = here.to_str().unwrap().trim_end_matches('/');
    checkout.docker(&format!(
        "#!/bin/sh\necho \"$*\" >>\"$(dirname \"$0\")/calls\"\ncase \" $* \" in\n*working_dir*) echo {here} ;;\n\
         *.Image*) printf 'me/mine:1 \\nnexus/others:1 shop\\nnexus/nexus:0.2.0 nexus\\n' ;;\n\
         *' image ls '*reference=nexus/nexus:0.2.0*) echo nexus/nexus:0.2.0 ;;\n*' image ls '*nexus.content*) printf 'nexus/nexus:0.2.0\\nnexus/others:1\\nnexus/debian:trixie\\n' ;;\n\
         *' image rm nexus/debian:trixie '*) exit 1 ;;\nesac\n"
    ));
    checkout.write("state/tune.json", "{\"records\": [{\"state\": \"applied\"}]}");
    for folder in ["cache/nexus/target", "cache/others", "state/nexus"] {
        fs::create_dir_all(home(folder)).unwrap();
    }
    let run = |arguments: &[&str], more: (&str, &str)| {
        let path = format!("{}:{}", checkout.path("path").display(), std::env::var("PATH").unwrap());
        Command::new("bash")
            .arg(checkout.path("nexus"))
            .arg("uninstall")
            .args(arguments)
            .env("PATH", path)
            .env("XDG_CACHE_HOME", home("cache"))
            .env("XDG_STATE_HOME", home("state"))
            .env(more.0, more.1)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap()
    };
    let none = ("NOTHING", "");
    for (arguments, code, says) in
        [(&[][..], 2, "./nexus uninstall --yes does it"), (&["--now"], 2, "uninstall does not know \"--now\"")]
    {
        let output = run(arguments, none);
        assert_eq!(output.status.code(), Some(code));
        assert!(told(&output).contains(says), "{}", told(&output));
        assert_eq!(checkout.changes(), [""; 0]);
    }
    // A folder that is not one of ours, whatever the environment says.
    let output = run(&["--yes"], ("XDG_STATE_HOME", here));
    assert!(told(&output).contains("does not look like a cache of Nexus"), "{}", told(&output));
    assert_eq!(checkout.changes(), [""; 0]);

    let output = run(&["--yes"], none);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for says in [
        "the stack nexus with its volumes",
        "./nexus tune undo all",
        "kept, since containers use them: nexus/debian:trixie",
    ] {
        assert!(said.contains(says), "{said:?} lacks {says:?}");
    }
    assert!(said.ends_with(&format!("sudo rm -rf {here}\n")), "{said}");
    assert_eq!(
        checkout.changes(),
        [
            "compose --ansi never --profile grafana down --volumes --remove-orphans",
            "image rm nexus/debian:trixie",
            "image rm nexus/nexus:0.2.0",
        ]
    );
    assert!(!home("cache/nexus").exists() && !home("state/nexus").exists() && home("cache/others").exists());
    assert!(checkout.path(".env").exists() && checkout.path("secrets/cli/token").exists());
}
