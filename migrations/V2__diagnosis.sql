-- What was behind an incident, as far as the evidence told: lib/model/src/diagnosis.rs describes the fields, docs/healing.md
-- each cause. Cause and confidence are columns of their own so that they can be counted; they can't disagree with the rest.

ALTER TABLE incidents
    ADD COLUMN diagnosis jsonb,
    ADD COLUMN cause text GENERATED ALWAYS AS (diagnosis ->> 'cause') STORED,
    ADD COLUMN confidence text GENERATED ALWAYS AS (diagnosis ->> 'confidence') STORED;
