-- When somebody said that they know of an incident that failed or was given up: it stays as it is, and nobody is told any more.

ALTER TABLE incidents ADD COLUMN acknowledged_at timestamptz;
