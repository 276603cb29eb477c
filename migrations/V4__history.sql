-- A year of vitals. The reporter copies them from Prometheus in batches; docs/history.md tells how, and what it costs.
--
-- A sample is stamped with the end of the five minutes that it describes; an hour with its beginning, and made of the samples
-- after it up to and including the next full hour. What could not be measured is NULL, never zero. Times are UTC, and so are
-- the bounds of partitions.
--
-- Rows are only ever added, and go by dropping whole partitions: nothing to vacuum, nothing to freeze. So they have no foreign
-- keys either, whose checks would write to the page of the subject with each row. Bytes come first, then what is half as wide, so that
-- no row is padded: of a year, three quarters are rows of services.

CREATE SCHEMA history;
COMMENT ON SCHEMA history IS 'A year of vitals of hosts, file systems and services, copied from Prometheus by the reporter.';

-- Subjects: few and small.

CREATE TABLE history.hosts (
    id             integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name           text NOT NULL UNIQUE CHECK (octet_length(name) <= 300),
    first_seen_at  timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL
);
COMMENT ON TABLE history.hosts IS 'Machines that are watched.';
COMMENT ON COLUMN history.hosts.id IS 'Key within this database.';
COMMENT ON COLUMN history.hosts.name IS 'Label host of the series.';
COMMENT ON COLUMN history.hosts.first_seen_at IS 'First sample.';
COMMENT ON COLUMN history.hosts.last_seen_at IS 'Last sample, up to a day old.';

CREATE TABLE history.services (
    id             integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    host_id        integer NOT NULL REFERENCES history.hosts (id),
    project        text NOT NULL CHECK (octet_length(project) <= 300),
    service        text NOT NULL CHECK (octet_length(service) <= 300),
    first_seen_at  timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL,
    UNIQUE (host_id, project, service)
);
COMMENT ON TABLE history.services IS 'Services of Docker Compose, and containers outside it, which have no project.';
COMMENT ON COLUMN history.services.id IS 'Key within this database.';
COMMENT ON COLUMN history.services.host_id IS 'The machine it runs on.';
COMMENT ON COLUMN history.services.project IS 'Compose project; empty for a container outside Compose.';
COMMENT ON COLUMN history.services.service IS 'Compose service; the name of a container outside Compose.';
COMMENT ON COLUMN history.services.first_seen_at IS 'First sample.';
COMMENT ON COLUMN history.services.last_seen_at IS 'Last sample, up to a day old.';

CREATE TABLE history.mounts (
    id             integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    host_id        integer NOT NULL REFERENCES history.hosts (id),
    mountpoint     text NOT NULL CHECK (octet_length(mountpoint) <= 300),
    device         text NOT NULL CHECK (octet_length(device) <= 300),
    fstype         text NOT NULL CHECK (octet_length(fstype) <= 300),
    first_seen_at  timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL,
    UNIQUE (host_id, mountpoint)
);
COMMENT ON TABLE history.mounts IS 'File systems by the folder they are mounted at; those that can fill up, each once.';
COMMENT ON COLUMN history.mounts.id IS 'Key within this database.';
COMMENT ON COLUMN history.mounts.host_id IS 'The machine it is mounted on.';
COMMENT ON COLUMN history.mounts.mountpoint IS 'Folder it is mounted at.';
COMMENT ON COLUMN history.mounts.device IS 'Device it was on last.';
COMMENT ON COLUMN history.mounts.fstype IS 'Type it had last.';
COMMENT ON COLUMN history.mounts.first_seen_at IS 'First sample.';
COMMENT ON COLUMN history.mounts.last_seen_at IS 'Last sample, up to a day old.';

-- Five-minute samples, a partition a week (from Monday).
--
-- Time comes first in their keys: a batch then goes to the end of the index, where it takes a page or two; by subject it would take
-- one for each, and for 30 services that was half of all that is written. To find two weeks of one service the
-- index of those two weeks is gone through, 4 MB; longer ranges are for the hours. Those are added once a day, and by subject.

CREATE TABLE history.host_samples (
    at                             timestamptz NOT NULL,
    memory_total_bytes             bigint,
    memory_used_bytes              bigint,
    swap_total_bytes               bigint,
    swap_used_bytes                bigint,
    host_id                        integer NOT NULL,
    cpu_busy_ratio                 real,
    cpu_count                      real,
    load1                          real,
    load5                          real,
    load15                         real,
    cpu_pressure_ratio             real,
    memory_pressure_ratio          real,
    memory_pressure_full_ratio     real,
    io_pressure_ratio              real,
    io_pressure_full_ratio         real,
    temperature_celsius            real,
    throttled_ratio                real,
    undervoltage_ratio             real,
    network_in_bytes_per_second    real,
    network_out_bytes_per_second   real,
    disk_read_bytes_per_second     real,
    disk_written_bytes_per_second  real,
    swap_in_pages_per_second       real,
    swap_out_pages_per_second      real,
    PRIMARY KEY (at, host_id)
) PARTITION BY RANGE (at);
COMMENT ON TABLE history.host_samples IS 'Vitals of a host every five minutes, kept for 90 days.';
COMMENT ON COLUMN history.host_samples.at IS 'End of the five minutes.';
COMMENT ON COLUMN history.host_samples.memory_total_bytes IS 'Memory of the machine.';
COMMENT ON COLUMN history.host_samples.memory_used_bytes IS 'Memory that is not available to a program that asks for it.';
COMMENT ON COLUMN history.host_samples.swap_total_bytes IS 'Swap space; 0 without any.';
COMMENT ON COLUMN history.host_samples.swap_used_bytes IS 'Swap space in use.';
COMMENT ON COLUMN history.host_samples.host_id IS 'The host: history.hosts.id.';
COMMENT ON COLUMN history.host_samples.cpu_busy_ratio IS 'Share of all processors'' time that was neither idle nor waiting for I/O; 1 is all of it.';
COMMENT ON COLUMN history.host_samples.cpu_count IS 'Number of processors.';
COMMENT ON COLUMN history.host_samples.load1 IS 'Load average of one minute.';
COMMENT ON COLUMN history.host_samples.load5 IS 'Load average of five minutes.';
COMMENT ON COLUMN history.host_samples.load15 IS 'Load average of fifteen minutes.';
COMMENT ON COLUMN history.host_samples.cpu_pressure_ratio IS 'Share of the time in which something waited for a processor.';
COMMENT ON COLUMN history.host_samples.memory_pressure_ratio IS 'Share of the time in which something waited for memory.';
COMMENT ON COLUMN history.host_samples.memory_pressure_full_ratio IS 'Share of the time in which nothing went on for want of memory.';
COMMENT ON COLUMN history.host_samples.io_pressure_ratio IS 'Share of the time in which something waited for I/O.';
COMMENT ON COLUMN history.host_samples.io_pressure_full_ratio IS 'Share of the time in which nothing went on for want of I/O.';
COMMENT ON COLUMN history.host_samples.temperature_celsius IS 'Hottest thermal zone, its mean of the five minutes; the hottest other sensor where there is no zone.';
COMMENT ON COLUMN history.host_samples.throttled_ratio IS 'Share of the time in which a Raspberry Pi''s firmware held the processor back.';
COMMENT ON COLUMN history.host_samples.undervoltage_ratio IS 'Share of the time in which a Raspberry Pi''s firmware saw too little voltage.';
COMMENT ON COLUMN history.host_samples.network_in_bytes_per_second IS 'Received by the machine''s own interfaces, without loopback, bridges and those of containers.';
COMMENT ON COLUMN history.host_samples.network_out_bytes_per_second IS 'Sent by the machine''s own interfaces, without loopback, bridges and those of containers.';
COMMENT ON COLUMN history.host_samples.disk_read_bytes_per_second IS 'Read from disks and cards.';
COMMENT ON COLUMN history.host_samples.disk_written_bytes_per_second IS 'Written to disks and cards.';
COMMENT ON COLUMN history.host_samples.swap_in_pages_per_second IS 'Pages read back from swap.';
COMMENT ON COLUMN history.host_samples.swap_out_pages_per_second IS 'Pages moved out to swap.';

CREATE TABLE history.mount_samples (
    at               timestamptz NOT NULL,
    size_bytes       bigint,
    used_bytes       bigint,
    available_bytes  bigint,
    inodes           bigint,
    inodes_used      bigint,
    mount_id         integer NOT NULL,
    PRIMARY KEY (at, mount_id)
) PARTITION BY RANGE (at);
COMMENT ON TABLE history.mount_samples IS 'Usage of a file system every five minutes, kept for 90 days.';
COMMENT ON COLUMN history.mount_samples.at IS 'End of the five minutes.';
COMMENT ON COLUMN history.mount_samples.size_bytes IS 'Size, what is reserved for root included.';
COMMENT ON COLUMN history.mount_samples.used_bytes IS 'Used; with what is available it makes the size that df reckons with.';
COMMENT ON COLUMN history.mount_samples.available_bytes IS 'Available to others than root.';
COMMENT ON COLUMN history.mount_samples.inodes IS 'Files that it can hold; NULL where the type knows no such limit.';
COMMENT ON COLUMN history.mount_samples.inodes_used IS 'Files that it holds; NULL where the type knows no such limit.';
COMMENT ON COLUMN history.mount_samples.mount_id IS 'The file system: history.mounts.id.';

CREATE TABLE history.service_samples (
    at                  timestamptz NOT NULL,
    memory_bytes        bigint,
    memory_peak_bytes   bigint,
    memory_limit_bytes  bigint,
    service_id          integer NOT NULL,
    up_ratio            real,
    healthy_ratio       real,
    cpu_cores           real,
    replicas            smallint,
    restarts            smallint,
    oom_kills           smallint,
    PRIMARY KEY (at, service_id)
) PARTITION BY RANGE (at);
COMMENT ON TABLE history.service_samples IS 'How a service did every five minutes, its replicas together, kept for 90 days.';
COMMENT ON COLUMN history.service_samples.at IS 'End of the five minutes.';
COMMENT ON COLUMN history.service_samples.memory_bytes IS 'Working set, the mean of the five minutes; NULL where the kernel counts no memory of containers.';
COMMENT ON COLUMN history.service_samples.memory_peak_bytes IS 'Working set, the most of the five minutes.';
COMMENT ON COLUMN history.service_samples.memory_limit_bytes IS 'Memory limit of all replicas; NULL when one of them has none.';
COMMENT ON COLUMN history.service_samples.service_id IS 'The service: history.services.id.';
COMMENT ON COLUMN history.service_samples.up_ratio IS 'Share of the time in which the replicas that should run did; NULL when none should.';
COMMENT ON COLUMN history.service_samples.healthy_ratio IS 'Share of the time in which health checks called the replicas healthy; NULL without a health check.';
COMMENT ON COLUMN history.service_samples.cpu_cores IS 'Processors kept busy, the mean of the five minutes; 1 is one whole processor.';
COMMENT ON COLUMN history.service_samples.replicas IS 'Containers that should run and that nobody stopped.';
COMMENT ON COLUMN history.service_samples.restarts IS 'Restarts by Docker''s restart policy in these five minutes; those of the healer are in attempts.';
COMMENT ON COLUMN history.service_samples.oom_kills IS 'Processes killed for memory in these five minutes.';

-- Hours, a partition a month.

CREATE TABLE history.host_hours (
    hour                              timestamptz NOT NULL,
    memory_total_bytes                bigint,
    memory_used_bytes_min             bigint,
    memory_used_bytes_avg             bigint,
    memory_used_bytes_max             bigint,
    memory_used_bytes_p95             bigint,
    swap_total_bytes                  bigint,
    swap_used_bytes_avg               bigint,
    swap_used_bytes_max               bigint,
    host_id                           integer NOT NULL,
    cpu_busy_ratio_min                real,
    cpu_busy_ratio_avg                real,
    cpu_busy_ratio_max                real,
    cpu_busy_ratio_p95                real,
    cpu_count                         real,
    load5_min                         real,
    load5_avg                         real,
    load5_max                         real,
    load5_p95                         real,
    cpu_pressure_ratio_avg            real,
    cpu_pressure_ratio_max            real,
    memory_pressure_ratio_avg         real,
    memory_pressure_ratio_max         real,
    memory_pressure_full_ratio_avg    real,
    memory_pressure_full_ratio_max    real,
    io_pressure_ratio_avg             real,
    io_pressure_ratio_max             real,
    io_pressure_full_ratio_avg        real,
    io_pressure_full_ratio_max        real,
    temperature_celsius_min           real,
    temperature_celsius_avg           real,
    temperature_celsius_max           real,
    temperature_celsius_p95           real,
    throttled_ratio_avg               real,
    undervoltage_ratio_avg            real,
    network_in_bytes_per_second_avg   real,
    network_in_bytes_per_second_max   real,
    network_out_bytes_per_second_avg  real,
    network_out_bytes_per_second_max  real,
    disk_read_bytes_per_second_avg    real,
    disk_written_bytes_per_second_avg real,
    swap_in_pages_per_second_avg      real,
    swap_out_pages_per_second_avg     real,
    samples                           smallint NOT NULL,
    PRIMARY KEY (host_id, hour)
) PARTITION BY RANGE (hour);
COMMENT ON TABLE history.host_hours IS 'Vitals of a host by the hour, kept for a year: _min, _avg, _max and _p95 are least, mean, most and 95th percentile of its samples.';
COMMENT ON COLUMN history.host_hours.hour IS 'Beginning of the hour.';
COMMENT ON COLUMN history.host_hours.host_id IS 'The host: history.hosts.id.';
COMMENT ON COLUMN history.host_hours.samples IS 'Samples that the row is made of, 12 when none is missing.';

CREATE TABLE history.mount_hours (
    hour                 timestamptz NOT NULL,
    size_bytes           bigint,
    used_bytes_min       bigint,
    used_bytes_avg       bigint,
    used_bytes_max       bigint,
    available_bytes_min  bigint,
    available_bytes_avg  bigint,
    inodes               bigint,
    inodes_used_max      bigint,
    mount_id             integer NOT NULL,
    samples              smallint NOT NULL,
    PRIMARY KEY (mount_id, hour)
) PARTITION BY RANGE (hour);
COMMENT ON TABLE history.mount_hours IS 'Usage of a file system by the hour, kept for a year: _min, _avg and _max are least, mean and most of its samples.';
COMMENT ON COLUMN history.mount_hours.hour IS 'Beginning of the hour.';
COMMENT ON COLUMN history.mount_hours.mount_id IS 'The file system: history.mounts.id.';
COMMENT ON COLUMN history.mount_hours.samples IS 'Samples that the row is made of, 12 when none is missing.';

CREATE TABLE history.service_hours (
    hour                timestamptz NOT NULL,
    memory_bytes_min    bigint,
    memory_bytes_avg    bigint,
    memory_bytes_max    bigint,
    memory_bytes_p95    bigint,
    memory_peak_bytes_max  bigint,
    memory_limit_bytes  bigint,
    service_id          integer NOT NULL,
    up_ratio_min        real,
    up_ratio_avg        real,
    healthy_ratio_min   real,
    healthy_ratio_avg   real,
    cpu_cores_min       real,
    cpu_cores_avg       real,
    cpu_cores_max       real,
    cpu_cores_p95       real,
    restarts            integer,
    oom_kills           integer,
    replicas            smallint,
    samples             smallint NOT NULL,
    PRIMARY KEY (service_id, hour)
) PARTITION BY RANGE (hour);
COMMENT ON TABLE history.service_hours IS 'How a service did by the hour, kept for a year: _min, _avg, _max and _p95 are least, mean, most and 95th percentile of its samples.';
COMMENT ON COLUMN history.service_hours.hour IS 'Beginning of the hour.';
COMMENT ON COLUMN history.service_hours.service_id IS 'The service: history.services.id.';
COMMENT ON COLUMN history.service_hours.memory_limit_bytes IS 'The highest memory limit of the hour; NULL when there was none.';
COMMENT ON COLUMN history.service_hours.restarts IS 'Restarts by Docker''s restart policy within the hour.';
COMMENT ON COLUMN history.service_hours.oom_kills IS 'Processes killed for memory within the hour.';
COMMENT ON COLUMN history.service_hours.replicas IS 'Most containers that should run and that nobody stopped.';
COMMENT ON COLUMN history.service_hours.samples IS 'Samples that the row is made of, 12 when none is missing.';

-- Columns of hours that carry a column of the samples on: the same words, and which figure of the hour it is.
DO $$
DECLARE
    target record;
BEGIN
    FOR target IN
        SELECT pair.hours, hour.attname AS name, sample.said, coalesce(figure.says, 'The most of the hour') AS says
        FROM (VALUES ('history.host_hours'::regclass, 'history.host_samples'::regclass),
                     ('history.mount_hours', 'history.mount_samples'),
                     ('history.service_hours', 'history.service_samples')) AS pair (hours, samples)
        JOIN pg_attribute hour ON hour.attrelid = pair.hours AND hour.attnum > 0
        LEFT JOIN (VALUES ('min', 'Least'), ('avg', 'Mean'), ('max', 'Most'), ('p95', '95th percentile')) AS figure (suffix, says)
            ON right(hour.attname, 4) = '_' || figure.suffix
        JOIN LATERAL (
            SELECT col_description(pair.samples, attnum) AS said FROM pg_attribute
            WHERE attrelid = pair.samples AND attname = regexp_replace(hour.attname, '_(min|avg|max|p95)$', '')
        ) sample ON true
        WHERE col_description(pair.hours, hour.attnum) IS NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', target.hours, target.name, target.says || ': ' || target.said);
    END LOOP;
END $$;

CREATE TABLE history.progress (
    task        text PRIMARY KEY CHECK (task IN ('collect', 'roll_up')),
    through     timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE history.progress IS 'How far the reporter has come. Moved within the transaction that writes the rows, so that a gap in Prometheus is told from one in the copy.';
COMMENT ON COLUMN history.progress.task IS 'collect: samples from Prometheus; roll_up: hours from samples.';
COMMENT ON COLUMN history.progress.through IS 'All samples up to and including this time, or all hours that end by it, are there as far as they ever will be.';
COMMENT ON COLUMN history.progress.updated_at IS 'When that was written.';

-- Partitions. The reporter adds rows and nothing else: it owns no table, so it can't change or empty one. What it needs beyond
-- that, making and dropping partitions, it has by these two functions, which run with the owner's rights, take times and one name that
-- must be that of a partition, and look nothing up outside pg_catalog.

CREATE FUNCTION history.make_partitions(first timestamptz, last timestamptz) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET lock_timeout = '10s'
AS $$
DECLARE
    parent  text;
    step    interval;
    unit    text;
    lower   timestamptz;
    name    text;
    made    integer := 0;
BEGIN
    IF first IS NULL OR last IS NULL OR last < first OR last - first > interval '400 days' THEN
        RAISE EXCEPTION 'partitions are made for at most 400 days at once, not from % to %', first, last
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF last > now() + interval '60 days' THEN
        RAISE EXCEPTION 'partitions are made for at most 60 days ahead, not to %', last
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Two reporters at once wait for each other.
    PERFORM pg_advisory_xact_lock(7954590466041);
    FOREACH parent IN ARRAY ARRAY['host_samples', 'mount_samples', 'service_samples', 'host_hours', 'mount_hours', 'service_hours'] LOOP
        unit := CASE WHEN parent LIKE '%\_hours' THEN 'month' ELSE 'week' END;
        step := ('1 ' || unit)::interval;
        lower := date_trunc(unit, first);
        WHILE lower <= last LOOP
            name := parent || to_char(lower, '_YYYYMMDD');
            IF to_regclass(format('history.%I', name)) IS NULL THEN
                -- Only added to: a vacuum would write each page again and gain nothing.
                EXECUTE format(
                    'CREATE TABLE history.%I PARTITION OF history.%I FOR VALUES FROM (%L) TO (%L) WITH '
                    '(autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_threshold = 2000, autovacuum_analyze_scale_factor = 0.5)',
                    name, parent, lower, lower + step);
                made := made + 1;
            END IF;
            lower := lower + step;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;
COMMENT ON FUNCTION history.make_partitions IS 'Makes the partitions that rows between the two times need; tells how many were missing.';

-- Where the clock is wrong the reporter's may be too: what is younger than the shortest retention stays in any case.
CREATE FUNCTION history.drop_partition(partition text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET lock_timeout = '10s'
AS $$
DECLARE
    ends  timestamptz;
BEGIN
    SELECT CASE WHEN parent.relname LIKE '%\_hours' THEN starts + interval '1 month' ELSE starts + interval '1 week' END
        INTO ends
        FROM pg_inherits
        JOIN pg_class child ON child.oid = inhrelid
        JOIN pg_class parent ON parent.oid = inhparent,
        LATERAL to_timestamp(right(child.relname, 8), 'YYYYMMDD') AS starts
        WHERE child.relname = partition AND child.relkind = 'r' AND child.relnamespace = 'history'::regnamespace
          AND parent.relname IN ('host_samples', 'mount_samples', 'service_samples', 'host_hours', 'mount_hours', 'service_hours');
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF ends > now() - interval '7 days' THEN
        RAISE EXCEPTION 'partition % holds the last seven days', partition USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('DROP TABLE history.%I', partition);
    RETURN true;
END $$;
COMMENT ON FUNCTION history.drop_partition IS 'Drops a partition that ended seven days ago or earlier; false when there is none of that name.';

CREATE VIEW history.partitions AS
    SELECT parent.relname::text AS parent,
           child.relname::text AS name,
           starts AT TIME ZONE 'UTC' AS starts_at,
           CASE WHEN parent.relname LIKE '%\_hours' THEN (starts + interval '1 month') AT TIME ZONE 'UTC'
                ELSE (starts + interval '1 week') AT TIME ZONE 'UTC' END AS ends_at,
           pg_total_relation_size(child.oid) AS bytes,
           pg_relation_size(child.oid) > 0 AS holds_rows,
           greatest(child.reltuples, 0)::bigint AS estimated_rows
    FROM pg_inherits
    JOIN pg_class child ON child.oid = inhrelid AND child.relkind = 'r'
    JOIN pg_class parent ON parent.oid = inhparent AND parent.relnamespace = 'history'::regnamespace,
    LATERAL (SELECT to_date(right(child.relname, 8), 'YYYYMMDD')::timestamp AS starts) AS bound;
COMMENT ON VIEW history.partitions IS 'The partitions of the history with their times and sizes (indexes included).';

-- For people, agents and Grafana: names instead of keys, and units in the names of columns.

CREATE VIEW history.host_usage AS
    SELECT s.at,
           h.name AS host,
           100 * s.cpu_busy_ratio AS cpu_percent,
           s.cpu_count,
           s.load1, s.load5, s.load15,
           s.memory_total_bytes / 1048576.0 AS memory_total_mib,
           s.memory_used_bytes / 1048576.0 AS memory_used_mib,
           100.0 * s.memory_used_bytes / nullif(s.memory_total_bytes, 0) AS memory_percent,
           s.swap_total_bytes / 1048576.0 AS swap_total_mib,
           s.swap_used_bytes / 1048576.0 AS swap_used_mib,
           100 * s.cpu_pressure_ratio AS cpu_pressure_percent,
           100 * s.memory_pressure_ratio AS memory_pressure_percent,
           100 * s.memory_pressure_full_ratio AS memory_pressure_full_percent,
           100 * s.io_pressure_ratio AS io_pressure_percent,
           100 * s.io_pressure_full_ratio AS io_pressure_full_percent,
           s.temperature_celsius,
           100 * s.throttled_ratio AS throttled_percent,
           100 * s.undervoltage_ratio AS undervoltage_percent,
           s.network_in_bytes_per_second, s.network_out_bytes_per_second,
           s.disk_read_bytes_per_second, s.disk_written_bytes_per_second,
           s.swap_in_pages_per_second, s.swap_out_pages_per_second
    FROM history.host_samples s JOIN history.hosts h ON h.id = s.host_id;
COMMENT ON VIEW history.host_usage IS 'Vitals of hosts every five minutes, 90 days; at is the end of the five minutes.';

CREATE VIEW history.host_usage_hourly AS
    SELECT s.hour,
           h.name AS host,
           100 * s.cpu_busy_ratio_min AS cpu_percent_min,
           100 * s.cpu_busy_ratio_avg AS cpu_percent,
           100 * s.cpu_busy_ratio_max AS cpu_percent_max,
           100 * s.cpu_busy_ratio_p95 AS cpu_percent_p95,
           s.cpu_count,
           s.load5_min, s.load5_avg AS load5, s.load5_max, s.load5_p95,
           s.memory_total_bytes / 1048576.0 AS memory_total_mib,
           s.memory_used_bytes_min / 1048576.0 AS memory_used_mib_min,
           s.memory_used_bytes_avg / 1048576.0 AS memory_used_mib,
           s.memory_used_bytes_max / 1048576.0 AS memory_used_mib_max,
           s.memory_used_bytes_p95 / 1048576.0 AS memory_used_mib_p95,
           100.0 * s.memory_used_bytes_avg / nullif(s.memory_total_bytes, 0) AS memory_percent,
           s.swap_total_bytes / 1048576.0 AS swap_total_mib,
           s.swap_used_bytes_avg / 1048576.0 AS swap_used_mib,
           s.swap_used_bytes_max / 1048576.0 AS swap_used_mib_max,
           100 * s.cpu_pressure_ratio_avg AS cpu_pressure_percent,
           100 * s.memory_pressure_ratio_avg AS memory_pressure_percent,
           100 * s.memory_pressure_full_ratio_avg AS memory_pressure_full_percent,
           100 * s.io_pressure_ratio_avg AS io_pressure_percent,
           100 * s.io_pressure_full_ratio_avg AS io_pressure_full_percent,
           s.temperature_celsius_min, s.temperature_celsius_avg AS temperature_celsius, s.temperature_celsius_max,
           s.temperature_celsius_p95,
           100 * s.throttled_ratio_avg AS throttled_percent,
           100 * s.undervoltage_ratio_avg AS undervoltage_percent,
           s.network_in_bytes_per_second_avg AS network_in_bytes_per_second,
           s.network_out_bytes_per_second_avg AS network_out_bytes_per_second,
           s.disk_read_bytes_per_second_avg AS disk_read_bytes_per_second,
           s.disk_written_bytes_per_second_avg AS disk_written_bytes_per_second,
           s.swap_in_pages_per_second_avg AS swap_in_pages_per_second,
           s.swap_out_pages_per_second_avg AS swap_out_pages_per_second,
           s.samples
    FROM history.host_hours s JOIN history.hosts h ON h.id = s.host_id;
COMMENT ON VIEW history.host_usage_hourly IS 'Vitals of hosts by the hour, one year; hour is its beginning.';

CREATE VIEW history.mount_usage AS
    SELECT s.at,
           h.name AS host, m.mountpoint, m.device, m.fstype,
           s.size_bytes / 1073741824.0 AS size_gib,
           s.used_bytes / 1073741824.0 AS used_gib,
           s.available_bytes / 1073741824.0 AS available_gib,
           100.0 * s.used_bytes / nullif(s.used_bytes + s.available_bytes, 0) AS used_percent,
           100.0 * s.inodes_used / nullif(s.inodes, 0) AS inodes_used_percent
    FROM history.mount_samples s JOIN history.mounts m ON m.id = s.mount_id JOIN history.hosts h ON h.id = m.host_id;
COMMENT ON VIEW history.mount_usage IS 'Usage of file systems every five minutes, 90 days; used_percent as df counts.';

CREATE VIEW history.mount_usage_hourly AS
    SELECT s.hour,
           h.name AS host, m.mountpoint, m.device, m.fstype,
           s.size_bytes / 1073741824.0 AS size_gib,
           s.used_bytes_min / 1073741824.0 AS used_gib_min,
           s.used_bytes_avg / 1073741824.0 AS used_gib,
           s.used_bytes_max / 1073741824.0 AS used_gib_max,
           s.available_bytes_min / 1073741824.0 AS available_gib_min,
           s.available_bytes_avg / 1073741824.0 AS available_gib,
           100.0 * s.used_bytes_avg / nullif(s.used_bytes_avg + s.available_bytes_avg, 0) AS used_percent,
           100.0 * s.inodes_used_max / nullif(s.inodes, 0) AS inodes_used_percent_max,
           s.samples
    FROM history.mount_hours s JOIN history.mounts m ON m.id = s.mount_id JOIN history.hosts h ON h.id = m.host_id;
COMMENT ON VIEW history.mount_usage_hourly IS 'Usage of file systems by the hour, one year; used_percent as df counts.';

CREATE VIEW history.service_usage AS
    SELECT s.at,
           h.name AS host, v.project, v.service,
           100 * s.up_ratio AS up_percent,
           100 * s.healthy_ratio AS healthy_percent,
           s.replicas, s.restarts, s.oom_kills,
           100 * s.cpu_cores AS cpu_percent_of_one_core,
           s.memory_bytes / 1048576.0 AS memory_mib,
           s.memory_peak_bytes / 1048576.0 AS memory_peak_mib,
           s.memory_limit_bytes / 1048576.0 AS memory_limit_mib,
           100.0 * s.memory_bytes / nullif(s.memory_limit_bytes, 0) AS memory_percent_of_limit
    FROM history.service_samples s JOIN history.services v ON v.id = s.service_id JOIN history.hosts h ON h.id = v.host_id;
COMMENT ON VIEW history.service_usage IS 'How services did every five minutes, 90 days; project is empty outside Compose.';

CREATE VIEW history.service_usage_hourly AS
    SELECT s.hour,
           h.name AS host, v.project, v.service,
           100 * s.up_ratio_avg AS up_percent,
           100 * s.up_ratio_min AS up_percent_min,
           100 * s.healthy_ratio_avg AS healthy_percent,
           100 * s.healthy_ratio_min AS healthy_percent_min,
           s.replicas, s.restarts, s.oom_kills,
           100 * s.cpu_cores_min AS cpu_percent_of_one_core_min,
           100 * s.cpu_cores_avg AS cpu_percent_of_one_core,
           100 * s.cpu_cores_max AS cpu_percent_of_one_core_max,
           100 * s.cpu_cores_p95 AS cpu_percent_of_one_core_p95,
           s.memory_bytes_min / 1048576.0 AS memory_mib_min,
           s.memory_bytes_avg / 1048576.0 AS memory_mib,
           s.memory_bytes_max / 1048576.0 AS memory_mib_max,
           s.memory_bytes_p95 / 1048576.0 AS memory_mib_p95,
           s.memory_peak_bytes_max / 1048576.0 AS memory_peak_mib,
           s.memory_limit_bytes / 1048576.0 AS memory_limit_mib,
           s.samples
    FROM history.service_hours s JOIN history.services v ON v.id = s.service_id JOIN history.hosts h ON h.id = v.host_id;
COMMENT ON VIEW history.service_usage_hourly IS 'How services did by the hour, one year; project is empty outside Compose.';

-- Rights; `nexus migrate` creates the roles before it applies this file. Nobody may delete.
GRANT USAGE ON SCHEMA history TO nexus_reporter, nexus_reader, nexus_grafana;
GRANT SELECT ON ALL TABLES IN SCHEMA history TO nexus_reporter, nexus_reader, nexus_grafana;
GRANT INSERT ON history.host_samples, history.mount_samples, history.service_samples,
    history.host_hours, history.mount_hours, history.service_hours TO nexus_reporter;
GRANT INSERT, UPDATE ON history.hosts, history.services, history.mounts, history.progress TO nexus_reporter;
REVOKE EXECUTE ON FUNCTION history.make_partitions, history.drop_partition FROM PUBLIC;
GRANT EXECUTE ON FUNCTION history.make_partitions, history.drop_partition TO nexus_reporter;
GRANT SELECT ON incidents, attempts, evidence, incident_events TO nexus_reporter, nexus_reader;
