//! What exporter, healer and reporter of a made-up host would say, from a plain description of how it is. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Name of the stack on the made-up hosts.
pub const STACK: &str = "nexus";

/// How a host is at a moment.
#[derive(Clone, Debug)]
pub struct State {
    /// Nothing of it answers.
    pub off: bool,
    /// Seconds since it was switched on.
    pub uptime: f64,
    pub disk_used: f64,
    pub memory_available: f64,
    pub under_voltage: bool,
    pub under_voltage_occurred: bool,
    pub throttled: bool,
    pub postgres_up: bool,
    pub containers: Vec<Container>,
    /// What its healer keeps alive in Alertmanager.
    pub own: Vec<Own>,
}

/// A container of a made-up project.
#[derive(Clone, Debug)]
pub struct Container {
    pub project: &'static str,
    pub service: &'static str,
    pub state: &'static str,
    /// `none` without a health check.
    pub health: &'static str,
    /// Of its project; empty without one.
    pub needs: &'static str,
    pub restarts: f64,
    pub oom_events: f64,
    /// Anonymous memory, as a part of its limit.
    pub memory: f64,
}

/// An alert that the healer posts itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Own {
    pub alert: &'static str,
    pub severity: &'static str,
    pub project: &'static str,
    pub service: &'static str,
    pub summary: String,
}

impl Own {
    pub fn of_service(alert: &'static str, service: &'static str, host: &str) -> Own {
        let summary = match alert {
            "HealerGaveUp" => "Nexus gave up healing this service".to_owned(),
            "HealingFailed" => "Restarting it does not help".to_owned(),
            other => format!("{other} of shop/{service} on {host}"),
        };
        Own { alert, severity: "critical", project: "shop", service, summary }
    }

    pub fn labels(&self, host: &str) -> BTreeMap<&'static str, String> {
        let mut labels = BTreeMap::from([
            ("alertname", self.alert.to_owned()),
            ("severity", self.severity.to_owned()),
            ("host", host.to_owned()),
        ]);
        for (label, value) in [("project", self.project), ("service", self.service)] {
            if !value.is_empty() {
                labels.insert(label, value.to_owned());
            }
        }
        labels
    }
}

impl Container {
    pub fn new(project: &'static str, service: &'static str, health: &'static str) -> Container {
        let (restarts, oom_events, memory) = (0.0, 0.0, 0.4);
        Container { project, service, state: "running", health, needs: "", restarts, oom_events, memory }
    }

    fn needing(self, needs: &'static str) -> Container {
        Container { needs, ..self }
    }

    pub fn is(&mut self, state: &'static str, health: &'static str) {
        (self.state, self.health) = (state, health);
    }
}

impl State {
    /// A host that is well: a shop of four services, a blog, and Nexus itself.
    pub fn well() -> State {
        State {
            off: false,
            uptime: 1e6,
            disk_used: 0.5,
            memory_available: 0.5,
            under_voltage: false,
            under_voltage_occurred: false,
            throttled: false,
            postgres_up: true,
            containers: vec![
                Container::new("shop", "db", "healthy"),
                Container::new("shop", "cache", "none"),
                Container::new("shop", "api", "healthy").needing("db"),
                Container::new("shop", "web", "healthy").needing("db"),
                Container::new("blog", "web", "healthy"),
                Container::new(STACK, "docker-proxy", "healthy"),
                Container::new(STACK, "exporter", "healthy"),
                Container::new(STACK, "healer", "healthy"),
                Container::new(STACK, "postgres", "healthy"),
            ],
            own: Vec::new(),
        }
    }

    pub fn container(&mut self, project: &str, service: &str) -> Option<&mut Container> {
        self.containers.iter_mut().find(|it| (it.project, it.service) == (project, service))
    }

    /// For a job of Prometheus. `now` is the real time, `ran` for how many real seconds the script has run: counters of seconds
    /// and moments follow these, since Prometheus compares them with its own clock.
    pub fn exposition(&self, job: &str, now: f64, ran: f64) -> String {
        let mut out = Writer(String::new());
        match job {
            "node" => self.node(&mut out, now, ran),
            "cadvisor" => self.containers(&mut out, now),
            "nexus" => self.healer(&mut out),
            "reporter" => {
                out.put("nexus_reporter_history_interval_seconds", "", 3600.0);
                out.put("nexus_reporter_history_through_timestamp_seconds", "task=\"collect\"", now);
            }
            _ => {}
        }
        out.0
    }

    fn node(&self, out: &mut Writer, now: f64, ran: f64) {
        let disk = "device=\"/dev/mmcblk0p2\",mountpoint=\"/\",fstype=\"ext4\"";
        let size = 32e9;
        out.put("node_filesystem_size_bytes", disk, size);
        for name in ["node_filesystem_free_bytes", "node_filesystem_avail_bytes"] {
            out.put(name, disk, size * (1.0 - self.disk_used));
        }
        out.put("node_filesystem_readonly", disk, 0.0);
        out.put("node_filesystem_files", disk, 2e6);
        out.put("node_filesystem_files_free", disk, 1.5e6);
        out.put("node_memory_MemTotal_bytes", "", 4e9);
        out.put("node_memory_MemAvailable_bytes", "", 4e9 * self.memory_available);
        out.put("node_memory_SwapTotal_bytes", "", 1e8);
        out.put("node_memory_SwapFree_bytes", "", 9e7);
        out.put("node_vmstat_pswpin", "", 0.0);
        out.put("node_vmstat_oom_kill", "", self.containers.iter().map(|container| container.oom_events).sum());
        for kind in ["memory_waiting", "memory_stalled", "io_stalled"] {
            out.put(&format!("node_pressure_{kind}_seconds_total"), "", 0.001 * ran);
        }
        for cpu in 0..4 {
            out.put("node_cpu_seconds_total", &format!("cpu=\"{cpu}\",mode=\"idle\""), 0.9 * ran);
            out.put("node_cpu_seconds_total", &format!("cpu=\"{cpu}\",mode=\"user\""), 0.1 * ran);
        }
        out.put("node_load15", "", 0.4);
        out.put("node_time_seconds", "", now);
        // A rule compares the time since with a number of seconds: as long as it has run in the script's time.
        out.put("node_boot_time_seconds", "", now - self.uptime);
        out.put("node_timex_sync_status", "", 1.0);
        out.put("node_thermal_zone_temp", "zone=\"0\",type=\"cpu-thermal\"", 52.0);
        out.put("node_scrape_collector_success", "collector=\"cpu\"", 1.0);
        out.put("nexus_memory_cgroup_enabled", "", 1.0);
        out.put("rpi_board_info", "model=\"Raspberry Pi 4 Model B\"", 1.0);
        let under_voltage = "reason=\"under_voltage\"";
        out.put("rpi_throttle_active", under_voltage, f64::from(u8::from(self.under_voltage)));
        out.put("rpi_throttle_occurred", under_voltage, f64::from(u8::from(self.under_voltage_occurred)));
        out.put("rpi_throttle_active", "reason=\"throttled\"", f64::from(u8::from(self.throttled)));
    }

    fn containers(&self, out: &mut Writer, now: f64) {
        out.put("docker_up", "", 1.0);
        for container in &self.containers {
            let Container { project, service, .. } = container;
            let id = format!(
                "id=\"{project}-{service}\",name=\"{project}-{service}-1\",project=\"{project}\",service=\"{service}\""
            );
            for state in ["running", "restarting", "exited", "created", "paused", "dead", "removing"] {
                out.put(
                    "docker_container_state",
                    &format!("{id},state=\"{state}\""),
                    f64::from(u8::from(container.state == state)),
                );
            }
            for health in ["none", "starting", "healthy", "unhealthy"] {
                out.put(
                    "docker_container_health",
                    &format!("{id},health=\"{health}\""),
                    f64::from(u8::from(container.health == health)),
                );
            }
            out.put("docker_container_expected_running", &id, 1.0);
            if !container.needs.is_empty() {
                let needs = format!("{id},needed_project=\"{project}\",needed_service=\"{}\"", container.needs);
                out.put("docker_container_depends_on", &needs, 1.0);
            }
            out.put("docker_container_restarts_total", &id, container.restarts);
            out.put("container_oom_events_total", &id, container.oom_events);
            out.put("docker_container_oom_killed", &id, 0.0);
            if container.state == "exited" {
                out.put("docker_container_stopped_on_purpose", &id, 0.0);
                out.put("docker_container_finished_at_seconds", &id, now);
            }
            out.put("container_memory_rss", &id, 1e8 * container.memory);
            out.put("container_spec_memory_limit_bytes", &id, 1e8);
        }
    }

    fn healer(&self, out: &mut Writer) {
        for (name, value) in [
            ("nexus_healer_docker_up", true),
            ("nexus_healer_postgres_up", self.postgres_up),
            ("nexus_healer_journal_writable", true),
            ("nexus_healer_policy_last_reload_successful", true),
            ("nexus_healer_alertmanager_up", true),
        ] {
            out.put(name, "", f64::from(u8::from(value)));
        }
        for name in [
            "nexus_healer_journal_pending_rows",
            "nexus_healer_postgres_refused_rows_total",
            "nexus_healer_notify_failures_total",
        ] {
            out.put(name, "", 0.0);
        }
        for own in self.own.iter().filter(|own| own.alert == "HealerGaveUp") {
            out.put("nexus_healer_gave_up", &format!("project=\"{}\",service=\"{}\"", own.project, own.service), 1.0);
        }
    }
}

struct Writer(String);

impl Writer {
    fn put(&mut self, name: &str, labels: &str, value: f64) {
        // Writing to a string can't fail.
        let _ = writeln!(self.0, "{name}{{{labels}}} {value}");
    }
}
