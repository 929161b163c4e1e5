-- A database with one of everything that PostgreSQL 15 has, rows included; rich-17.sql and rich-18.sql add what newer
-- servers have. Plain SQL, run as superuser in an empty database. Roles belong to the whole cluster and stay.

SET client_min_messages = warning;
SELECT setseed(0.5);

DO $$
DECLARE
    role text;
BEGIN
    -- Several databases may be filled at the same time.
    PERFORM pg_advisory_xact_lock(7034);
    FOREACH role IN ARRAY ARRAY['pgtide_owner', 'pgtide Reader', 'pgtide_writer'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I', role);
        END IF;
    END LOOP;
END
$$;

CREATE SCHEMA app AUTHORIZATION pgtide_owner;
CREATE SCHEMA "Odd Schema";
CREATE SCHEMA "select" AUTHORIZATION "pgtide Reader";
COMMENT ON SCHEMA app IS 'the application''s schema
with a second line; and -- no comment';
GRANT USAGE ON SCHEMA app TO PUBLIC;
GRANT ALL ON SCHEMA app TO "pgtide Reader" WITH GRANT OPTION;
GRANT CREATE ON SCHEMA public TO pgtide_writer;
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO "pgtide Reader";
ALTER DEFAULT PRIVILEGES FOR ROLE pgtide_owner GRANT EXECUTE ON FUNCTIONS TO pgtide_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE pgtide_owner REVOKE ALL ON TYPES FROM PUBLIC;

CREATE EXTENSION hstore SCHEMA public;
CREATE EXTENSION btree_gist;
COMMENT ON EXTENSION hstore IS 'a changed comment';

-- Types -------------------------------------------------------------------------------------------------------------

CREATE COLLATION app.german (provider = icu, locale = 'de-DE');
CREATE TYPE app.mood AS ENUM ('sad', 'ok', 'happy', 'it''s "complicated"');
CREATE TYPE app.point3 AS (x double precision, y double precision, "Z z" double precision);
CREATE TYPE app.pair AS (a app.point3, m app.mood[]);
CREATE TYPE app.floatrange AS RANGE (subtype = double precision, subtype_diff = float8mi);
CREATE DOMAIN app.positive AS integer DEFAULT 1 NOT NULL CONSTRAINT must_be_positive CHECK (VALUE > 0);
CREATE DOMAIN app.positives AS app.positive[] CHECK (array_length(VALUE, 1) < 10);
CREATE DOMAIN app.short AS text COLLATE "C" CHECK (length(VALUE) < 20);
COMMENT ON TYPE app.mood IS 'how one feels';
COMMENT ON DOMAIN app.positive IS 'more than nothing';
COMMENT ON CONSTRAINT must_be_positive ON DOMAIN app.positive IS 'really';
COMMENT ON COLUMN app.point3.x IS 'to the right';
ALTER TYPE app.mood OWNER TO pgtide_owner;
GRANT USAGE ON TYPE app.mood TO pgtide_writer;
CREATE TYPE app.shell;
COMMENT ON TYPE app.shell IS 'never filled';

CREATE TYPE app.celsius;
CREATE FUNCTION app.celsius_in(cstring) RETURNS app.celsius LANGUAGE internal IMMUTABLE STRICT AS 'float8in';
CREATE FUNCTION app.celsius_out(app.celsius) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'float8out';
CREATE TYPE app.celsius (
    INPUT = app.celsius_in, OUTPUT = app.celsius_out, LIKE = double precision, CATEGORY = 'N'
);

-- Functions, aggregates, operators, casts ---------------------------------------------------------------------------

CREATE FUNCTION app.add(a integer, b integer DEFAULT 2) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN a + b;
CREATE FUNCTION app.add(a text, VARIADIC rest text[]) RETURNS text
    LANGUAGE sql IMMUTABLE AS 'SELECT a || array_to_string(rest, '';'')';
CREATE FUNCTION app."Odd name"(OUT x integer, OUT "Y" text) RETURNS SETOF record LANGUAGE plpgsql AS $body$
BEGIN
    x := 1; "Y" := E'a\nb'; -- a comment; with a semicolon
    RETURN NEXT;
END
$body$;
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
    NEW.touched := '2020-01-01 00:00:00+00';
    RETURN NEW;
END
$$;
CREATE PROCEDURE app.do_nothing(IN a integer, INOUT b text) LANGUAGE plpgsql SECURITY DEFINER SET search_path TO 'app'
    AS 'BEGIN b := a::text; END';
CREATE FUNCTION app.ddl_seen() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
ALTER FUNCTION app.add(integer, integer) OWNER TO pgtide_owner;
ALTER PROCEDURE app.do_nothing OWNER TO pgtide_owner;
COMMENT ON FUNCTION app.add(integer, integer) IS 'adds';
REVOKE ALL ON FUNCTION app.touch() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.add(integer, integer) TO "pgtide Reader";

CREATE FUNCTION app.take_first(state anyelement, next anyelement) RETURNS anyelement
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT state';
CREATE AGGREGATE app.first(anyelement) (SFUNC = app.take_first, STYPE = anyelement, PARALLEL = safe);
ALTER AGGREGATE app.first(anyelement) OWNER TO pgtide_owner;
COMMENT ON AGGREGATE app.first(anyelement) IS 'the first one';

CREATE FUNCTION app.point_add(app.point3, app.point3) RETURNS app.point3 LANGUAGE sql IMMUTABLE
    AS 'SELECT ROW($1.x + $2.x, $1.y + $2.y, $1."Z z" + $2."Z z")::app.point3';
CREATE FUNCTION app.point_less(app.point3, app.point3) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1.x < $2.x';
CREATE FUNCTION app.point_cmp(app.point3, app.point3) RETURNS integer LANGUAGE sql IMMUTABLE
    AS 'SELECT CASE WHEN $1.x < $2.x THEN -1 WHEN $1.x > $2.x THEN 1 ELSE 0 END';
CREATE OPERATOR app.+ (FUNCTION = app.point_add, LEFTARG = app.point3, RIGHTARG = app.point3, COMMUTATOR = OPERATOR(app.+));
CREATE OPERATOR app.<<< (FUNCTION = app.point_less, LEFTARG = app.point3, RIGHTARG = app.point3);
ALTER OPERATOR app.+ (app.point3, app.point3) OWNER TO pgtide_owner;
COMMENT ON OPERATOR app.+ (app.point3, app.point3) IS 'moves';
CREATE OPERATOR FAMILY app.point_family USING btree;
CREATE OPERATOR CLASS app.point_ops FOR TYPE app.point3 USING btree FAMILY app.point_family AS
    OPERATOR 1 app.<<<, FUNCTION 1 app.point_cmp(app.point3, app.point3);
ALTER OPERATOR FAMILY app.point_family USING btree OWNER TO pgtide_owner;
CREATE FUNCTION app.mood_number(app.mood) RETURNS integer LANGUAGE sql IMMUTABLE
    AS $$ SELECT CASE $1 WHEN 'sad' THEN 0 ELSE 1 END $$;
CREATE CAST (app.mood AS integer) WITH FUNCTION app.mood_number(app.mood) AS ASSIGNMENT;
COMMENT ON CAST (app.mood AS integer) IS 'a number';
CREATE CONVERSION app.to_latin FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;
ALTER CONVERSION app.to_latin OWNER TO pgtide_owner;
CREATE TRANSFORM FOR app.point3 LANGUAGE sql (FROM SQL WITH FUNCTION varchar_support(internal));
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
COMMENT ON ACCESS METHOD heap2 IS 'heap by another name';

CREATE TEXT SEARCH DICTIONARY app.plain (TEMPLATE = simple, STOPWORDS = english);
CREATE TEXT SEARCH CONFIGURATION app.words (COPY = english);
ALTER TEXT SEARCH CONFIGURATION app.words ALTER MAPPING FOR asciiword WITH app.plain;
ALTER TEXT SEARCH DICTIONARY app.plain OWNER TO pgtide_owner;
ALTER TEXT SEARCH CONFIGURATION app.words OWNER TO pgtide_owner;
CREATE TEXT SEARCH TEMPLATE app.template (LEXIZE = dsimple_lexize);
CREATE TEXT SEARCH PARSER app.parser (
    START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype, HEADLINE = prsd_headline
);

-- Plain tables ------------------------------------------------------------------------------------------------------

CREATE TABLE app.everything (
    id bigint GENERATED ALWAYS AS IDENTITY (START 10 INCREMENT 5),
    serial_id serial,
    b boolean, i2 smallint, i4 integer, i8 bigint, f4 real, f8 double precision,
    n numeric, n_scaled numeric(12, 3), m money,
    t text, t_german text COLLATE app.german, vc varchar(40), c char(10), one "char", nm name,
    by bytea, u uuid, j json, jb jsonb, x xml, h hstore,
    d date, tm time, tmz time with time zone, ts timestamp, tsz timestamptz(3), iv interval, iv2 interval day to second(2),
    ip inet, net cidr, mac macaddr, mac8 macaddr8, bits bit(5), vbits varbit,
    pt point, ln line, ls lseg, bx box, pa path, po polygon, ci circle,
    tsv tsvector, tsq tsquery, jp jsonpath, lsn pg_lsn,
    mood app.mood, p3 app.point3, pr app.pair, pos app.positive DEFAULT 3, poss app.positives, sh app.short,
    cel app.celsius,
    i4r int4range, fr app.floatrange, tsr tstzrange, dmr datemultirange, frm app.floatmultirange,
    ia integer[], ia2 integer[][], ta text[], moods app.mood[], p3s app.point3[], rs int4range[], jbs jsonb[],
    d_twice integer GENERATED ALWAYS AS (i4 * 2) STORED,
    dropped text,
    touched timestamptz DEFAULT now(),
    CONSTRAINT everything_pkey PRIMARY KEY (id),
    CONSTRAINT i4_small CHECK (i4 < 1000000),
    CONSTRAINT later CHECK (i2 IS NULL OR i2 > -100) NO INHERIT
);
ALTER TABLE app.everything DROP COLUMN dropped;
ALTER TABLE app.everything ADD COLUMN with_missing_value text DEFAULT 'was not there';
ALTER TABLE app.everything OWNER TO pgtide_owner;
ALTER TABLE app.everything ALTER COLUMN t SET STORAGE EXTERNAL;
ALTER TABLE app.everything ALTER COLUMN by SET COMPRESSION pglz;
ALTER TABLE app.everything ALTER COLUMN i4 SET STATISTICS 500;
ALTER TABLE app.everything ALTER COLUMN i8 SET (n_distinct = -0.5);
ALTER TABLE app.everything SET (fillfactor = 80, autovacuum_enabled = false, toast.autovacuum_enabled = false);
COMMENT ON TABLE app.everything IS 'all types';
COMMENT ON COLUMN app.everything.t IS 'text; unpressed';
COMMENT ON CONSTRAINT i4_small ON app.everything IS 'small';
GRANT SELECT, INSERT ON app.everything TO "pgtide Reader" WITH GRANT OPTION;
GRANT UPDATE (t, "i4"), REFERENCES (id) ON app.everything TO pgtide_writer;
INSERT INTO app.everything (
    b, i2, i4, i8, f4, f8, n, n_scaled, m, t, t_german, vc, c, one, nm, by, u, j, jb, x, h, d, tm, tmz, ts, tsz, iv, iv2,
    ip, net, mac, mac8, bits, vbits, pt, ln, ls, bx, pa, po, ci, tsv, tsq, jp, lsn, mood, p3, pr, pos, poss, sh, cel,
    i4r, fr, tsr, dmr, frm, ia, ia2, ta, moods, p3s, rs, jbs)
SELECT g % 2 = 0, g, g * 100, g::bigint << 32, g / 3.0, CASE g % 5 WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' WHEN 2 THEN '-0' ELSE g / 7.0 END,
    CASE g % 4 WHEN 0 THEN 'NaN' WHEN 1 THEN 'Infinity' ELSE (g || '.' || g || '000')::numeric END, g / 8.0, g,
    repeat(chr(65 + g % 26), g), 'Straße ' || g, E'tab\there \\ back', 'pad', 'x', 'a name',
    decode(md5(g::text), 'hex'), md5(g::text)::uuid, '{"a" :  1, "a": 2}', jsonb_build_object('g', g, 'n', null, 'a', ARRAY[1, g]),
    '<a b="c">text<d/></a>', hstore('k' || g, NULL) || 'x=>y',
    CASE g % 7 WHEN 0 THEN 'infinity' WHEN 1 THEN '4713-01-01 BC' ELSE '2000-01-01'::date + g END, '24:00:00', '12:00:00+05:30',
    '1999-12-31 23:59:59.999999', timestamptz '2024-03-31 01:30:00+00' + g * interval '1 minute', '1 year -2 days 03:04:05.678', '3 days 04:05:06.78',
    ('10.0.0.' || g % 256 || '/24')::inet, '10.1.0.0/16', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'10101', B'1',
    point(g, 1), '{1,2,3}', '[(0,0),(1,1)]', '((0,0),(1,1))', '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '<(0,0),5>',
    to_tsvector('english', 'the quick brown foxes ' || g), 'quick & !slow', '$.a[*] ? (@ > 1)', '16/B374D848',
    (enum_range(NULL::app.mood))[1 + g % 4], ROW(1, NULL, g)::app.point3, ROW(ROW(1, 2, 3), ARRAY['ok', NULL]::app.mood[])::app.pair,
    g, ARRAY[1, g]::app.positives, 'short', '36.6',
    int4range(g, g + 10), app.floatrange(0.5, g, '(]'), tstzrange(NULL, '2024-01-01 00:00:00+00'), '{[2024-01-01,2024-02-01),[2025-01-01,)}', '{(1,2)}',
    ARRAY[1, NULL, g], '[0:1][2:3]={{1,2},{3,4}}', ARRAY['', 'NULL', NULL, E'"\\', 'ä{},'], ARRAY['sad', 'ok']::app.mood[],
    ARRAY[ROW(1, 2, 3), NULL]::app.point3[], ARRAY['empty', '[1,2)']::int4range[], ARRAY['{}', NULL]::jsonb[]
FROM generate_series(1, 300) AS g;
INSERT INTO app.everything (b) VALUES (NULL);
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON app.everything FOR EACH ROW WHEN (NEW.i4 > 0) EXECUTE FUNCTION app.touch();
CREATE TRIGGER "Odd trigger" AFTER UPDATE OF t ON app.everything FOR EACH STATEMENT EXECUTE FUNCTION app.touch();
ALTER TABLE app.everything DISABLE TRIGGER "Odd trigger";
ALTER TABLE app.everything ENABLE ALWAYS TRIGGER touch;
COMMENT ON TRIGGER touch ON app.everything IS 'touches';
CREATE INDEX everything_expression ON app.everything USING btree (lower(t), (i4 + 1) DESC NULLS LAST) INCLUDE (i8) WHERE i4 > 5;
CREATE INDEX everything_gin ON app.everything USING gin (jb jsonb_path_ops, tsv) WITH (fastupdate = off);
CREATE INDEX everything_brin ON app.everything USING brin (tsz) WITH (pages_per_range = 4);
CREATE INDEX everything_hash ON app.everything USING hash (u);
CREATE UNIQUE INDEX everything_distinct ON app.everything (serial_id) NULLS NOT DISTINCT;
CREATE INDEX everything_german ON app.everything (t_german COLLATE "C" text_pattern_ops);
CREATE INDEX everything_point ON app.everything (p3 app.point_ops);
ALTER INDEX app.everything_expression ALTER COLUMN 2 SET STATISTICS 200;
COMMENT ON INDEX app.everything_brin IS 'small';
ALTER TABLE app.everything CLUSTER ON everything_distinct;
CREATE STATISTICS app.together (dependencies, ndistinct) ON i4, i8 FROM app.everything;
CREATE STATISTICS app."Odd statistics" ON lower(t), (i4 % 10) FROM app.everything;
ALTER STATISTICS app.together SET STATISTICS 300;
ALTER STATISTICS app.together OWNER TO pgtide_owner;
COMMENT ON STATISTICS app.together IS 'go together';

CREATE TABLE app.replica (a integer NOT NULL, b text NOT NULL);
CREATE UNIQUE INDEX replica_a ON app.replica (a);
ALTER TABLE app.replica REPLICA IDENTITY USING INDEX replica_a;
ALTER TABLE app.replica ADD CONSTRAINT replica_unchecked CHECK (a > 5) NOT VALID;
CREATE TABLE app.replica_full (a integer);
ALTER TABLE app.replica_full REPLICA IDENTITY FULL;
CREATE UNLOGGED TABLE app.unlogged (a integer);
INSERT INTO app.unlogged SELECT generate_series(1, 10);
CREATE TABLE app.other_heap (a integer) USING heap2;
INSERT INTO app.other_heap VALUES (1);
CREATE TABLE app.typed OF app.point3 (PRIMARY KEY (x), y WITH OPTIONS DEFAULT 0);
INSERT INTO app.typed VALUES (1, 2, 3);
CREATE TABLE app.no_columns ();
INSERT INTO app.no_columns SELECT FROM generate_series(1, 7);
CREATE TABLE app.empty (a integer, b text);
CREATE TABLE app.registered (c regclass, t regtype, p regprocedure, o regoperator, r regrole, n regnamespace, ts regconfig, a aclitem, ts_dict regdictionary, co regcollation);
INSERT INTO app.registered VALUES
    ('app.everything', 'app.mood[]', 'app.add(integer,integer)', 'app.+(app.point3,app.point3)', 'pgtide_owner', 'app', 'app.words',
     'pgtide_owner=r/postgres', 'app.plain', 'app.german'), ('pg_class', 'integer', 'now()', '+(integer,integer)', 'postgres', 'public', 'english', NULL, NULL, NULL);
INSERT INTO app.registered DEFAULT VALUES;
CREATE TABLE app.toasted (id integer PRIMARY KEY, packed text, outside text, bytes bytea);
ALTER TABLE app.toasted ALTER COLUMN outside SET STORAGE EXTERNAL;
INSERT INTO app.toasted
    SELECT g, repeat('compressible ', 5000), (SELECT string_agg(md5((g * 1000 + i)::text), '') FROM generate_series(1, 1000) AS i),
        decode(repeat('00ff41', 20000 * g), 'hex')
    FROM generate_series(1, 20) AS g;

DO $$
BEGIN
    EXECUTE (SELECT 'CREATE TABLE app.wide (' || string_agg(format('c%s smallint', g), ', ') || ')' FROM generate_series(1, 1600) AS g);
    EXECUTE (SELECT 'INSERT INTO app.wide (c1, c1600) VALUES (1, 1600), (NULL, 2)');
    EXECUTE (SELECT 'INSERT INTO app.wide SELECT ' || string_agg((g % 300)::text, ', ') || ' FROM generate_series(1, 3)' FROM generate_series(1, 1600) AS g);
END
$$;

CREATE TABLE "Odd Schema"."Tab""le with 'quotes'" ("Col umn" integer DEFAULT 1, "new
line" text DEFAULT 'a
b', "ünïcödé 日本" text, "select" integer, "a\b" text, "%s" text, "$$" text, CONSTRAINT "Odd ""pk""" PRIMARY KEY ("Col umn"));
INSERT INTO "Odd Schema"."Tab""le with 'quotes'" VALUES (1, E'x\r\ny', '日本語 🐘', 2, E'\\', '%', '$$'), (2, E'\\N', '\.', NULL, '', NULL, E'\t');
COMMENT ON TABLE "Odd Schema"."Tab""le with 'quotes'" IS 'it''s "odd" \ ünï
-- not a comment';
COMMENT ON COLUMN "Odd Schema"."Tab""le with 'quotes'"."new
line" IS 'second line';
CREATE TABLE "Odd Schema"."new
line" ("a
b" integer);
INSERT INTO "Odd Schema"."new
line" VALUES (1);
CREATE TABLE "select"."table" ("order" integer PRIMARY KEY, "user" text);
ALTER TABLE "select"."table" OWNER TO "pgtide Reader";
INSERT INTO "select"."table" VALUES (1, 'a');
CREATE INDEX "ünïcödé index" ON "Odd Schema"."Tab""le with 'quotes'" ("ünïcödé 日本");
CREATE SEQUENCE "Odd Schema"."Se quence" AS smallint START 5 INCREMENT -1 MINVALUE -100 MAXVALUE 100 CYCLE CACHE 3;
SELECT nextval('"Odd Schema"."Se quence"');
CREATE SEQUENCE app.never_called;
ALTER SEQUENCE app.never_called OWNER TO pgtide_owner;
GRANT USAGE ON SEQUENCE app.never_called TO pgtide_writer;
COMMENT ON SEQUENCE app.never_called IS 'unused';
CREATE TABLE app.by_default (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, v text);
INSERT INTO app.by_default (v) SELECT 'v' || g FROM generate_series(1, 50) AS g;

-- Foreign keys, exclusion, deferrable -------------------------------------------------------------------------------

CREATE TABLE app.customer (id integer PRIMARY KEY, name text UNIQUE DEFERRABLE INITIALLY DEFERRED, boss integer REFERENCES app.customer);
CREATE TABLE app.orders (
    id integer, line integer, customer integer NOT NULL,
    CONSTRAINT orders_pkey PRIMARY KEY (id, line) DEFERRABLE,
    CONSTRAINT orders_customer FOREIGN KEY (customer) REFERENCES app.customer (id) ON DELETE CASCADE ON UPDATE RESTRICT DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE app.booking (
    room integer, during tstzrange, CONSTRAINT no_overlap EXCLUDE USING gist (room WITH =, during WITH &&) WHERE (room > 0) DEFERRABLE
);
CREATE TABLE app.chicken (id integer PRIMARY KEY, egg integer);
CREATE TABLE app.egg (id integer PRIMARY KEY, chicken integer REFERENCES app.chicken);
ALTER TABLE app.chicken ADD CONSTRAINT chicken_egg FOREIGN KEY (egg) REFERENCES app.egg NOT VALID;
COMMENT ON CONSTRAINT orders_customer ON app.orders IS 'whose';
INSERT INTO app.customer SELECT g, 'customer ' || g, CASE WHEN g > 1 THEN g / 2 END FROM generate_series(1, 200) AS g;
INSERT INTO app.orders SELECT g, g % 3, 1 + g % 200 FROM generate_series(1, 600) AS g;
INSERT INTO app.booking SELECT g % 5, tstzrange('2024-01-01 00:00:00+00'::timestamptz + g * interval '1 hour', '2024-01-01 00:30:00+00'::timestamptz + g * interval '1 hour') FROM generate_series(1, 100) AS g;
INSERT INTO app.egg VALUES (1, NULL), (2, NULL);
INSERT INTO app.chicken VALUES (1, 2), (2, 1);
UPDATE app.egg SET chicken = id;
-- When all of this runs in one transaction, nothing may stay pending when these tables are altered.
SET CONSTRAINTS ALL IMMEDIATE;

-- Partitions and inheritance ----------------------------------------------------------------------------------------

CREATE TABLE app.events (id bigint GENERATED BY DEFAULT AS IDENTITY, at date NOT NULL, kind text DEFAULT 'x', PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE app.events_2023 PARTITION OF app.events FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
CREATE TABLE app.events_2024 PARTITION OF app.events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY RANGE (id, at);
CREATE TABLE app.events_2024_a PARTITION OF app.events_2024 FOR VALUES FROM (MINVALUE, MINVALUE) TO (60, MINVALUE);
CREATE TABLE app.events_2024_rest PARTITION OF app.events_2024 DEFAULT;
CREATE TABLE app.events_other (kind text, extra_dropped integer, at date NOT NULL, id bigint NOT NULL);
ALTER TABLE app.events_other DROP COLUMN extra_dropped;
ALTER TABLE app.events ATTACH PARTITION app.events_other FOR VALUES FROM ('2025-01-01') TO (MAXVALUE);
ALTER TABLE app.events_2023 ALTER COLUMN kind SET DEFAULT 'old';
CREATE INDEX events_kind ON app.events (kind);
CREATE INDEX events_only ON ONLY app.events (at);
ALTER TABLE app.events ADD CONSTRAINT known CHECK (kind <> 'unknown');
CREATE TABLE app.event_note (event bigint, at date, note text, FOREIGN KEY (event, at) REFERENCES app.events (id, at));
INSERT INTO app.events (at, kind) SELECT '2023-06-01'::date + g * 7, CASE g % 3 WHEN 0 THEN 'a' WHEN 1 THEN NULL ELSE 'c' END FROM generate_series(1, 150) AS g;
INSERT INTO app.event_note SELECT id, at, 'note' FROM app.events;
CREATE FUNCTION app.count_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO app.event_count DEFAULT VALUES;
    RETURN NULL;
END
$$;
-- Would gain rows if a restore loaded the partitions after making the trigger.
CREATE TABLE app.event_count (n integer DEFAULT 1);
CREATE TRIGGER count_event AFTER INSERT ON app.events FOR EACH ROW EXECUTE FUNCTION app.count_event();
ALTER TABLE app.events_2023 DISABLE TRIGGER count_event;
CREATE TABLE app.by_mood (mood app.mood, v integer) PARTITION BY HASH (mood);
CREATE TABLE app.by_mood_0 PARTITION OF app.by_mood FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE app.by_mood_1 PARTITION OF app.by_mood FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE app.by_mood_2 PARTITION OF app.by_mood FOR VALUES WITH (MODULUS 3, REMAINDER 2);
INSERT INTO app.by_mood SELECT (enum_range(NULL::app.mood))[1 + g % 4], g FROM generate_series(1, 200) AS g;
CREATE TABLE app.by_hash (id integer PRIMARY KEY, v text) PARTITION BY HASH (id);
CREATE TABLE app.by_hash_0 PARTITION OF app.by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE "Odd Schema"."by hash 1" PARTITION OF app.by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO app.by_hash SELECT g, 'v' || g FROM generate_series(1, 200) AS g;
CREATE TABLE app.no_partitions (a integer) PARTITION BY LIST (a);

CREATE TABLE app.animal (id integer, name text NOT NULL DEFAULT 'animal', CHECK (id > 0));
CREATE TABLE app.dog (breed text) INHERITS (app.animal);
CREATE TABLE app.robot (id integer, power integer);
CREATE TABLE app.robot_dog (name text DEFAULT 'K9') INHERITS (app.dog, app.robot);
INSERT INTO app.animal SELECT g, 'animal ' || g FROM generate_series(1, 20) AS g;
INSERT INTO app.dog SELECT g, 'dog ' || g, 'breed' FROM generate_series(1, 20) AS g;
INSERT INTO app.robot_dog (id, breed, power) VALUES (1, 'metal', 5);

-- Views, materialized views, rules ----------------------------------------------------------------------------------

CREATE VIEW app.happy AS SELECT id, t, mood FROM app.everything WHERE mood = 'happy';
CREATE VIEW app.happy_short WITH (security_barrier = true) AS SELECT id, mood FROM app.happy WHERE length(t) < 50 WITH LOCAL CHECK OPTION;
CREATE VIEW app.counting AS WITH RECURSIVE r (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM r WHERE n < 10) SELECT n FROM r;
ALTER VIEW app.happy OWNER TO pgtide_owner;
ALTER VIEW app.happy ALTER COLUMN t SET DEFAULT 'smile';
COMMENT ON VIEW app.happy IS 'happy ones';
COMMENT ON COLUMN app.happy.t IS 'text of happy ones';
GRANT SELECT ON app.happy TO PUBLIC;
CREATE VIEW app.grouped AS SELECT id, name, count(*) FROM app.customer GROUP BY id;
-- A view and a function that need each other.
CREATE VIEW app.loop AS SELECT 1 AS a;
CREATE FUNCTION app.loop_rows() RETURNS SETOF app.loop LANGUAGE sql AS 'SELECT 1';
CREATE OR REPLACE VIEW app.loop AS SELECT a FROM app.loop_rows();
CREATE MATERIALIZED VIEW app.per_customer AS SELECT customer, count(*) AS n FROM app.orders GROUP BY customer;
CREATE MATERIALIZED VIEW app.per_count AS SELECT n, count(*) AS customers FROM app.per_customer GROUP BY n;
CREATE VIEW app.through AS SELECT n + 1 AS n1, customers FROM app.per_count;
CREATE MATERIALIZED VIEW app.at_the_end AS SELECT sum(customers) AS s FROM app.through;
CREATE MATERIALIZED VIEW app.unpopulated AS SELECT n FROM app.per_count WITH NO DATA;
CREATE UNIQUE INDEX per_customer_key ON app.per_customer (customer);
ALTER MATERIALIZED VIEW app.per_customer OWNER TO pgtide_owner;
COMMENT ON MATERIALIZED VIEW app.per_customer IS 'per customer';
CREATE RULE log_orders AS ON UPDATE TO app.orders DO ALSO SELECT 1;
CREATE RULE happy_insert AS ON INSERT TO app.happy DO INSTEAD NOTHING;
GRANT SELECT ON app.orders TO pgtide_owner;
COMMENT ON RULE log_orders ON app.orders IS 'logs';
ALTER TABLE app.orders DISABLE RULE log_orders;

-- Row security ------------------------------------------------------------------------------------------------------

CREATE TABLE app.secret (owner name DEFAULT current_user, v text);
INSERT INTO app.secret VALUES ('pgtide_owner', 'a'), ('nobody', 'b');
ALTER TABLE app.secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.secret FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON app.secret FOR SELECT TO pgtide_owner, pgtide_writer USING (owner = current_user);
CREATE POLICY "write own" ON app.secret AS RESTRICTIVE FOR INSERT WITH CHECK (v <> 'x');
COMMENT ON POLICY own ON app.secret IS 'own rows';

-- What reaches outside ----------------------------------------------------------------------------------------------

CREATE FOREIGN DATA WRAPPER app_wrapper OPTIONS (debug 'true');
CREATE SERVER elsewhere TYPE 'none' VERSION '1' FOREIGN DATA WRAPPER app_wrapper OPTIONS (host 'no where');
CREATE USER MAPPING FOR pgtide_owner SERVER elsewhere OPTIONS (user 'u', password 'it''s');
CREATE USER MAPPING FOR PUBLIC SERVER elsewhere;
CREATE FOREIGN TABLE app.far (a integer OPTIONS (column_name 'b') NOT NULL, t text) SERVER elsewhere OPTIONS (t 'x');
ALTER FOREIGN DATA WRAPPER app_wrapper OWNER TO postgres;
ALTER SERVER elsewhere OWNER TO pgtide_owner;
GRANT USAGE ON FOREIGN SERVER elsewhere TO pgtide_writer;
GRANT USAGE ON FOREIGN DATA WRAPPER app_wrapper TO pgtide_writer;
COMMENT ON SERVER elsewhere IS 'far away';
CREATE PUBLICATION some_tables FOR TABLE app.replica, app.customer WHERE (id > 10), TABLES IN SCHEMA "select" WITH (publish = 'insert, update');
CREATE PUBLICATION all_of_it FOR ALL TABLES;
COMMENT ON PUBLICATION some_tables IS 'some tables';
CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP TABLE') EXECUTE FUNCTION app.ddl_seen();
ALTER EVENT TRIGGER watch DISABLE;
COMMENT ON EVENT TRIGGER watch IS 'watches';

-- Large objects -----------------------------------------------------------------------------------------------------

SELECT lo_from_bytea(70001, 'a large object');
SELECT lo_from_bytea(70002, decode(repeat('00ff', 100000), 'hex'));
SELECT lo_create(70003);
ALTER LARGE OBJECT 70002 OWNER TO pgtide_owner;
GRANT SELECT ON LARGE OBJECT 70001 TO "pgtide Reader";
COMMENT ON LARGE OBJECT 70001 IS 'large';

REFRESH MATERIALIZED VIEW app.per_customer;
REFRESH MATERIALIZED VIEW app.per_count;
REFRESH MATERIALIZED VIEW app.at_the_end;
