//! The exporter's two formats, read by the real Prometheus.

use anyhow::{Context, Result, ensure};

use crate::command::docker;
use crate::stack::Stack;
use crate::wait::{eventually, seconds};

pub async fn prometheus_reads_both_formats(stack: &Stack) -> Result<()> {
    // A Prometheus of its own for each format: what the stack's one negotiates is its business.
    let config = stack.folder().join("formats.yml");
    let job = |name: &str, protocol: &str| {
        format!(
            "- {{job_name: {name}, scrape_interval: 2s, scrape_timeout: 2s, scrape_protocols: [{protocol}],\n   \
             static_configs: [{{targets: ['exporter:10190']}}]}}\n"
        )
    };
    let text = format!(
        "scrape_configs:\n{}{}",
        job("openmetrics", "OpenMetricsText1.0.0"),
        job("text", "PrometheusText0.0.4")
    );
    std::fs::write(&config, text).context("cannot write the configuration")?;
    std::fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .context("cannot open it to read")?;
    let image = docker(["inspect", "--format", "{{.Config.Image}}", &stack.container("prometheus").await?.id]).await?;
    let label = format!("{}={}", nexus_model::labels::STACK, stack.name);
    let mount = format!("{}:/formats.yml:ro", config.display());
    let network = format!("{}_default", stack.name);
    let id = docker([
        "run",
        "--detach",
        "--label",
        &label,
        "--network",
        &network,
        "--volume",
        &mount,
        "--user=65534:65534",
        "--tmpfs=/tmp:mode=1777",
        "--entrypoint=/bin/prometheus",
        image.trim(),
        "--config.file=/formats.yml",
        "--storage.tsdb.path=/tmp/data",
    ])
    .await?;
    let id = id.trim().to_owned();
    let ask = async |expression: &str| -> Result<f64> {
        let found = docker(["exec", &id, "promtool", "query", "instant", "http://127.0.0.1:9090", expression]).await?;
        // `{…} => VALUE @[TIME]`
        let value = found
            .split("=> ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .with_context(|| format!("no value: {found:?}"))?;
        Ok(value.parse()?)
    };
    for format in ["openmetrics", "text"] {
        eventually(format!("the scrape as {format} succeeds"), seconds(40), async || {
            Ok((ask(&format!("sum(up{{job=\"{format}\"}})")).await? == 1.0).then_some(()))
        })
        .await?;
        ensure!(ask(&format!("count(node_cpu_seconds_total{{job=\"{format}\"}})")).await? > 0.0, "no CPU in {format}");
        ensure!(
            ask(&format!("count(docker_container_state{{job=\"{format}\"}})")).await? > 0.0,
            "no containers in {format}"
        );
    }
    // Other cases start containers meanwhile, and a scrape of one format is up to two seconds older than that of the other: what is
    // a difference of the formats stays.
    let samples = async |format: &str| ask(&format!("sum(scrape_samples_scraped{{job=\"{format}\"}})")).await;
    eventually("both formats have about as many samples", seconds(60), async || {
        let (openmetrics, text) = (samples("openmetrics").await?, samples("text").await?);
        ensure!(openmetrics > 100.0 && text > 100.0, "{openmetrics} and {text} samples");
        Ok(((openmetrics - text).abs() / openmetrics < 0.1).then_some(()))
    })
    .await?;

    // And Prometheus's own linter has nothing to say about it that it would not say about node_exporter.
    let text = stack.text("NEXUS_EXPORTER_PORT", "/metrics", "text/plain;version=0.0.4").await?;
    let file = stack.folder().join("metrics.txt");
    std::fs::write(&file, text).context("cannot write the scrape")?;
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .context("cannot open it to read")?;
    let mount = format!("{}:/metrics.txt:ro", file.display());
    let lint = docker([
        "run",
        "--rm",
        "--network=none",
        "--volume",
        &mount,
        "--user=65534:65534",
        "--entrypoint=sh",
        image.trim(),
        "-c",
        "promtool check metrics < /metrics.txt 2>&1 || [ $? = 3 ]",
    ])
    .await
    .context("promtool check metrics")?;
    // Names that node_exporter and cAdvisor chose long ago and every dashboard knows.
    let is_theirs =
        |line: &str| ["node_", "container_", "cadvisor_", "machine_"].iter().any(|start| line.starts_with(start));
    let is_about_the_name = |line: &str| ["snake_case", "base unit", "suffix"].iter().any(|words| line.contains(words));
    let found: Vec<&str> = lint.lines().filter(|line| !(is_theirs(line) && is_about_the_name(line))).collect();
    ensure!(found.is_empty(), "promtool check metrics: {}", found.join("\n"));
    docker(["rm", "--force", "--volumes", &id]).await.map(drop)
}
