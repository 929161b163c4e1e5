-- What PostgreSQL 18 added; run after rich.sql and rich-17.sql.

ALTER TABLE app.parted_am SET ACCESS METHOD heap2;
CREATE TABLE app.virtual (a integer, twice integer GENERATED ALWAYS AS (a * 2) VIRTUAL, shown integer GENERATED ALWAYS AS (a + 1));
INSERT INTO app.virtual (a) SELECT generate_series(1, 100);
CREATE TABLE app.temporal (
    id integer, valid daterange, v text, CONSTRAINT temporal_pkey PRIMARY KEY (id, valid WITHOUT OVERLAPS)
);
CREATE TABLE app.temporal_child (
    id integer, parent integer, valid daterange,
    CONSTRAINT temporal_child_fk FOREIGN KEY (parent, PERIOD valid) REFERENCES app.temporal (id, PERIOD valid)
);
INSERT INTO app.temporal VALUES (1, '[2024-01-01,2025-01-01)', 'a'), (1, '[2025-01-01,2026-01-01)', 'b');
INSERT INTO app.temporal_child VALUES (1, 1, '[2024-06-01,2025-06-01)');
CREATE TABLE app.named_not_null (a integer CONSTRAINT a_is_there NOT NULL, b integer CONSTRAINT b_is_there NOT NULL NO INHERIT);
COMMENT ON CONSTRAINT a_is_there ON app.named_not_null IS 'named';
ALTER TABLE app.customer ADD CONSTRAINT name_there NOT NULL name NOT VALID;
CREATE TABLE app.unenforced (a integer, CONSTRAINT never CHECK (a > 0) NOT ENFORCED, b integer REFERENCES app.customer NOT ENFORCED);
INSERT INTO app.unenforced VALUES (-1, -1);
ALTER TABLE app.events ADD CONSTRAINT events_later FOREIGN KEY (id) REFERENCES app.customer NOT VALID;
