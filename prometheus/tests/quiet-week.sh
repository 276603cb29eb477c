#!/bin/sh
# A quiet week of a Raspberry Pi with 20 services, made up minute by minute and played to the rules: nobody may be told anything.
# And two days with a few things wrong in them, so that it is known that such a week can tell.
#
#   sh quiet-week.sh RULES_FOLDER SCRATCH_FOLDER
#
# What happens in it: days and nights, a backup each night that fills and stalls the disk for 25 minutes, an upload of half an
# hour, a hot afternoon with a peak above 75 degrees, a disk that is mounted for the backup only, a reboot on Wednesday, an update that recreates three containers on Thursday,
# health checks that fail for up to six minutes, one restart by Docker, a scrape that is missed now and then. On Monday afternoon an upgrade
# takes 2.5 GB within a quarter of an hour and an image of 1.2 GB is pulled within five minutes to a second disk, 80 % full; both stay.
set -eu
rules=$1
scratch=$2

# week WRONG: promtool's test file. With WRONG there are two days, and on the second a service is ill for longer, the disk fills, another is gone
# and the power supply is weak. The prompts to the healer (healing.yml) are no messages, and every five seconds of a week take minutes.
week() {
    awk -v wrong="$1" -v rules="$rules" '
    # Every other minute, so that promtool has half as much to do.
    BEGIN {
        srand(20); step = 2; days = wrong ? 2 : 7; n = days * 24 * 60 / step
        reboot = (2 * 24 * 60 + 10 * 60) / step; update = (3 * 24 * 60 + 20 * 60) / step; ill = (24 * 60 + 9 * 60) / step
        printf "rule_files: [%s/board.yml, %s/containers.yml, %s/disks.yml, %s/host.yml, %s/nexus.yml]\n", rules, rules, rules, rules, rules
        print "evaluation_interval: 2m\ntests:\n  - interval: " step "m\n    input_series:"
        gb = 1e9
        for (i = 0; i <= n; i++) {
            minute = i * step; hour = (minute / 60) % 24
            day[i] = (1 - cos((hour - 4) * 3.14159 / 12)) / 2
            backup[i] = (hour >= 3 && hour < 3 + 25 / 60)
            upload[i] = (hour >= 19 && hour < 19.5)
            # Four minutes without anything while it restarts.
            away[i] = (i >= reboot && i < reboot + 2)
            missed[i] = (rand() < 0.002)
        }
        host(); board(); nexus()
        for (c = 1; c <= 20; c++) container(c)
        print "    promql_expr_test:"
        people = "ALERTS{alertstate=\"firing\", severity=~\"critical|warning\"}"
        if (!wrong) {
            printf "      - {eval_time: 7d, expr: \x27count by (alertname) (count_over_time(%s[7d]))\x27, exp_samples: []}\n", people
            printf "      - {eval_time: 7d, expr: \x27count(max_over_time(docker_up[7d]))\x27, exp_samples: [{labels: \x27{}\x27, value: 1}]}\n"
        } else {
            told = "ContainerUnhealthy DiskCritical DiskFillingFast DiskFillingUp DiskGone DiskLow Undervoltage"
            printf "      - {eval_time: 2d, expr: \x27count by (alertname) (count_over_time(%s[2d]) > 0)\x27, exp_samples: [", people
            count = split(told, names, " ")
            for (k = 1; k <= count; k++) printf "%s{labels: \x27{alertname=\"%s\"}\x27, value: 1}", (k > 1 ? ", " : ""), names[k]
            print "]}"
        }
    }
    function begin(name, labels) { printf "      - {series: \x27%s{host=\"pi\"%s}\x27, values: \"", name, labels == "" ? "" : ", " labels }
    function put(i, value) { printf "%s%s", i ? " " : "", (away[i] || missed[i]) ? "_" : value }
    function end() { print "\"}" }
    function flat(name, labels, value,   i) { begin(name, labels); for (i = 0; i <= n; i++) put(i, value); end() }
    # A counter that starts anew with the machine; rate is what it gains in a second, of each sample.
    function counter(name, labels, rate,   i, sum) {
        begin(name, labels)
        for (i = 0; i <= n; i++) { if (i == reboot) sum = 0; sum += rate[i] * step * 60; put(i, sprintf("%.0f", sum)) }
        end()
    }
    function counter_fine(name, labels, rate,   i, sum) {
        begin(name, labels)
        for (i = 0; i <= n; i++) { if (i == reboot) sum = 0; sum += rate[i] * step * 60; put(i, sprintf("%.2f", sum)) }
        end()
    }
    # What is taken of a disk for good, from Monday at two on, evenly within so many minutes.
    function taken(i, gigabytes, within,   since) {
        since = i * step - (24 + 14) * 60
        return since <= 0 ? 0 : since >= within ? gigabytes : gigabytes * since / within
    }
    function host(   i, d, k, free, rate, root, disk, good) {
        root = "device=\"/dev/mmcblk0p2\", fstype=\"ext4\", mountpoint=\"/\""
        flat("node_filesystem_size_bytes", root, "62e9")
        for (k = 1; k <= 2; k++) {
            begin(k == 1 ? "node_filesystem_free_bytes" : "node_filesystem_avail_bytes", root)
            for (i = 0; i <= n; i++) {
                # A third of a gigabyte a day, and each night a copy of three that is moved elsewhere.
                free = 24 - i / n * 2.3 - (backup[i] ? 3 : 0) - (upload[i] ? 0.8 : 0) - (k == 2 ? 3 : 0) - taken(i, 2.5, 15)
                if (wrong && i > ill) { free -= (i - ill) * step * 0.12; if (free < 0.6) free = 0.6 }
                put(i, sprintf("%.3fe9", free))
            }
            end()
        }
        disk = "device=\"/dev/sda1\", fstype=\"ext4\", mountpoint=\"/mnt/disk\""
        flat("node_filesystem_size_bytes", disk, "32e9")
        for (k = 1; k <= 2; k++) {
            begin(k == 1 ? "node_filesystem_free_bytes" : "node_filesystem_avail_bytes", disk)
            for (i = 0; i <= n; i++) put(i, sprintf("%.3fe9", 6.3 - taken(i, 1.2, 5)))
            end()
        }
        # The second disk is mounted six minutes after the others; a third one is there for the backup only.
        flat("node_scrape_collector_success", "collector=\"filesystem\"", 1); flat("node_filesystem_device_error", root, 0)
        begin("node_filesystem_device_error", disk)
        for (i = 0; i <= n; i++) put(i, (i >= reboot && i < reboot + 5) || (wrong && i > ill) ? "stale" : 0)
        end()
        begin("node_filesystem_device_error", "device=\"/dev/sdb1\", fstype=\"ext4\", mountpoint=\"/mnt/backup\"")
        for (i = 0; i <= n; i++) put(i, backup[i] ? 0 : "stale")
        end()
        begin("restic_backup_last_success_timestamp_seconds", "")
        for (i = 0; i <= n; i++) { if (i && backup[i - 1] && !backup[i]) good = i * step * 60; put(i, good + 0) }
        end()
        flat("node_filesystem_readonly", root, 0); flat("node_filesystem_files", root, 3800000); flat("node_filesystem_files_free", root, 3300000)
        flat("node_memory_MemTotal_bytes", "", "3.98e9")
        begin("node_memory_MemAvailable_bytes", ""); for (i = 0; i <= n; i++) put(i, sprintf("%.3fe9", 2.1 - 0.7 * day[i] - (upload[i] ? 0.3 : 0) + rand() * 0.1)); end()
        flat("node_memory_SwapTotal_bytes", "", "2e9"); flat("node_memory_SwapFree_bytes", "", "1.4e9")
        begin("node_load15", ""); for (i = 0; i <= n; i++) put(i, sprintf("%.2f", 0.4 + 2 * day[i] + (backup[i] ? 2.5 : 0) + rand())); end()
        for (d = 0; d < 4; d++) {
            for (i = 0; i <= n; i++) { wait[i] = backup[i] ? 0.5 : 0.02; rate[i] = 0.85 - 0.45 * day[i] - wait[i] * 0.5 + rand() * 0.05 }
            counter_fine("node_cpu_seconds_total", "cpu=\"" d "\", mode=\"idle\"", rate); counter_fine("node_cpu_seconds_total", "cpu=\"" d "\", mode=\"iowait\"", wait)
        }
        for (i = 0; i <= n; i++) rate[i] = backup[i] ? 0.65 : 0.01 * rand(); counter_fine("node_pressure_io_stalled_seconds_total", "", rate)
        for (i = 0; i <= n; i++) rate[i] = 0.03 * day[i] + (upload[i] ? 0.08 : 0); counter_fine("node_pressure_memory_waiting_seconds_total", "", rate)
        for (i = 0; i <= n; i++) rate[i] = upload[i] ? 0.02 : 0; counter_fine("node_pressure_memory_stalled_seconds_total", "", rate)
        for (i = 0; i <= n; i++) rate[i] = upload[i] ? 60 : 1; counter("node_vmstat_pswpin", "", rate); for (i = 0; i <= n; i++) rate[i] = 0; counter("node_vmstat_oom_kill", "", rate)
        for (i = 0; i <= n; i++) rate[i] = 30 + 400 * upload[i]; counter("node_network_receive_packets_total", "device=\"eth0\"", rate); counter("node_network_transmit_packets_total", "device=\"eth0\"", rate)
        for (i = 0; i <= n; i++) rate[i] = rand() < 0.001; counter("node_network_receive_errs_total", "device=\"eth0\"", rate); for (i = 0; i <= n; i++) rate[i] = 0; counter("node_network_transmit_errs_total", "device=\"eth0\"", rate)
        begin("node_time_seconds", ""); for (i = 0; i <= n; i++) put(i, 1000000 + i * step * 60); end()
        begin("node_boot_time_seconds", ""); for (i = 0; i <= n; i++) put(i, i < reboot ? 100000 : 1000000 + reboot * step * 60); end()
        # The clock follows its server some minutes after the boot.
        begin("node_timex_sync_status", ""); for (i = 0; i <= n; i++) put(i, !(i >= reboot && i < reboot + 5)); end()
    }
    function board(   i, hot) {
        begin("node_thermal_zone_temp", "zone=\"0\", type=\"cpu-thermal\"")
        for (i = 0; i <= n; i++) { hot = (i * step >= 5 * 24 * 60 + 15 * 60 && i * step < 5 * 24 * 60 + 15 * 60 + 10); put(i, sprintf("%.1f", 48 + 16 * day[i] + (backup[i] ? 5 : 0) + rand() * 2 + (hot ? 13 : 0))) }
        end()
        split("under_voltage arm_frequency_capped throttled soft_temperature_limit", reasons, " ")
        for (k = 1; k <= 4; k++) {
            begin("rpi_throttle_active", "reason=\"" reasons[k] "\"")
            for (i = 0; i <= n; i++) put(i, (k == 4 && hot) || (wrong && k == 1 && i > ill && i < ill + 20) ? 1 : 0); end()
            flat("rpi_throttle_occurred", "reason=\"" reasons[k] "\"", 0)
        }
        flat("rpi_board_info", "model=\"Raspberry Pi 4 Model B Rev 1.4\"", 1); flat("nexus_ext4_errors_total", "device=\"mmcblk0p2\"", 0)
        flat("nexus_memory_cgroup_enabled", "", 1)
    }
    function nexus(   i, k, zero) {
        split("node cadvisor nexus prometheus alertmanager", jobs, " ")
        for (k = 1; k <= 5; k++) {
            begin("up", "job=\"" jobs[k] "\""); for (i = 0; i <= n; i++) printf "%s%s", i ? " " : "", away[i] ? "_" : !(missed[i] && k < 3); end()
        }
        flat("docker_up", "", 1); flat("nexus_healer_docker_up", "", 1); flat("nexus_healer_journal_writable", "", 1); flat("nexus_healer_postgres_up", "", 1)
        flat("nexus_healer_journal_pending_rows", "", 0); flat("nexus_healer_policy_last_reload_successful", "", 1); flat("node_scrape_collector_success", "collector=\"cpu\"", 1)
        for (i = 0; i <= n; i++) zero[i] = 0
        # Telegram was away for a moment on Monday; the message got through at the next turn.
        begin("alertmanager_notifications_failed_total", "integration=\"telegram\""); for (i = 0; i <= n; i++) put(i, i > 400); end()
        counter("nexus_healer_notify_failures_total", "", zero); counter("prometheus_rule_evaluation_failures_total", "", zero); counter("prometheus_tsdb_wal_corruptions_total", "", zero); counter("prometheus_tsdb_compactions_failed_total", "", zero)
        counter("nexus_healer_postgres_refused_rows_total", "", zero)
    }
    function container(c,   i, id, labels, ids, from, to, bad, since) {
        ids = c <= 3 ? 2 : 1
        for (id = 1; id <= ids; id++) {
            labels = sprintf("id=\"/docker/%02d%d\", project=\"p%d\", service=\"s%d\", name=\"p%d-s%d-1\"", c, id, int(c / 4), c, int(c / 4), c)
            from = id == 2 ? update + 1 : 0; to = (ids == 2 && id == 1) ? update : n
            begin("docker_container_state", labels ", state=\"running\""); for (i = 0; i <= n; i++) put(i, i < from || i > to ? "_" : 1); end()
            begin("docker_container_state", labels ", state=\"exited\""); for (i = 0; i <= n; i++) put(i, i < from || i > to ? "_" : 0); end()
            begin("docker_container_expected_running", labels); for (i = 0; i <= n; i++) put(i, i < from || i > to ? "_" : 1); end()
            begin("docker_container_stopped_on_purpose", labels); for (i = 0; i <= n; i++) put(i, i < from || i > to ? "_" : 0); end()
            begin("docker_container_oom_killed", labels); for (i = 0; i <= n; i++) put(i, i < from || i > to ? "_" : 0); end()
            begin("docker_container_restarts_total", labels); for (i = 0; i <= n; i++) put(i, i < from || i > to ? "_" : (c == 7 && i > 2000)); end()
            begin("container_oom_events_total", labels); for (i = 0; i <= n; i++) put(i, i < from || i > to ? "_" : 0); end()
            if (c % 2) {
                begin("docker_container_health", labels ", health=\"unhealthy\"")
                for (i = 0; i <= n; i++) {
                    # Six minutes at each boot of slow ones, four in the middle of the week.
                    bad = (c % 5 == 0 && i > reboot + 2 && i < reboot + 6) || (c == 9 && i > 2500 && i <= 2502) || (wrong && c == 11 && i > ill && i < ill + 8)
                    put(i, i < from || i > to ? "_" : bad)
                }
                end()
            }
            begin("container_memory_rss", labels); for (i = 0; i <= n; i++) put(i, i < from || i > to ? "_" : sprintf("%.0fe6", 60 + 40 * day[i] + (c % 4) * 20 + (upload[i] ? 15 : 0))); end()
            begin("container_spec_memory_limit_bytes", labels); for (i = 0; i <= n; i++) put(i, i < from || i > to ? "_" : "256e6"); end()
        }
    }'
}

status=0
for wrong in "" wrong; do
    week "$wrong" >"$scratch/week$wrong.yml"
    promtool test rules "$scratch/week$wrong.yml" >"$scratch/week.out" 2>&1 && continue
    echo "the week with ${wrong:-nothing} in it:"
    cat "$scratch/week.out"
    status=1
done
exit "$status"
