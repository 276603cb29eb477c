use nexus_reporter::report::recommend::Change;

use super::super::overrides::settings;
use super::*;

/// A project whose one service may be given anything, in a folder with one compose.yml.
fn permitted() -> Facts {
    let container = Container { name: "photos-web-1".into(), ..Container::default() };
    let service = Service { containers: vec![container], ..Service::default() };
    Facts {
        project: "photos".into(),
        working_dir: "/home/pi/photos".into(),
        files: vec!["/home/pi/photos/compose.yml".into()],
        services: [("web".to_owned(), service)].into(),
        docker: "docker",
        as_it_runs: Some(Ok(())),
        ..Facts::default()
    }
}

fn limit(mib: u64) -> Services {
    settings(&[Change::MemoryLimit { service: "web".into(), mib }])
}

fn planned(facts: &Facts) -> Plan {
    plan(facts, &limit(64), &[]).unwrap()
}

#[test]
fn beside_a_file_that_compose_finds_itself_it_is_one_that_it_reads_itself() {
    let check = |first: &str, file: &str| {
        let facts = Facts { files: vec![first.into()], ..permitted() };
        let plan = planned(&facts);
        assert_eq!((plan.done.file.to_str().unwrap(), plan.done.automatic), (file, true), "{first}");
        assert_eq!(plan.before, None);
        assert!(plan.after.ends_with("services:\n  web:\n    mem_limit: 64m\n"), "{}", plan.after);
        assert_eq!(plan.done.files, [PathBuf::from(first)]);
        assert_eq!(plan.notes, ["recreates web: away for some seconds"]);
    };
    check("/home/pi/photos/compose.yml", "/home/pi/photos/compose.override.yml");
    check("/home/pi/photos/compose.yaml", "/home/pi/photos/compose.override.yml");
    check("/home/pi/photos/docker-compose.yml", "/home/pi/photos/docker-compose.override.yml");
}

#[test]
fn an_env_that_names_the_files_is_read() {
    let check = |env: &str, expected: Option<&str>| assert_eq!(compose_file(env), expected, "{env:?}");
    check("", None);
    check("#COMPOSE_FILE=a.yml\nCOMPOSE_FILE_X=b\nMY_COMPOSE_FILE=c\nCOMPOSE_FILE=\n", None);
    check("A=1\nCOMPOSE_FILE=a.yml:b.yml\nB=2", Some("a.yml:b.yml"));
    check("COMPOSE_FILE=a.yml\n export COMPOSE_FILE = \"/x/é b.yml\" \r\n", Some("/x/é b.yml"));
    check("COMPOSE_FILE='a.yml'", Some("a.yml"));
    let named = |value: &str| {
        let it = Named { value: value.into(), place: NamedIn::Shell };
        it.names(Path::new("/p"), Path::new("/p/compose.nexus.yml"))
    };
    assert!(named("compose.yml:compose.nexus.yml") && named("./compose.nexus.yml") && named("/p/compose.nexus.yml"));
    assert!(!named("compose.yml") && !named("/q/compose.nexus.yml"));
}

#[test]
fn where_compose_would_not_read_it_it_is_one_of_its_own_and_that_is_said() {
    let check = |change: &dyn Fn(&mut Facts), file: &str, line: &str| {
        let mut facts = permitted();
        change(&mut facts);
        let plan = planned(&facts);
        assert_eq!((plan.done.file.to_str().unwrap(), plan.done.automatic), (file, false));
        assert!(plan.notes.iter().any(|note| note.ends_with(line)), "{:?}", plan.notes);
        assert!(!plan.done.files.contains(&plan.done.file));
    };
    // Started with -f, from another folder, or with an override file of the owner's, used or not.
    check(
        &|facts| facts.files = vec!["/home/pi/photos/prod.yml".into()],
        "/home/pi/photos/compose.nexus.yml",
        "COMPOSE_FILE=/home/pi/photos/prod.yml:/home/pi/photos/compose.nexus.yml",
    );
    check(
        &|facts| facts.working_dir = "/home/pi".into(),
        "/home/pi/photos/compose.nexus.yml",
        "COMPOSE_FILE=/home/pi/photos/compose.yml:/home/pi/photos/compose.nexus.yml",
    );
    check(
        &|facts| facts.files.push("/home/pi/photos/extra.yml".into()),
        "/home/pi/photos/compose.nexus.yml",
        "extra.yml:/home/pi/photos/compose.nexus.yml",
    );
    let with_override = |facts: &mut Facts, used: bool| {
        let path = PathBuf::from("/home/pi/photos/compose.override.yml");
        facts.found.insert(path.clone(), "services: {web: {init: true}}\n".into());
        facts.files.extend(used.then_some(path));
    };
    check(
        &|facts| with_override(facts, true),
        "/home/pi/photos/compose.nexus.yml",
        "compose.yml:/home/pi/photos/compose.override.yml:/home/pi/photos/compose.nexus.yml",
    );
    check(
        &|facts| with_override(facts, false),
        "/home/pi/photos/compose.nexus.yml",
        "compose.yml:/home/pi/photos/compose.nexus.yml",
    );
}

#[test]
fn where_compose_file_says_what_is_read_it_has_to_name_the_file() {
    let of = |value: &str, place: NamedIn| {
        let facts = Facts { named: Some(Named { value: value.into(), place }), ..permitted() };
        plan(&facts, &limit(64), &[])
    };
    let env = || NamedIn::Env("/home/pi/photos/.env".into());
    let refused = |value: &str, place: NamedIn, told: &[&str]| {
        let why = of(value, place).unwrap_err();
        assert!(told.iter().all(|words| why.contains(words)), "{why}");
    };
    let line = "COMPOSE_FILE=compose.yml:/home/pi/photos/compose.nexus.yml – and";
    refused("compose.yml", env(), &["COMPOSE_FILE in /home/pi/photos/.env says", "in place of the other: ", line]);
    refused("compose.yml", NamedIn::Shell, &["COMPOSE_FILE in your shell says", &format!("export {line}")]);
    refused("a b.yml", env(), &["COMPOSE_FILE='a b.yml:/home/pi/photos/compose.nexus.yml' – and"]);
    // Once it is named, it is read like any other.
    for value in ["compose.yml:compose.nexus.yml", "compose.yml:/home/pi/photos/compose.nexus.yml"] {
        for place in [env(), NamedIn::Shell] {
            let plan = of(value, place).unwrap();
            assert_eq!(
                (plan.done.file.to_str().unwrap(), plan.done.automatic),
                ("/home/pi/photos/compose.nexus.yml", true)
            );
            assert_eq!(plan.notes, ["recreates web: away for some seconds"]);
        }
    }
    // So is the one that Nexus wrote before COMPOSE_FILE came.
    let first = planned(&permitted());
    let mut facts = permitted();
    facts.found.insert(first.done.file.clone(), first.after.clone());
    facts.named = Some(Named { value: "compose.yml:compose.override.yml".into(), place: env() });
    let second = plan(&facts, &limit(96), &[&first.done]).unwrap();
    assert_eq!((&second.done.file, second.done.automatic), (&first.done.file, true));
}

#[test]
fn what_was_written_before_is_written_anew_with_both() {
    let mut facts = permitted();
    let first = planned(&facts);
    facts.found.insert(first.done.file.clone(), first.after.clone());
    facts.files.push(first.done.file.clone());
    let restart = settings(&[Change::RestartPolicy { service: "web".into(), policy: "always".into() }]);
    let second = plan(&facts, &restart, &[&first.done]).unwrap();
    assert_eq!((&second.done.file, second.done.automatic), (&first.done.file, true));
    assert_eq!(second.before.as_deref(), Some(first.after.as_str()));
    assert!(second.after.contains("mem_limit: 64m\n    restart: always\n"), "{}", second.after);
    // Ours is not among the owner's files.
    assert_eq!(second.done.files, [PathBuf::from("/home/pi/photos/compose.yml")]);
    // Again is nothing.
    assert_eq!(plan(&facts, &limit(64), &[&first.done]).unwrap_err(), "it is so already");
    // What the owner has added to it makes it theirs.
    facts.found.insert(first.done.file.clone(), format!("{}    init: true\n", first.after));
    let third = plan(&facts, &restart, &[&first.done]).unwrap();
    assert!(third.done.file.ends_with(OWN) && !third.done.automatic);
    // And a file of ours without a record of it is nobody's to overwrite.
    facts.found.insert(first.done.file.clone(), first.after.clone());
    assert!(plan(&facts, &restart, &[]).unwrap().done.file.ends_with(OWN));
    facts.found.insert("/home/pi/photos/compose.nexus.yml".into(), "services: {}\n".into());
    assert!(plan(&facts, &restart, &[]).unwrap_err().contains("compose.nexus.yml is not as Nexus left it"));
}

#[test]
fn what_speaks_against_it_is_said_and_nothing_is_planned() {
    let check = |change: &dyn Fn(&mut Facts), reason: &str| {
        let mut facts = permitted();
        change(&mut facts);
        let refused = plan(&facts, &limit(64), &[]).unwrap_err();
        assert!(refused.contains(reason), "{refused}");
    };
    let web = |facts: &mut Facts, change: &dyn Fn(&mut Service)| change(facts.services.get_mut("web").unwrap());
    check(&|facts| facts.files.clear(), "do not tell which compose files");
    check(&|facts| facts.missing = vec!["/home/pi/photos/compose.yml".into()], "compose.yml is not there any more");
    check(&|facts| facts.services.clear(), "web has no container now");
    check(&|facts| web(facts, &|web| web.containers.clear()), "web has no container now");
    check(&|facts| web(facts, &|web| web.containers[0].ill = Some("unhealthy".into())), "is not well (unhealthy)");
    check(&|facts| web(facts, &|web| web.sharers = vec!["photos-vpn-1".into()]), "photos-vpn-1 lives in the network");
    check(&|facts| web(facts, &|web| web.resolved.swap_limit = Some(1)), "memswap_limit below");
    check(&|facts| web(facts, &|web| web.resolved.reservation = Some(1 << 40)), "memory reserved above");
    check(
        &|facts| facts.as_it_runs = Some(Err("Container x Recreate".into())),
        "more would change (Container x Recreate)",
    );
    check(&|facts| facts.as_it_runs = None, "could not be asked");
    // Neither speaks against a restart policy, nor an unlimited swap against a limit.
    let restart = settings(&[Change::RestartPolicy { service: "web".into(), policy: "always".into() }]);
    let mut facts = permitted();
    web(&mut facts, &|web| (web.resolved.swap_limit, web.resolved.reservation) = (Some(1), Some(1 << 40)));
    assert!(plan(&facts, &restart, &[]).is_ok());
    web(&mut facts, &|web| (web.resolved.swap_limit, web.resolved.reservation) = (Some(-1), Some(0)));
    assert!(plan(&facts, &limit(64), &[]).is_ok());
}

#[test]
fn a_limit_goes_where_the_owner_has_it_and_what_gets_lost_is_told() {
    let mut facts = permitted();
    let web = facts.services.get_mut("web").unwrap();
    web.resolved.limit_in_deploy = true;
    web.containers[0].written = Some(5 << 20);
    let plan = planned(&facts);
    assert!(plan.after.contains("deploy:"), "{}", plan.after);
    assert!(plan.notes[1].contains("(5.0 MiB)"), "{:?}", plan.notes);
}

#[test]
fn one_is_taken_back_without_the_others_and_never_over_the_owners_changes() {
    let facts = permitted();
    let one = planned(&facts);
    let restart = settings(&[Change::RestartPolicy { service: "web".into(), policy: "always".into() }]);
    let two = plan(&facts, &restart, &[&one.done]).unwrap();
    let file = &one.done.file;
    let both = [&one.done, &two.done];
    let Undo::Write(Some(left)) = undo(file, &both, &both[1..], Some(&two.after)) else { unreachable!() };
    assert!(!left.contains("mem_limit") && left.contains("restart"), "{left}");
    assert_eq!(undo(file, &both, &both[..1], Some(&two.after)), Undo::Write(Some(one.after.clone())));
    assert_eq!(undo(file, &both[..1], &[], Some(&one.after)), Undo::Write(None));
    assert_eq!(undo(file, &both[..1], &[], None), Undo::Gone);
    assert_eq!(undo(file, &both[..1], &[], Some(&two.after)), Undo::Changed);
    // The same value twice with another between: only the later one goes.
    let other = plan(&facts, &limit(96), &both).unwrap();
    let again = plan(&facts, &limit(64), &[&one.done, &other.done]).unwrap();
    let all = [&one.done, &other.done, &again.done];
    let text = content(&merged(all.map(|done| &done.services))).unwrap();
    let Undo::Write(Some(left)) = undo(file, &all, &all[..2], Some(&text)) else { unreachable!() };
    assert!(left.contains("96m"), "{left}");
}

#[test]
fn what_is_ours_may_have_come_or_gone_since_a_container_was_started() {
    let paths = |names: &[&str]| -> Vec<PathBuf> { names.iter().map(|name| Path::new("/p").join(name)).collect() };
    let check = |labels: &[&[&str]], there: &[&str], expected: Result<&[&str], &str>| {
        let labels: Vec<Vec<PathBuf>> = labels.iter().map(|label| paths(label)).collect();
        let (there, ours) = (paths(there), paths(&[OWN, SECOND[0]]));
        let ours: Vec<&Path> = ours.iter().map(PathBuf::as_path).collect();
        let files = called_with(&labels, &ours, |path| there.contains(&path.to_owned()));
        match expected {
            Ok(expected) => assert_eq!(files.unwrap(), paths(expected)),
            Err(reason) => assert!(files.unwrap_err().contains(reason)),
        }
    };
    check(&[&["compose.yml"]], &[], Ok(&["compose.yml"]));
    // One that was not recreated since ours was taken away, and one that was not since it came.
    check(&[&["compose.yml", SECOND[0]], &["compose.yml"]], &[], Ok(&["compose.yml"]));
    check(&[&["compose.yml", SECOND[0]], &["compose.yml"]], &[SECOND[0]], Ok(&["compose.yml", SECOND[0]]));
    check(&[&["compose.yml"]], &[SECOND[0], OWN], Ok(&["compose.yml", SECOND[0]]));
    check(&[&["compose.yml", OWN]], &[SECOND[0], OWN], Ok(&["compose.yml", SECOND[0], OWN]));
    check(&[&["compose.yml"], &["other.yml"]], &[], Err("different compose files"));
    check(&[], &[], Ok(&[]));
}

#[test]
fn a_dry_run_that_would_change_more_is_told_apart() {
    let check = |said: &str, expected: Result<(), &str>| {
        assert_eq!(stays(said, &["p-web-1"]), expected.map_err(str::to_owned), "{said}");
    };
    check(" DRY-RUN MODE -  Container p-web-1  Running\n", Ok(()));
    check(
        "time=\"x\" level=warning msg=\"the variable is not set\"\n DRY-RUN MODE -  Container p-web-1  Running \n",
        Ok(()),
    );
    check(" DRY-RUN MODE -  Container p-web-1  Recreate\n", Err("Container p-web-1 Recreate"));
    check(
        " DRY-RUN MODE -  Container p-web-1  Running\n DRY-RUN MODE -  Container p-web-2  Stopping\n",
        Err("Container p-web-2 Stopping"),
    );
    check(" DRY-RUN MODE -  Container other  Running\n", Err("p-web-1 is none of its containers"));
    check("", Err("p-web-1 is none of its containers"));
}
