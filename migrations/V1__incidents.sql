-- What the healer saw and did. The journal on the healer's disk is the original; these rows are its copy for people,
-- dashboards and the reporter. Applied by `nexus migrate`; the columns are described in lib/model/src/incident.rs.
-- Rows are written idempotently: a copy with a smaller revision never overwrites a greater one.

CREATE TABLE incidents (
    id               uuid PRIMARY KEY,
    host             text NOT NULL,
    project          text NOT NULL,
    service          text NOT NULL,
    container_name   text NOT NULL,
    image            text NOT NULL,
    alert            text NOT NULL,
    mode             text NOT NULL CHECK (mode IN ('heal', 'shadow', 'off')),
    state            text NOT NULL,
    outcome          text,
    problem          text NOT NULL,
    refusal          text,
    opened_at        timestamptz NOT NULL,
    last_alert_at    timestamptz NOT NULL,
    closed_at        timestamptz,
    attempts         integer NOT NULL CHECK (attempts >= 0),
    failed_attempts  integer NOT NULL CHECK (failed_attempts >= 0),
    next_attempt_at  timestamptz,
    revision         bigint NOT NULL,
    recorded_at      timestamptz NOT NULL DEFAULT now(),
    CHECK ((state = 'closed') = (outcome IS NOT NULL)),
    CHECK ((state = 'closed') = (closed_at IS NOT NULL))
);
CREATE INDEX incidents_opened_at ON incidents (opened_at);
CREATE INDEX incidents_service ON incidents (host, project, service, opened_at);

CREATE TABLE attempts (
    id                 uuid PRIMARY KEY,
    incident_id        uuid NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    number             integer NOT NULL CHECK (number > 0),
    action             text NOT NULL,
    container_id       text NOT NULL,
    started_at_before  timestamptz,
    started_at_after   timestamptz,
    intended_at        timestamptz NOT NULL,
    finished_at        timestamptz,
    outcome            text,
    detail             text,
    revision           bigint NOT NULL,
    UNIQUE (incident_id, number)
);

CREATE TABLE evidence (
    id           uuid PRIMARY KEY,
    incident_id  uuid NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    attempt_id   uuid REFERENCES attempts (id) ON DELETE CASCADE,
    kind         text NOT NULL,
    taken_at     timestamptz NOT NULL,
    body         jsonb NOT NULL
);
CREATE INDEX evidence_incident ON evidence (incident_id);

CREATE TABLE incident_events (
    id           uuid PRIMARY KEY,
    incident_id  uuid NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    at           timestamptz NOT NULL,
    kind         text NOT NULL,
    detail       text NOT NULL
);
CREATE INDEX incident_events_incident ON incident_events (incident_id, at);

-- The healer writes, Grafana reads; `nexus migrate` creates both roles before it applies this file.
GRANT SELECT, INSERT, UPDATE ON incidents, attempts, evidence, incident_events TO nexus_healer;
GRANT SELECT ON incidents, attempts, evidence, incident_events TO nexus_grafana;
