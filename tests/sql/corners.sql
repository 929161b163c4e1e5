-- What has broken restores elsewhere: objects that need each other, rows that only fit before something else is there,
-- columns that are counted differently. Plain SQL for PostgreSQL 15 and later, run as superuser in an empty database.

SET client_min_messages = error;

DO $$
BEGIN
    PERFORM pg_advisory_xact_lock(7034);
    IF to_regrole('pgtide_corner') IS NULL THEN
        CREATE ROLE pgtide_corner;
        CREATE ROLE "pgtide corner 2";
    END IF;
END
$$;

-- Objects that need each other --------------------------------------------------------------------------------------

-- A check that takes the row of its own table, a default and a generated column that read it.
CREATE TABLE own_row (a integer, b integer);
CREATE FUNCTION own_row_ok(own_row) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1.a > 0';
ALTER TABLE own_row ADD CONSTRAINT ok CHECK (own_row_ok(own_row));
CREATE FUNCTION own_row_count() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM own_row; END;
ALTER TABLE own_row ALTER b SET DEFAULT own_row_count();
INSERT INTO own_row (a) SELECT g FROM generate_series(1, 5) g;
INSERT INTO own_row (a) VALUES (6);
-- A domain whose check takes the domain, and one that is only checked from now on.
CREATE DOMAIN knows_itself AS integer;
CREATE FUNCTION knows_itself_ok(integer, knows_itself[]) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0';
ALTER DOMAIN knows_itself ADD CONSTRAINT ok CHECK (knows_itself_ok(VALUE::integer, '{}'));
CREATE DOMAIN from_now_on AS text;
CREATE TABLE of_domains (a knows_itself, b from_now_on);
INSERT INTO of_domains VALUES (1, ''), (NULL, NULL);
ALTER DOMAIN from_now_on ADD CONSTRAINT not_empty CHECK (VALUE <> '') NOT VALID;
-- Three views and a function in a circle, with a rule, a default and a trigger on the way.
CREATE VIEW circle_a AS SELECT 1 AS id, 'x'::text AS t;
CREATE VIEW circle_b AS SELECT id, t FROM circle_a;
CREATE FUNCTION circle_f() RETURNS SETOF circle_b LANGUAGE sql AS 'SELECT 2, ''y''::text';
CREATE OR REPLACE VIEW circle_a AS SELECT f.id, f.t FROM circle_f() f;
ALTER VIEW circle_a ALTER t SET DEFAULT 'default';
CREATE RULE circle_insert AS ON INSERT TO circle_a DO INSTEAD SELECT * FROM circle_b;
CREATE FUNCTION circle_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER circle_update INSTEAD OF UPDATE ON circle_b FOR EACH ROW EXECUTE FUNCTION circle_trigger();
-- A range with a function of its own that counts its elements' difference.
CREATE TYPE odd_range;
CREATE FUNCTION odd_canonical(odd_range) RETURNS odd_range LANGUAGE internal IMMUTABLE STRICT AS 'int4range_canonical';
CREATE TYPE odd_range AS RANGE (subtype = integer, canonical = odd_canonical, subtype_diff = int4range_subdiff);
CREATE TABLE of_odd_range (r odd_range, m odd_multirange, EXCLUDE USING gist (r WITH &&));
INSERT INTO of_odd_range VALUES ('[1,5]', '{[1,2],[4,9)}'), ('(5,9]', '{}');
-- Views and materialised views that need a primary key, and what is built on them.
CREATE TABLE keyed (id integer PRIMARY KEY, name text);
INSERT INTO keyed SELECT g, 'n' || g FROM generate_series(1, 10) g;
CREATE VIEW by_key AS SELECT id, name, count(*) FROM keyed GROUP BY id;
CREATE MATERIALIZED VIEW by_key_kept AS SELECT id, name, count(*) AS n FROM keyed GROUP BY id;
CREATE UNIQUE INDEX by_key_kept_id ON by_key_kept (id);
CREATE VIEW on_by_key AS SELECT b.*, k.n FROM by_key b JOIN by_key_kept k USING (id);
CREATE MATERIALIZED VIEW on_on_by_key AS SELECT sum(n) AS n FROM on_by_key;
CREATE INDEX ON on_on_by_key (n);
CREATE FUNCTION by_key_rows() RETURNS SETOF by_key LANGUAGE sql BEGIN ATOMIC SELECT * FROM by_key; END;
COMMENT ON VIEW by_key IS 'late';
GRANT SELECT ON by_key, by_key_kept TO pgtide_corner;
-- A materialised view that reads another one where only a function says so.
CREATE FUNCTION kept_rows() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT sum(n) FROM by_key_kept; END;
CREATE MATERIALIZED VIEW a_before AS SELECT kept_rows() AS n;
CREATE FUNCTION says_nothing() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT n FROM public.z_before); END';
CREATE MATERIALIZED VIEW z_before AS SELECT n FROM a_before;
CREATE MATERIALIZED VIEW a_first AS SELECT says_nothing() AS n;
-- Foreign keys in a circle, on partitions, to a key that is an index of its own name.
CREATE TABLE ring_a (id integer PRIMARY KEY, b integer);
CREATE TABLE ring_b (id integer PRIMARY KEY, a integer REFERENCES ring_a);
ALTER TABLE ring_a ADD FOREIGN KEY (b) REFERENCES ring_b DEFERRABLE INITIALLY DEFERRED;
BEGIN; INSERT INTO ring_a VALUES (1, 1), (2, 2); INSERT INTO ring_b VALUES (1, 2), (2, 1); COMMIT;
CREATE TABLE tree (id integer, parent integer, at integer, PRIMARY KEY (id, at), FOREIGN KEY (parent, at) REFERENCES tree) PARTITION BY RANGE (at);
CREATE TABLE tree_1 PARTITION OF tree FOR VALUES FROM (0) TO (10);
CREATE TABLE tree_2 (at integer NOT NULL, parent integer, id integer NOT NULL);
ALTER TABLE tree ATTACH PARTITION tree_2 FOR VALUES FROM (10) TO (20);
INSERT INTO tree SELECT g, NULLIF(g - 1, 0), 5 + 10 * (g / 51) FROM generate_series(1, 50) g;
INSERT INTO tree SELECT g, CASE WHEN g > 1 THEN g - 1 END, 15 FROM generate_series(1, 50) g;
CREATE TABLE leaf (tree integer, at integer, FOREIGN KEY (tree, at) REFERENCES tree ON DELETE CASCADE NOT VALID);
INSERT INTO leaf SELECT g, 15 FROM generate_series(1, 50) g;
CREATE TABLE to_index (a integer);
CREATE UNIQUE INDEX to_index_a ON to_index (a) INCLUDE (a) WITH (fillfactor = 50);
CREATE TABLE from_index (a integer REFERENCES to_index (a));
INSERT INTO to_index VALUES (1); INSERT INTO from_index VALUES (1);

-- Columns -----------------------------------------------------------------------------------------------------------

CREATE TABLE no_columns_at_all ();
CREATE TABLE no_columns_child () INHERITS (no_columns_at_all);
INSERT INTO no_columns_child SELECT FROM generate_series(1, 3);
CREATE TABLE all_dropped (a integer);
ALTER TABLE all_dropped DROP a;
INSERT INTO all_dropped SELECT FROM generate_series(1, 4);
CREATE TABLE only_generated (a integer GENERATED ALWAYS AS (7) STORED);
INSERT INTO only_generated SELECT FROM generate_series(1, 5);
CREATE TABLE only_identity (a integer GENERATED ALWAYS AS IDENTITY (MINVALUE -5 START -5 CYCLE CACHE 7));
INSERT INTO only_identity SELECT FROM generate_series(1, 6);
-- Rows in rows: of tables with dropped and added columns, of views, in arrays, in domains and ranges.
CREATE TABLE inner_row (gone integer, a integer, t text);
ALTER TABLE inner_row DROP gone;
CREATE TYPE changed AS (gone text, x integer);
ALTER TYPE changed DROP ATTRIBUTE gone;
ALTER TYPE changed ADD ATTRIBUTE y text;
CREATE DOMAIN changed_domain AS changed CHECK ((VALUE).x IS DISTINCT FROM 0);
CREATE DOMAIN array_domain AS changed_domain[] CHECK (cardinality(VALUE) < 5);
CREATE DOMAIN range_domain AS int4range NOT NULL DEFAULT 'empty';
CREATE TYPE row_range AS RANGE (subtype = changed);
CREATE TABLE rows_in_rows (i inner_row, ia inner_row[], c changed, cd changed_domain, ad array_domain, aad array_domain[], rd range_domain, rr row_range, k keyed, v by_key);
INSERT INTO rows_in_rows VALUES (ROW(1, 'x'), ARRAY[ROW(1, NULL)::inner_row, NULL], ROW(5, E'a"b\\,()\n'), ROW(1, NULL), ARRAY[ROW(2, '{}')::changed_domain, NULL],
    ARRAY[ARRAY[ROW(2, '{"')::changed_domain]::array_domain], '[1,2]', row_range(ROW(1, 'a')::changed, ROW(2, NULL)::changed), ROW(1, 'n'), ROW(1, 'n', 1)),
    (NULL, '{}', NULL, NULL, NULL, NULL, 'empty', 'empty', NULL, ROW(NULL, NULL, NULL));
ALTER TABLE inner_row ADD added numeric;
CREATE TABLE by_text (r regclass, a rows_in_rows, l regrole[]);
INSERT INTO by_text SELECT 'keyed', r, ARRAY['pgtide_corner'::regrole, NULL] FROM rows_in_rows r;

-- Settings of tables, indexes and columns -----------------------------------------------------------------------------

CREATE TABLE unlogged_parts (id integer, PRIMARY KEY (id)) PARTITION BY LIST (id);
CREATE UNLOGGED TABLE unlogged_part PARTITION OF unlogged_parts FOR VALUES IN (1, 2, NULL);
INSERT INTO unlogged_part VALUES (1);
CREATE UNLOGGED SEQUENCE unlogged_sequence;
CREATE TABLE parts (id integer NOT NULL, at date, t text) PARTITION BY LIST (id);
CREATE TABLE parts_1 PARTITION OF parts (CONSTRAINT local_check CHECK (t <> 'no'), t DEFAULT 'one') FOR VALUES IN (1);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2) PARTITION BY HASH (at);
CREATE TABLE parts_2a PARTITION OF parts_2 FOR VALUES WITH (MODULUS 1, REMAINDER 0) WITH (fillfactor = 60);
CREATE UNIQUE INDEX parts_key ON parts (id, at);
ALTER TABLE parts_1 ALTER at SET NOT NULL, ADD UNIQUE (t);
ALTER INDEX parts_1_id_at_idx RENAME TO "key of part 1";
ALTER TABLE parts_1 CLUSTER ON "key of part 1", REPLICA IDENTITY USING INDEX "key of part 1";
CREATE INDEX parts_expression ON ONLY parts ((lower(t)));
CREATE INDEX parts_1_expression ON parts_1 ((lower(t)));
ALTER INDEX parts_1_expression ALTER COLUMN 1 SET STATISTICS 99;
ALTER INDEX parts_expression ATTACH PARTITION parts_1_expression;
CREATE STATISTICS parts_statistics (mcv) ON id, at FROM parts;
ALTER STATISTICS parts_statistics SET STATISTICS 0;
INSERT INTO parts VALUES (1, '2020-01-01', 'a'), (2, NULL, 'b'), (2, '2020-01-01', 'c');
CREATE FUNCTION parts_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no trigger may run''; END';
CREATE TRIGGER on_parts BEFORE INSERT OR DELETE ON parts FOR EACH ROW EXECUTE FUNCTION parts_trigger();
-- It has that name before its table has, and its table before the one that it comes from.
CREATE TABLE a_part PARTITION OF parts FOR VALUES IN (9);
ALTER TABLE a_part DISABLE TRIGGER on_parts;
ALTER TABLE parts_2a ENABLE REPLICA TRIGGER on_parts;
CREATE CONSTRAINT TRIGGER deferred_one AFTER UPDATE ON parts_1 FROM keyed DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.t <> OLD.t) EXECUTE FUNCTION parts_trigger();
CREATE TRIGGER with_tables AFTER UPDATE ON keyed REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION parts_trigger();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON keyed EXECUTE FUNCTION parts_trigger();
CREATE TABLE stored (plain text, lz4 text COMPRESSION lz4, main text, external bytea);
ALTER TABLE stored ALTER plain SET STORAGE PLAIN, ALTER main SET STORAGE MAIN, ALTER external SET STORAGE EXTERNAL, ALTER main SET (n_distinct = 5, n_distinct_inherited = -1);
INSERT INTO stored SELECT 'p', repeat('lz4 ', 2000), repeat('main ', 1000), decode(repeat('00', 3000), 'hex') FROM generate_series(1, 20);
CREATE TABLE with_rules (a integer);
CREATE TABLE rule_log (a integer);
CREATE RULE instead AS ON INSERT TO with_rules DO INSTEAD INSERT INTO rule_log VALUES (NEW.a);
ALTER TABLE with_rules DISABLE RULE instead;
INSERT INTO with_rules SELECT generate_series(1, 3);
ALTER TABLE with_rules ENABLE ALWAYS RULE instead;

-- Rows that only fit before something is there, and privileges -----------------------------------------------------------

CREATE TABLE hidden (a integer);
INSERT INTO hidden SELECT generate_series(1, 10);
ALTER TABLE hidden OWNER TO pgtide_corner;
ALTER TABLE hidden ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY nothing ON hidden AS RESTRICTIVE USING (false) WITH CHECK (false);
CREATE TABLE unchecked (a integer, b integer);
INSERT INTO unchecked VALUES (-1, NULL);
ALTER TABLE unchecked ADD CONSTRAINT positive CHECK (a > 0) NOT VALID;
COMMENT ON CONSTRAINT positive ON unchecked IS 'from now on';
-- A view kept by a role that may read its table, and nothing else.
CREATE TABLE readable (a integer);
INSERT INTO readable VALUES (1);
GRANT SELECT ON readable TO pgtide_corner;
CREATE MATERIALIZED VIEW of_another AS SELECT * FROM readable;
ALTER MATERIALIZED VIEW of_another OWNER TO pgtide_corner;
-- Privileges that were taken from the owner, given on by another, given on columns alone, and the defaults for all that.
CREATE TABLE private (a integer, b integer);
REVOKE ALL ON private FROM postgres;
GRANT INSERT (a) ON private TO PUBLIC;
CREATE TABLE given_on (a integer);
GRANT SELECT, UPDATE ON given_on TO pgtide_corner WITH GRANT OPTION;
SET SESSION AUTHORIZATION pgtide_corner;
GRANT SELECT ON given_on TO "pgtide corner 2";
GRANT UPDATE ON given_on TO PUBLIC;
RESET SESSION AUTHORIZATION;
REVOKE EXECUTE ON FUNCTION parts_trigger() FROM PUBLIC;
REVOKE SELECT ON pg_catalog.pg_stat_database FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() TO pgtide_corner;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE pgtide_corner GRANT ALL ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE pgtide_corner REVOKE ALL ON TABLES FROM pgtide_corner;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO pgtide_corner WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT CREATE ON SCHEMAS TO pgtide_corner;
ALTER SCHEMA public OWNER TO pgtide_corner;
COMMENT ON SCHEMA public IS NULL;

-- What would stop every statement that follows.
CREATE FUNCTION no_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'no % in this database', tg_tag;
END
$$;
CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION no_ddl();
