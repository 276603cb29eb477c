//! `nexus config check` and `nexus config render`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nexus_policy::Policy;
use nexus_reporter::notify::Window;

use crate::failure::mistake;
use crate::files::{Access, make_folder, read_text, write_atomically};
use crate::home::{Home, TEXT_LIMIT};
use crate::keys::{self, KEYS};
use crate::render::{Values, render};
use crate::secrets;

/// First line of each rendered file. Files with it are ours to replace and to remove.
const MARK: &str = "# Made by `nexus config render`: changes here are lost. Edit ";

/// Everything that is wrong with `.env`, the secrets and the policy, one line each: file, key and mend.
pub fn complaints(home: &Home) -> Vec<String> {
    let env = home.show(&home.env_file);
    if home.text.is_none() {
        return vec![format!("{env} is missing: run ./nexus up, which makes it")];
    }
    let mut all: Vec<String> = home.dotenv.complaints.iter().map(|complaint| format!("{env}: {complaint}")).collect();
    for (name, (_, line)) in home.dotenv.values.iter().filter(|(name, _)| name.starts_with("NEXUS_")) {
        if keys::find(name).is_none() {
            let hint = keys::nearest(name).map_or_else(
                || "remove it; .env.example lists the keys there are".to_owned(),
                |near| format!("{near} is meant, or it must go"),
            );
            all.push(format!("{env}: line {line}: unknown key {name}: {hint}"));
        }
    }
    for key in KEYS {
        let place = match home.dotenv.values.get(key.name) {
            Some((_, line)) if home.get(key.name) == home.dotenv.get(key.name).unwrap_or_default() => {
                format!("{env}: line {line}: {}", key.name)
            }
            _ => format!("the variable {}", key.name),
        };
        if let Some(complaint) = keys::complaint(key.kind, home.get(key.name)) {
            all.push(format!("{place} {complaint}"));
        }
    }
    all.extend(ports_taken_twice(home).into_iter().map(|complaint| format!("{env}: {complaint}")));
    all.extend(secrets::complaints(&home.secrets(), secrets::invoking_user()));
    if let Err(error) = telegram(home) {
        all.extend(format!("{error:#}").lines().map(str::to_owned));
    }
    all.extend(policy_complaints(home));
    all
}

fn ports_taken_twice(home: &Home) -> Vec<String> {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    KEYS.iter()
        .filter(|key| key.kind == keys::Kind::Port)
        .filter_map(|key| {
            let port = home.get(key.name);
            let before = seen.insert(port, key.name)?;
            Some(format!("{} and {before} are both {port}: give one of them another port", key.name))
        })
        .collect()
}

/// All that is wrong with the policy.
fn policy_complaints(home: &Home) -> Vec<String> {
    let path = home.policy();
    let shown = home.show(&path);
    let mut all = match read_text(&path, TEXT_LIMIT) {
        Ok(Some(text)) => match Policy::check(&text) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.iter().map(|mistake| format!("{shown}: {mistake}")).collect(),
        },
        Ok(None) => vec![format!("{shown} is missing: run ./nexus up, which makes it")],
        Err(error) => vec![format!("{error:#}")],
    };
    let earlier = home.earlier_policy();
    if earlier != path && earlier.exists() {
        let earlier = home.show(&earlier);
        all.push(format!("{earlier} is not read, {shown} is: bring its lines over there and remove it"));
    }
    all
}

/// The chat id when Telegram is fully configured, `None` when it is not configured at all. Half of it is a mistake.
pub fn telegram(home: &Home) -> Result<Option<String>> {
    let chat = home.get("NEXUS_TELEGRAM_CHAT_ID");
    let source = home.secrets().join(secrets::TELEGRAM_SOURCE);
    match (secrets::telegram_token(&home.secrets())?, chat) {
        (None, "") => Ok(None),
        (Some(_), "") => Err(mistake(format!(
            "{}: NEXUS_TELEGRAM_CHAT_ID is empty, though {} holds a token: set it to the number of your chat",
            home.show(&home.env_file),
            home.show(&source)
        ))),
        (None, _) => Err(mistake(format!(
            "{} is empty, though NEXUS_TELEGRAM_CHAT_ID is set: write the bot's token into it, or empty the key",
            home.show(&source)
        ))),
        (Some(_), chat) => Ok(Some(chat.to_owned())),
    }
}

/// Renders both templates, and the secret that comes from a setting. Returns what changed; a file whose content is right is not touched.
pub fn render_all(home: &Home) -> Result<Vec<String>> {
    for key in KEYS {
        if let Some(complaint) = keys::complaint(key.kind, home.get(key.name)) {
            return Err(mistake(format!("{}: {} {complaint}", home.show(&home.env_file), key.name)));
        }
    }
    let chat = telegram(home)?;
    let quiet = window(home, "NEXUS_QUIET_HOURS")?;
    let backup = window(home, "NEXUS_BACKUP_WINDOW")?;
    let [quiet_first, quiet_then] = ranges(quiet);
    let [backup_first, backup_then] = ranges(backup);
    let watchdog = home.get("NEXUS_WATCHDOG_URL");
    let values = Values {
        keys: BTreeMap::from([
            ("STACK", home.get("NEXUS_STACK").to_owned()),
            ("TIMEZONE", home.get("NEXUS_TIMEZONE").to_owned()),
            ("PAGE_URL", home.get("NEXUS_PAGE_URL").trim_end_matches('/').to_owned()),
            ("QUIET_FROM", quiet_first.0),
            ("QUIET_TO", quiet_first.1),
            ("QUIET_THEN_FROM", quiet_then.0),
            ("QUIET_THEN_TO", quiet_then.1),
            ("BACKUP_FROM", backup_first.0),
            ("BACKUP_TO", backup_first.1),
            ("BACKUP_THEN_FROM", backup_then.0),
            ("BACKUP_THEN_TO", backup_then.1),
            ("HOST", home.get("NEXUS_HOST").to_owned()),
            ("BASE_URL", home.get("NEXUS_BASE_URL").trim_end_matches('/').to_owned()),
            ("TELEGRAM_API_URL", home.get("NEXUS_TELEGRAM_API_URL").trim_end_matches('/').to_owned()),
            ("TELEGRAM_CHAT_ID", chat.clone().unwrap_or_else(|| "0".to_owned())),
        ]),
        conditions: BTreeMap::from([
            ("telegram", chat.is_some()),
            ("watchdog", !watchdog.is_empty()),
            ("quiet", quiet.is_some()),
            ("backup", backup.is_some()),
        ]),
    };
    let targets = home.rendered().join("prometheus/targets");
    let own = targets.join(format!("{}.yml", home.get("NEXUS_HOST")));
    let mut changed = Vec::new();
    // Before what names it.
    if secrets::place_watchdog(&home.secrets(), watchdog, secrets::invoking_user(), secrets::is_root())? {
        changed.push("the address of the dead man's switch".to_owned());
    }
    for (template, path) in [
        ("alertmanager/alertmanager.yml.tmpl", &home.rendered().join("alertmanager/alertmanager.yml")),
        ("prometheus/targets.yml.tmpl", &own),
    ] {
        let text = read_text(&home.directory.join(template), TEXT_LIMIT)?
            .with_context(|| format!("{template} is missing: the checkout is incomplete"))?;
        let body = render(&text, &values).map_err(|message| mistake(format!("{template}: {message}")))?;
        let rendered = format!("{MARK}{template}\n{body}");
        if write_when_changed(path, &rendered)? {
            changed.push(home.show(path));
        }
    }
    for path in left_over(&targets, &own)? {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", home.show(&path)))?;
        changed.push(home.show(&path));
    }
    Ok(changed)
}

/// A part of each day, where one is set.
pub fn window(home: &Home, key: &str) -> Result<Option<Window>> {
    let value = home.get(key);
    let parsed = (!value.is_empty()).then(|| value.parse());
    parsed
        .transpose()
        .map_err(|wrong| mistake(format!("{}: {key} is {value:?}, but {wrong}", home.show(&home.env_file))))
}

/// From and to, as Alertmanager takes them: it knows no range over midnight, so such a one is two, and any other the same twice.
fn ranges(window: Option<Window>) -> [(String, String); 2] {
    let Some(window) = window else { return Default::default() };
    let (from, to) = (window.from(), window.to());
    // The end of a day is no beginning.
    let whole = |to: &str| if to == "00:00" { "24:00".to_owned() } else { to.to_owned() };
    if window.is_over_midnight() {
        [(from, "24:00".to_owned()), ("00:00".to_owned(), to)]
    } else {
        [(from.clone(), whole(&to)), (from, whole(&to))]
    }
}

fn write_when_changed(path: &Path, text: &str) -> Result<bool> {
    // Written by root under sudo, read by anybody: there is nothing secret in them.
    let owner = secrets::is_root().then(secrets::invoking_user);
    for folder in [path.parent().and_then(Path::parent), path.parent()].into_iter().flatten() {
        make_folder(folder, Access { mode: 0o755, owner })?;
    }
    // Docker makes an empty folder of root's in the place of a mounted file that is gone when it starts the containers of
    // before. The folder is taken away, a full one stays and is complained about.
    if path.is_dir() {
        fs::remove_dir(path)
            .with_context(|| format!("cannot put a file in the place of the folder {}", path.display()))?;
    }
    if read_text(path, TEXT_LIMIT)?.as_deref() == Some(text) {
        return Ok(false);
    }
    write_atomically(path, text.as_bytes(), Access { mode: 0o644, owner })?;
    Ok(true)
}

/// Files of ours in the folder under another name: the host was renamed. Files of the owner's (other Pis) stay.
fn left_over(folder: &Path, own: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        let is_yaml = path.extension().is_some_and(|extension| extension == "yml");
        if is_yaml && path != own && read_text(&path, TEXT_LIMIT)?.is_some_and(|text| text.starts_with(MARK)) {
            all.push(path);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "12345678:AAbbCCddEEffGGhhIIjjKK";

    /// A checkout with the real templates.
    fn checkout() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let place = |file: &str, text: &str| {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        place("alertmanager/alertmanager.yml.tmpl", "# @@if telegram@@\nchat_id: @@TELEGRAM_CHAT_ID@@\n# @@end@@\n");
        place("prometheus/targets.yml.tmpl", "host: \"@@HOST@@\"\n");
        place("policy/healer.yml", "default: shadow\n");
        place("secrets/telegram_bot_token", "");
        let _ = secrets::make(&folder.path().join("secrets"), secrets::invoking_user(), secrets::is_root());
        folder
    }

    fn check(env: &str, expected: &[&str]) {
        let folder = checkout();
        let home = Home::for_test(folder.path(), env);
        let mut found = complaints(&home);
        found.retain(|line| !line.contains("must belong to uid")); // where the test is not root
        assert_eq!(found, expected, "{env}");
    }

    #[test]
    fn each_mistake_is_one_line_with_its_place_and_mend() {
        check("NEXUS_HOST=pi\n", &[]);
        check(
            "NEXUS_TELEGRAM_CHATID=1\n",
            &[".env: line 1: unknown key NEXUS_TELEGRAM_CHATID: NEXUS_TELEGRAM_CHAT_ID is meant, or it must go"],
        );
        check(
            "\nNEXUS_HEALER_PORT=http\n",
            &[".env: line 2: NEXUS_HEALER_PORT is \"http\", but must be a port from 1 to 65535"],
        );
        check(
            "NEXUS_GRAFANA_PORT=9090\n",
            &[".env: NEXUS_GRAFANA_PORT and NEXUS_PROMETHEUS_PORT are both 9090: give one of them another port"],
        );
        check(
            "NEXUS_TELEGRAM_CHAT_ID=12\n",
            &[
                "secrets/telegram_bot_token is empty, though NEXUS_TELEGRAM_CHAT_ID is set: write the bot's token into it, or empty the key",
            ],
        );
        check("what\n", &[".env: line 1: no KEY=VALUE; comments begin with #"]);
    }

    #[test]
    fn each_mistake_of_the_policy_is_told_with_its_line() {
        let folder = checkout();
        let home = Home::for_test(folder.path(), "");
        let check = |text: &str, beginnings: &[&str]| {
            fs::write(folder.path().join("policy/healer.yml"), text).unwrap();
            let complaints = policy_complaints(&home);
            assert_eq!(complaints.len(), beginnings.len(), "{complaints:?}");
            for (complaint, beginning) in complaints.iter().zip(beginnings) {
                assert!(complaint.starts_with(beginning) && !complaint.contains('\n'), "{complaint}");
            }
        };
        check("a: [1\nb: 2", &["policy/healer.yml: line 2: no valid YAML: "]);
        check("- 1", &["policy/healer.yml: line 1: the file: is a list; write a mapping"]);
        check(
            "default: maybe\nhealing:\n  attempts: 0\n",
            &["policy/healer.yml: line 1: default: ", "policy/healer.yml: line 3: healing.attempts: "],
        );
        for text in ["", "# default: heal\n", "---\n"] {
            check(text, &[]);
        }
        fs::write(folder.path().join("healer.yml"), "").unwrap();
        check("", &["healer.yml is not read, policy/healer.yml is: "]);
        fs::remove_file(folder.path().join("healer.yml")).unwrap();
        fs::remove_file(folder.path().join("policy/healer.yml")).unwrap();
        assert_eq!(policy_complaints(&home), ["policy/healer.yml is missing: run ./nexus up, which makes it"]);
    }

    #[test]
    fn rendering_twice_changes_nothing_and_a_renamed_host_leaves_nothing_behind() {
        let folder = checkout();
        let read = |file: &str| fs::read_to_string(folder.path().join("rendered").join(file)).unwrap();
        let home = Home::for_test(folder.path(), "NEXUS_HOST=den\n");
        assert_eq!(
            render_all(&home).unwrap(),
            ["rendered/alertmanager/alertmanager.yml", "rendered/prometheus/targets/den.yml"]
        );
        assert_eq!(render_all(&home).unwrap(), [""; 0]);
        assert!(!read("alertmanager/alertmanager.yml").contains("chat_id"));
        fs::write(folder.path().join("rendered/prometheus/targets/other-pi.yml"), "- mine\n").unwrap();

        fs::write(folder.path().join("secrets/telegram_bot_token"), TOKEN).unwrap();
        let home = Home::for_test(folder.path(), "NEXUS_HOST=loft\nNEXUS_TELEGRAM_CHAT_ID=-100\n");
        render_all(&home).unwrap();
        assert!(read("alertmanager/alertmanager.yml").ends_with("\nchat_id: -100\n"));
        assert!(read("prometheus/targets/loft.yml").ends_with("\nhost: \"loft\"\n"));
        assert!(!folder.path().join("rendered/prometheus/targets/den.yml").exists());
        assert!(folder.path().join("rendered/prometheus/targets/other-pi.yml").exists());
    }

    #[test]
    fn an_empty_folder_where_docker_missed_a_file_is_replaced_and_a_full_one_is_not() {
        let folder = checkout();
        let home = Home::for_test(folder.path(), "NEXUS_HOST=den\n");
        let path = folder.path().join("rendered/alertmanager/alertmanager.yml");
        fs::create_dir_all(&path).unwrap();
        render_all(&home).unwrap();
        assert!(path.is_file());
        fs::remove_file(&path).unwrap();
        fs::create_dir_all(path.join("kept")).unwrap();
        assert!(render_all(&home).unwrap_err().to_string().contains("in the place of the folder"));
        assert!(path.join("kept").exists());
    }

    #[test]
    fn windows_become_ranges_that_alertmanager_knows() {
        let check = |window: &str, expected: [(&str, &str); 2]| {
            let folder = checkout();
            let home = Home::for_test(folder.path(), &format!("NEXUS_QUIET_HOURS={window}\n"));
            let found = ranges(super::window(&home, "NEXUS_QUIET_HOURS").unwrap());
            assert_eq!(found, expected.map(|(from, to)| (from.to_owned(), to.to_owned())), "{window}");
        };
        check("22:00-07:00", [("22:00", "24:00"), ("00:00", "07:00")]);
        check("03:00-04:00", [("03:00", "04:00"), ("03:00", "04:00")]);
        check("22:30-00:00", [("22:30", "24:00"), ("22:30", "24:00")]);
        check("", [("", ""), ("", "")]);
    }

    #[test]
    fn quiet_hours_are_rendered_and_a_wrong_one_is_told_with_its_line() {
        let folder = checkout();
        let template = include_str!("../../alertmanager/alertmanager.yml.tmpl");
        fs::write(folder.path().join("alertmanager/alertmanager.yml.tmpl"), template).unwrap();
        let rendered = |env: &str| {
            render_all(&Home::for_test(folder.path(), env)).unwrap();
            fs::read_to_string(folder.path().join("rendered/alertmanager/alertmanager.yml")).unwrap()
        };
        let without = rendered("NEXUS_TIMEZONE=Europe/Berlin\n");
        assert!(!without.contains("mute_time_intervals") && !without.contains("Europe/Berlin"), "{without}");
        let with = rendered("NEXUS_QUIET_HOURS=22:00-07:00\nNEXUS_TIMEZONE=Europe/Berlin\n");
        let times = r#"times: [{start_time: "22:00", end_time: "24:00"}, {start_time: "00:00", end_time: "07:00"}]"#;
        assert!(with.contains(times) && with.contains("location: \"Europe/Berlin\""), "{with}");
        assert!(
            with.contains("mute_time_intervals: [quiet]") && !with.contains("mute_time_intervals: [backup"),
            "{with}"
        );
        check(
            "\nNEXUS_QUIET_HOURS=22-7\n",
            &[".env: line 2: NEXUS_QUIET_HOURS is \"22-7\", but must be two times such as 22:00-07:00"],
        );
        check(
            "NEXUS_BACKUP_WINDOW=03:00-03:00\n",
            &[".env: line 1: NEXUS_BACKUP_WINDOW is \"03:00-03:00\", but must end at another time than it begins"],
        );
    }

    #[test]
    fn the_address_of_the_watchdog_stands_where_only_its_reader_looks() {
        use std::os::unix::fs::MetadataExt;

        let folder = checkout();
        let template = include_str!("../../alertmanager/alertmanager.yml.tmpl");
        fs::write(folder.path().join("alertmanager/alertmanager.yml.tmpl"), template).unwrap();
        let rendered = |env: &str| {
            let changed = render_all(&Home::for_test(folder.path(), env)).unwrap();
            (changed, fs::read_to_string(folder.path().join("rendered/alertmanager/alertmanager.yml")).unwrap())
        };
        let told = "the address of the dead man's switch".to_owned();
        let receiver = "      - url_file: /run/secrets/watchdog_url\n";
        let (changed, without) = rendered("");
        assert!(!without.contains("watchdog_url") && !changed.contains(&told), "{without}");
        let env = "NEXUS_WATCHDOG_URL=https://hc-ping.com/hush\n";
        let (changed, with) = rendered(env);
        assert!(with.contains(receiver) && changed.contains(&told), "{with}");
        assert!(changed.iter().all(|line| !line.contains("hush")), "{changed:?}");
        assert_eq!(rendered(env).0, [""; 0]);
        // Nothing that was written holds it, but what one user alone can read.
        let (mut folders, mut holding) = (vec![folder.path().to_owned()], Vec::new());
        while let Some(next) = folders.pop() {
            for path in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if fs::read_to_string(&path).unwrap().contains("hush") {
                    holding.push((path.file_name().unwrap().to_owned(), fs::metadata(&path).unwrap().mode() & 0o777));
                }
            }
        }
        assert_eq!(holding, [("watchdog_url".into(), 0o600)]);
        // Another address changes no other file; without one it is gone.
        assert_eq!(rendered("NEXUS_WATCHDOG_URL=https://hc-ping.com/other\n").0, std::slice::from_ref(&told));
        assert!(rendered("").0.contains(&told) && !folder.path().join("secrets/alertmanager/watchdog_url").exists());
    }

    #[test]
    fn a_token_without_a_chat_is_told_without_telling_the_token() {
        let folder = checkout();
        fs::write(folder.path().join("secrets/telegram_bot_token"), TOKEN).unwrap();
        let error = render_all(&Home::for_test(folder.path(), "")).unwrap_err().to_string();
        assert!(error.contains("NEXUS_TELEGRAM_CHAT_ID") && !error.contains(TOKEN), "{error}");
    }
}
