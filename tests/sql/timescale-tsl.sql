-- One of everything that only the TSL edition has: compressed chunks of all kinds, continuous aggregates, policies, jobs.
-- The version of the extension is given by the caller, who creates it.
CREATE TABLE device (id integer PRIMARY KEY, name text);
INSERT INTO device SELECT g, 'device ' || g FROM generate_series(0, 9) g;
CREATE TYPE mood AS ENUM ('calm', 'wild');

CREATE TABLE conditions (
    at timestamptz NOT NULL, device integer NOT NULL REFERENCES device, temperature float8, humidity numeric(6, 2),
    note text, tags text[], feeling mood, extra jsonb, ok boolean, uid uuid
);
SELECT create_hypertable('conditions', 'at', chunk_time_interval => interval '7 days');
CREATE INDEX conditions_device ON conditions (device, at DESC);
ALTER TABLE conditions SET (timescaledb.compress, timescaledb.compress_segmentby = 'device', timescaledb.compress_orderby = 'at DESC');
INSERT INTO conditions
    SELECT '2025-01-01 00:00:00+00'::timestamptz + g * interval '10 minutes', g % 10, 20 + sin(g), (g % 1000) / 10.0,
        CASE WHEN g % 3 = 0 THEN 'note ' || g % 50 END, CASE WHEN g % 5 = 0 THEN ARRAY['a', 'b' || g % 7, NULL] END,
        CASE WHEN g % 2 = 0 THEN 'calm'::mood ELSE 'wild' END, CASE WHEN g % 4 = 0 THEN jsonb_build_object('k', g % 9) END,
        g % 2 = 0, md5(g::text)::uuid
    FROM generate_series(0, 9999) g;
-- Ten chunks: the first six compressed, of these one with rows added since, one with rows deleted since.
SELECT count(compress_chunk(c)) FROM (SELECT c FROM show_chunks('conditions') c ORDER BY c LIMIT 6) s;
INSERT INTO conditions VALUES ('2025-01-09 00:00:01+00', 3, 1, 1, 'late', NULL, 'wild', NULL, true, NULL);
DELETE FROM conditions WHERE device = 4 AND at < '2025-01-08';
-- Columns that came after compression: a default that is stored as missing, one that changed since, one without, one
-- that went.
ALTER TABLE conditions ADD COLUMN quality integer DEFAULT 7;
ALTER TABLE conditions ADD COLUMN unit text NOT NULL DEFAULT 'it''s "C", {\n}';
ALTER TABLE conditions ALTER COLUMN unit SET DEFAULT 'K';
ALTER TABLE conditions ADD COLUMN doomed integer DEFAULT 1;
ALTER TABLE conditions ADD COLUMN plain text;
ALTER TABLE conditions DROP COLUMN doomed;
ALTER TABLE conditions ADD COLUMN since date DEFAULT '2020-02-02';
ALTER TABLE conditions ALTER COLUMN since DROP DEFAULT;
INSERT INTO conditions (at, device, quality, unit) VALUES ('2025-01-16 00:00:01+00', 3, NULL, 'F');
SELECT compress_chunk(c) FROM (SELECT c FROM show_chunks('conditions') c ORDER BY c OFFSET 6 LIMIT 1) s;

-- Other ways of compressing: nothing to segment by, several columns, orders, sparse indexes.
CREATE TABLE events (t bigint NOT NULL, kind text COLLATE "C" NOT NULL, sub integer, v bigint, w smallint, d date, f float4, n numeric, b bytea, i interval);
SELECT create_hypertable('events', 't', chunk_time_interval => 1000);
ALTER TABLE events SET (timescaledb.compress, timescaledb.compress_segmentby = '', timescaledb.compress_orderby = 't, kind DESC NULLS LAST');
CREATE INDEX events_v ON events (v);
CREATE INDEX events_kind ON events (kind);
INSERT INTO events SELECT g, 'kind ' || g % 5, NULLIF(g % 4, 0), g * 3, g % 100, '2025-01-01'::date + (g % 60)::integer, g / 7.0::float4, g / 3.0::numeric, decode(md5(g::text), 'hex'), g * interval '1 minute' FROM generate_series(1, 5000) g;
SELECT count(compress_chunk(c)) FROM (SELECT c FROM show_chunks('events') c ORDER BY c LIMIT 3) s;

CREATE TABLE two (at timestamptz NOT NULL, device integer NOT NULL, v float8, all_null text, PRIMARY KEY (at, device));
SELECT create_hypertable('two', 'at', 'device', 3, chunk_time_interval => interval '1 month');
ALTER TABLE two SET (timescaledb.compress, timescaledb.compress_segmentby = 'device');
INSERT INTO two SELECT '2025-01-01 00:00:00+00'::timestamptz + g * interval '1 hour', g % 20, g FROM generate_series(0, 2000) g;
SELECT count(compress_chunk(c)) FROM (SELECT c FROM show_chunks('two') c ORDER BY c LIMIT 5) s;

-- Aggregates: one plain, one real-time, one on top of another; then the raw rows of the first week go.
CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous, timescaledb.materialized_only = true) AS
    SELECT time_bucket('1 hour', at) AS bucket, device, avg(temperature) AS mean, count(*) AS n FROM conditions GROUP BY 1, 2 WITH NO DATA;
CREATE MATERIALIZED VIEW daily WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
    SELECT time_bucket('1 day', bucket) AS day, device, sum(n) AS n, max(mean) AS top FROM hourly GROUP BY 1, 2 WITH NO DATA;
CREATE MATERIALIZED VIEW live WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
    SELECT time_bucket('1 week', at, 'Europe/Berlin') AS week, count(*) AS n, min(humidity) AS dry FROM conditions GROUP BY 1 WITH NO DATA;
CREATE FUNCTION events_now() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT max(t) FROM public.events';
SELECT set_integer_now_func('events', 'events_now');
CREATE MATERIALIZED VIEW counted WITH (timescaledb.continuous) AS
    SELECT time_bucket(500, t) AS bucket, kind, sum(v) AS v FROM events GROUP BY 1, 2 WITH NO DATA;
CALL refresh_continuous_aggregate('hourly', NULL, '2025-03-01');
CALL refresh_continuous_aggregate('daily', NULL, '2025-03-01');
CALL refresh_continuous_aggregate('live', NULL, '2025-02-17');
CALL refresh_continuous_aggregate('counted', NULL, 3000);
ALTER MATERIALIZED VIEW hourly SET (timescaledb.compress);
SELECT count(compress_chunk(c)) FROM (SELECT c FROM show_chunks('hourly') c ORDER BY c LIMIT 1) s;
SELECT count(*) FROM drop_chunks('conditions', '2025-01-09'::timestamptz);
INSERT INTO conditions (at, device, temperature) VALUES ('2025-02-01 00:00:02+00', 1, 99), ('2025-03-11 00:00:02+00', 1, 98);
INSERT INTO events VALUES (100, 'kind 1', 1, 1000000);
CREATE INDEX hourly_n ON hourly (n);
GRANT SELECT ON live TO PUBLIC;
COMMENT ON VIEW live IS 'weeks';

-- Policies of every kind, far from now so that nothing runs by itself but what is asked to.
SELECT add_retention_policy('conditions', interval '100 years');
SELECT add_compression_policy('conditions', interval '100 years', schedule_interval => interval '12 days');
SELECT add_reorder_policy('conditions', 'conditions_device');
SELECT add_continuous_aggregate_policy('hourly', NULL, interval '50 years', interval '11 days');
SELECT add_compression_policy('events', 100000000::bigint);
SELECT add_retention_policy('daily', interval '100 years');
CREATE TABLE job_log (at timestamptz DEFAULT clock_timestamp(), config jsonb);
CREATE PROCEDURE log_job(job_id integer, config jsonb) LANGUAGE sql AS 'INSERT INTO public.job_log (config) VALUES (config)';
SELECT alter_job(add_job('log_job', interval '10 days', config => '{"what": "a user''s job"}', initial_start => '2200-01-01'), scheduled => false);

-- Views of PostgreSQL's own on top of it all.
CREATE VIEW latest AS SELECT device, max(at) AS at FROM conditions GROUP BY device;
CREATE MATERIALIZED VIEW per_device AS SELECT device, count(*) AS n, sum(quality) AS quality FROM conditions GROUP BY device;
CREATE MATERIALIZED VIEW of_daily AS SELECT day, sum(n) AS n FROM daily GROUP BY day;
CREATE INDEX of_daily_day ON of_daily (day);
-- Columns of a reference the other way: rows that refer to a hypertable.
CREATE TABLE remark (at timestamptz, device integer, text text, FOREIGN KEY (at, device) REFERENCES two (at, device));
INSERT INTO remark SELECT at, device, 'r' FROM two WHERE v < 20;
