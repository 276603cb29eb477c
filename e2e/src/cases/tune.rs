//! What `nexus tune` applies is applied, is there when the owner calls Compose themselves, and is gone without a trace when it is
//! taken back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::command::{Finished, clean, docker, run};
use crate::docker::{Container, of_service};
use crate::stack::{Stack, TEST_IMAGE, debian_image};
use crate::wait::{eventually, seconds};

const REDIS_IMAGE: &str = "nexus-test/redis:1";
const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 0.5; done";

/// One owner types one command: a second one that applies something is turned away.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A project as an owner has one: a folder with a compose.yml.
struct Owned<'a> {
    stack: &'a Stack,
    name: String,
    folder: PathBuf,
}

impl<'a> Owned<'a> {
    async fn up(stack: &'a Stack, case: &str, services: Value) -> Result<Owned<'a>> {
        let round = stack.round.load(std::sync::atomic::Ordering::Relaxed);
        let name = format!("{}-{case}-{round}", stack.name);
        let folder = stack.folder().join(&name);
        std::fs::create_dir_all(&folder).context("cannot make the folder of a project")?;
        let mut services = services;
        for (_, service) in services.as_object_mut().into_iter().flatten() {
            service["labels"] = json!({nexus_model::labels::STACK: stack.name});
            service["network_mode"] = json!("none");
            service["stop_grace_period"] = json!("5s");
        }
        // Compose reads JSON as the YAML that it is.
        let text = json!({"name": name, "services": services}).to_string();
        std::fs::write(folder.join("compose.yml"), text).context("cannot write compose.yml")?;
        let project = Owned { stack, name, folder };
        project.compose(&["up", "--detach", "--wait", "--wait-timeout", "60"]).await?;
        Ok(project)
    }

    /// As the owner calls it: in the folder, without a word on files.
    async fn compose(&self, arguments: &[&str]) -> Result<String> {
        let mut command = clean("docker");
        command.args(["compose", "--progress", "quiet"]).args(arguments).current_dir(&self.folder);
        command.env("PWD", &self.folder);
        run(command).await
    }

    async fn container(&self, service: &str) -> Result<Container> {
        of_service(&self.stack.docker, &self.name, service).await
    }

    /// Something of the container that Docker keeps.
    async fn kept(&self, service: &str, format: &str) -> Result<String> {
        let id = self.container(service).await?.id;
        Ok(docker(["inspect", "--format", format, &id]).await?.trim().to_owned())
    }

    async fn exec(&self, service: &str, words: &[&str]) -> Result<String> {
        let id = self.container(service).await?.id;
        docker([&["exec", &id], words].concat()).await
    }

    /// All that is in the folder.
    fn files(&self) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
        let all = std::fs::read_dir(&self.folder).context("cannot read the folder")?;
        all.map(|entry| {
            let path = entry?.path();
            let content = std::fs::read(&path)?;
            Ok((path, content))
        })
        .collect()
    }

    /// A report that recommends one thing of this project; its id and the file.
    fn report(&self, kind: &str, changes: &Value) -> Result<(String, String)> {
        let id = format!("{kind}/{}", self.name);
        let recommendation = json!({"id": id, "kind": kind.replace('-', "_"), "urgency": "soon", "project": self.name,
            "service": null, "title": "A change", "evidence": ["a test says so"], "gain": "none", "gain_bytes": null,
            "check": null, "compose": null, "commands": [], "changes": changes});
        let path = self.stack.folder().join(format!("{}-{kind}.report.json", self.name));
        std::fs::write(&path, json!({"recommendations": [recommendation]}).to_string())
            .context("cannot write the report")?;
        Ok((id, path.display().to_string()))
    }

    async fn tune(&self, arguments: &[&str]) -> Result<Finished> {
        let _alone = ONE_AT_A_TIME.lock().await;
        self.stack.nexus(&[&["tune"], arguments].concat()).await
    }

    async fn tune_well(&self, arguments: &[&str]) -> Result<String> {
        let done = self.tune(arguments).await?;
        ensure!(done.code == Some(0), "nexus tune {arguments:?}: {done:?}");
        Ok(done.stdout)
    }

    async fn down(self) -> Result<()> {
        self.compose(&["down", "--timeout", "1", "--volumes"]).await.map(drop)
    }
}

fn idle() -> Value {
    json!({"image": TEST_IMAGE, "entrypoint": ["sh", "-c", IDLE]})
}

pub async fn a_memory_limit_and_a_restart_policy_come_and_go(stack: &Stack) -> Result<()> {
    const SAYS: &str = "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}} {{.State.Status}}";
    // One that needs more than it is to get.
    let hungry = format!("dd if=/dev/zero of=/dev/null bs=64M count=2 || exit 9; {IDLE}");
    let hungry = json!({"image": TEST_IMAGE, "entrypoint": ["sh", "-c", hungry], "restart": "unless-stopped"});
    let services = json!({"web": idle(), "other": idle(), "hungry": hungry});
    let project = Owned::up(stack, "tuned", services).await?;
    let web = async || project.kept("web", SAYS).await;
    let (before, files) = (web().await?, project.files()?);
    ensure!(before.starts_with("0 ") && before.ends_with(" running"), "before: {before}");

    let limit = json!([{"what": "memory_limit", "service": "web", "mib": 32}]);
    let (limit_id, limit_report) = project.report("no-memory-limit", &limit)?;
    let shown = project.tune_well(&["--from", &limit_report]).await?;
    for words in ["compose.override.yml (new)", "+     mem_limit: 32m", &format!("tune apply {limit_id}")] {
        ensure!(shown.contains(words), "{words:?} is not in what is shown:\n{shown}");
    }
    // Nobody is there to say yes.
    let asked = project.tune(&["apply", &limit_id, "--from", &limit_report]).await?;
    ensure!(asked.code == Some(2) && asked.stderr.contains("--yes"), "without --yes: {asked:?}");
    ensure!(web().await? == before && project.files()? == files, "it was applied without a yes");

    let (other, first) = (project.container("other").await?, project.container("web").await?);
    project.tune_well(&["apply", &limit_id, "--yes", "--from", &limit_report]).await?;
    ensure!(web().await?.starts_with("33554432 ") && web().await?.ends_with(" running"), "limit: {}", web().await?);
    let restart = json!([{"what": "restart_policy", "service": "web", "policy": "unless-stopped"}]);
    let (restart_id, restart_report) = project.report("restart-policy", &restart)?;
    project.tune_well(&["apply", &restart_id, "--yes", "--from", &restart_report]).await?;
    ensure!(web().await? == "33554432 unless-stopped running", "both: {}", web().await?);
    // It holds when the owner calls Compose, and nobody else was touched.
    let tuned = project.container("web").await?;
    project.compose(&["up", "--detach"]).await?;
    ensure!(project.container("web").await? == tuned && tuned.id != first.id, "Compose does not see the limit");
    ensure!(project.container("other").await? == other, "another service was touched");
    let result = project.tune_well(&["result", &restart_id]).await?;
    ensure!(result.contains("web: starts again by itself now") || result.contains("not known"), "result: {result}");

    project.tune_well(&["undo", &limit_id, "--yes"]).await?;
    ensure!(web().await? == "0 unless-stopped running", "one taken back: {}", web().await?);
    project.tune_well(&["undo", &restart_id, "--yes"]).await?;
    ensure!(
        web().await? == before && project.files()? == files,
        "taken back: {} {:?}",
        web().await?,
        project.files()?.keys()
    );
    let again = project.container("web").await?;
    project.compose(&["up", "--detach"]).await?;
    ensure!(project.container("web").await? == again, "Compose sees something else than before");

    what_does_not_work_is_taken_back(&project, &files).await?;
    what_the_owner_has_changed_stays(&project, &limit_id, &limit_report).await?;
    project.down().await
}

async fn what_does_not_work_is_taken_back(project: &Owned<'_>, files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    let small = json!([{"what": "memory_limit", "service": "hungry", "mib": 8}]);
    let (id, report) = project.report("memory-limit", &small)?;
    let refused = project.tune(&["apply", &id, "--yes", "--from", &report]).await?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("taken back"), "too small: {refused:?}");
    ensure!(project.files()? == *files, "files are left: {:?}", project.files()?.keys());
    let hungry = project.kept("hungry", "{{.HostConfig.Memory}} {{.State.Status}}").await?;
    ensure!(hungry == "0 running", "hungry: {hungry}");
    let history = project.tune_well(&["history"]).await?;
    ensure!(history.lines().any(|line| line.contains(&id) && line.contains("failed, taken back")), "{history}");
    Ok(())
}

async fn what_the_owner_has_changed_stays(project: &Owned<'_>, id: &str, report: &str) -> Result<()> {
    project.tune_well(&["apply", id, "--yes", "--from", report]).await?;
    let file = project.folder.join("compose.override.yml");
    let ours = std::fs::read_to_string(&file).context("there is no override file")?;
    let theirs = format!("{ours}    init: true\n");
    std::fs::write(&file, &theirs).context("cannot write as the owner")?;
    let refused = project.tune(&["undo", id, "--yes"]).await?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("was changed since"), "undo: {refused:?}");
    ensure!(std::fs::read_to_string(&file).ok() == Some(theirs), "the owner's file was overwritten");
    // And what is theirs is not written into: a file of its own takes it.
    project.compose(&["up", "--detach"]).await?;
    let other = json!([{"what": "memory_limit", "service": "other", "mib": 24}]);
    let (other_id, other_report) = project.report("memory-limit", &other)?;
    let applied = project.tune_well(&["apply", &other_id, "--yes", "--from", &other_report]).await?;
    ensure!(applied.contains("compose.nexus.yml (new)") && applied.contains("COMPOSE_FILE="), "{applied}");
    ensure!(project.kept("other", "{{.HostConfig.Memory}}").await? == "25165824", "the second file has no effect");
    project.tune_well(&["undo", &other_id, "--yes"]).await?;
    ensure!(!project.folder.join("compose.nexus.yml").exists(), "the second file is left");
    std::fs::write(&file, ours).context("cannot write as the owner")?;
    project.compose(&["up", "--detach"]).await?;
    project.tune_well(&["undo", id, "--yes"]).await?;
    ensure!(!file.exists(), "the override file is left");
    Ok(())
}

pub async fn settings_of_postgres_come_and_go(stack: &Stack) -> Result<()> {
    const SETTINGS: &str = "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE name IN \
        ('shared_buffers', 'effective_cache_size', 'work_mem', 'maintenance_work_mem')";
    let image = stack.image("NEXUS_IMAGE_POSTGRES")?;
    let password = uuid::Uuid::now_v7().simple().to_string();
    let services = json!({"db": {"image": image, "mem_limit": "256m",
        // Its superuser is called otherwise, as with many.
        "environment": {"POSTGRES_PASSWORD": password, "POSTGRES_USER": "owner"},
        "healthcheck": {"test": ["CMD", "pg_isready", "--quiet", "--username", "owner"], "interval": "1s", "retries": 60}}});
    let project = Owned::up(stack, "tunedpg", services).await?;
    let sql = async |statement: &str| -> Result<String> {
        let psql = ["psql", "-X", "-A", "-t", "-U", "owner", "-d", "postgres", "-c", statement];
        Ok(project.exec("db", &psql).await?.trim().to_owned())
    };
    // What its owner has set already comes back as it was.
    sql("ALTER SYSTEM SET maintenance_work_mem = '50MB'").await?;
    sql("SELECT pg_reload_conf()").await?;
    let file = async || project.exec("db", &["cat", "/var/lib/postgresql/data/postgresql.auto.conf"]).await;
    let (before, file_before, first) = (sql(SETTINGS).await?, file().await?, project.container("db").await?);

    let (id, report) =
        project.report("postgres", &json!([{"what": "postgres", "service": "db", "memory_mib": 2048}]))?;
    let said = project.tune_well(&["apply", &id, "--yes", "--from", &report]).await?;
    // As much as its limit allows, whatever the report says.
    for words in ["- shared_buffers = 128MB", "+ shared_buffers = 64MB", "restarts "] {
        ensure!(said.contains(words), "{words:?} is not in:\n{said}");
    }
    ensure!(!said.contains(&password), "the password is told");
    let now = sql(SETTINGS).await?;
    ensure!(now.contains("shared_buffers=8192") && now.contains("maintenance_work_mem=16384"), "{now}");
    let tuned = project.container("db").await?;
    ensure!(tuned.id == first.id && tuned.started_at != first.started_at, "it was recreated, or not restarted");
    let already = project.tune(&["apply", &id, "--yes", "--from", &report]).await?;
    ensure!(already.code == Some(1) && already.stderr.contains("it is so already"), "again: {already:?}");

    project.tune_well(&["undo", &id, "--yes"]).await?;
    ensure!(sql(SETTINGS).await? == before && file().await? == file_before, "taken back: {}", sql(SETTINGS).await?);
    let kept = std::fs::read_to_string(stack.folder().join("state/tune.json")).context("there is no ledger")?;
    ensure!(!kept.contains(&password), "the password is in the ledger");
    project.down().await
}

pub async fn a_bound_of_redis_comes_and_goes(stack: &Stack) -> Result<()> {
    debian_image(REDIS_IMAGE, "redis-server", "FROM packages\nENTRYPOINT []\n").await?;
    let start = "echo 'save \"\"' > /tmp/redis.conf; exec redis-server /tmp/redis.conf";
    let services = json!({"cache": {"image": REDIS_IMAGE, "command": ["sh", "-c", start],
        "healthcheck": {"test": ["CMD", "redis-cli", "ping"], "interval": "1s", "retries": 60}}});
    let project = Owned::up(stack, "tunedrd", services).await?;
    let says = async || project.exec("cache", &["redis-cli", "CONFIG", "GET", "maxmemory"]).await;
    let before = says().await?;
    // 80 MiB in it and no limit: that is recommended without a day of waiting.
    project.exec("cache", &["redis-cli", "SETRANGE", "large", "83886080", "x"]).await?;
    let id = format!("redis/{}/cache", project.name);
    eventually(format!("{id} is recommended"), seconds(90), async || {
        let all: Value = serde_json::from_str(&project.tune_well(&["--all", "--json"]).await?).context("not JSON")?;
        let found = all["shown"].as_array().into_iter().flatten().find(|it| it["recommendation"]["id"] == id.as_str());
        match found {
            Some(found) if found["why_not"].is_null() => Ok(Some(())),
            Some(found) => bail!("it is not safe: {found}"),
            None => Ok(None),
        }
    })
    .await?;
    project.tune_well(&["apply", &id, "--yes"]).await?;
    let bound: u64 = says().await?.lines().nth(1).unwrap_or_default().trim().parse().context("no number")?;
    ensure!(bound > 83_886_080, "maxmemory {bound}");
    let file = async || project.exec("cache", &["cat", "/tmp/redis.conf"]).await;
    ensure!(file().await?.contains("maxmemory-policy volatile-lru"), "its file: {}", file().await?);
    // It is not offered twice.
    let shown = project.tune_well(&["--all"]).await?;
    ensure!(!shown.contains(&format!("tune apply {id}")) && shown.contains("Applied lately"), "{shown}");
    let result = project.tune_well(&["result", &id]).await?;
    ensure!(result.contains("too early to tell") && result.contains("dropped 0 keys"), "{result}");
    project.tune_well(&["undo", &id, "--yes"]).await?;
    ensure!(says().await? == before && !file().await?.contains("volatile-lru"), "taken back: {}", says().await?);
    project.down().await
}
