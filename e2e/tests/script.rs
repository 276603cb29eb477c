//! What `./nexus` itself says, with a docker in its way that only notes what it is told.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

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
        let docker = folder.path().join("path/docker");
        let script = "#!/bin/sh\ncase \" $* \" in\n*' config --services '*) printf 'prometheus\\nhealer\\n' ;;\n\
            *' logs '*) echo \"$*\" ;;\nesac\n";
        fs::write(&docker, script).unwrap();
        fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
        Checkout(folder)
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
                assert!(output.status.success() && said.trim_end().ends_with(end), "{arguments:?}: {said}{failed}")
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
}
