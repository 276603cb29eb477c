-- For questions in SQL (`GET /api/v1/query`, the role nexus_reader): what the tables of incidents hold, as those of the history say
-- it already, and what nobody who only reads needs.
COMMENT ON TABLE incidents IS 'Services that fell ill, what was decided about them and how it ended; the copy of the healer''s journal.';
COMMENT ON COLUMN incidents.id IS 'UUIDv7: in the order of time.';
COMMENT ON COLUMN incidents.host IS 'The machine.';
COMMENT ON COLUMN incidents.project IS 'Compose project; empty for an incident of the machine itself.';
COMMENT ON COLUMN incidents.service IS 'Compose service.';
COMMENT ON COLUMN incidents.container_name IS 'Name of the container that the incident began with.';
COMMENT ON COLUMN incidents.image IS 'Its image.';
COMMENT ON COLUMN incidents.alert IS 'Name of the alert that was the first prompt to look.';
COMMENT ON COLUMN incidents.mode IS 'heal: restarted; shadow: only watched; off.';
COMMENT ON COLUMN incidents.state IS 'suspect, watching, blocked, backoff, restarting, verifying, relieving, stabilising, gave_up or closed.';
COMMENT ON COLUMN incidents.outcome IS 'How it ended, when closed: recovered (a restart helped), recovered_by_itself, gone, stopped_by_human, switched_off.';
COMMENT ON COLUMN incidents.problem IS 'What was found when it was looked at first.';
COMMENT ON COLUMN incidents.refusal IS 'Why nothing was being done, if so.';
COMMENT ON COLUMN incidents.opened_at IS 'When it began.';
COMMENT ON COLUMN incidents.last_alert_at IS 'When an alert for it came in last.';
COMMENT ON COLUMN incidents.closed_at IS 'When it ended; NULL while it is open.';
COMMENT ON COLUMN incidents.attempts IS 'Restarts that were made for it.';
COMMENT ON COLUMN incidents.failed_attempts IS 'Those of them that are known not to have helped.';
COMMENT ON COLUMN incidents.next_attempt_at IS 'In backoff: when the next one is due.';
COMMENT ON COLUMN incidents.revision IS 'Grows with each change of the row.';
COMMENT ON COLUMN incidents.recorded_at IS 'When this revision was copied from the journal.';
COMMENT ON COLUMN incidents.diagnosis IS 'What is behind it: cause, confidence, summary, because, recommendation.';
COMMENT ON COLUMN incidents.cause IS 'The cause in one word, as in docs/healing.md.';
COMMENT ON COLUMN incidents.confidence IS 'How sure that is: certain, likely, guess or none.';
COMMENT ON COLUMN incidents.acknowledged_at IS 'When somebody said that they know of it.';
COMMENT ON TABLE attempts IS 'What was done for an incident, one restart a row.';
COMMENT ON COLUMN attempts.number IS 'From 1 within the incident.';
COMMENT ON COLUMN attempts.action IS 'restart or start; of the machine itself ballast, prune, stop or start.';
COMMENT ON COLUMN attempts.started_at_before IS 'Start time of the container before the act.';
COMMENT ON COLUMN attempts.started_at_after IS 'And after it: another one proves that it was restarted.';
COMMENT ON COLUMN attempts.intended_at IS 'When it was decided.';
COMMENT ON COLUMN attempts.finished_at IS 'When it was judged.';
COMMENT ON COLUMN attempts.outcome IS 'helped, did_not_help, failed or interrupted.';
COMMENT ON COLUMN attempts.detail IS 'What Docker or the verification said.';
COMMENT ON TABLE evidence IS 'What was seen before an attempt, secrets hidden.';
COMMENT ON COLUMN evidence.kind IS 'inspect, health_log, logs, host_vitals or container_vitals.';
COMMENT ON COLUMN evidence.body IS 'Depends on the kind.';
COMMENT ON TABLE incident_events IS 'The story of an incident line by line.';
COMMENT ON COLUMN incident_events.kind IS 'opened, refused, restarted, attempt_failed, gave_up, closed and others.';
COMMENT ON COLUMN incident_events.detail IS 'For people.';

-- Everybody may make large objects, which is writing, and before PostgreSQL 16 in a read-only transaction too; and everybody may write
-- messages into the log of the database. Nothing of Nexus does. By name, since versions differ in what there is.
DO $$
DECLARE
    target regprocedure;
BEGIN
    FOR target IN
        SELECT oid FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace
          AND proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_put', 'lo_unlink', 'lowrite', 'lo_truncate', 'lo_truncate64',
                          'lo_import', 'lo_export', 'lo_open', 'pg_logical_emit_message')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', target);
    END LOOP;
END $$;
