-- Values of every type whose binary form an export prints, edge cases and many at random: a table for each type with one
-- column. Run in an empty database in UTF-8.

SET client_min_messages = warning;
SELECT setseed(0.25);
CREATE SCHEMA v;
CREATE EXTENSION citext SCHEMA v;
CREATE EXTENSION cube SCHEMA v;
CREATE EXTENSION hstore SCHEMA v;
CREATE EXTENSION ltree SCHEMA v;
SET search_path = v, pg_catalog;

-- Any text, with everything that is special somewhere.
CREATE FUNCTION v.any_text(n integer) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(string_agg((ARRAY['a', 'B', ' ', '"', '\', '''', ',', ';', '(', ')', '[', ']', '{', '}', E'\t', E'\n', E'\r', E'\b', E'\f',
        E'\v', E'\x01', E'\x7f', 'NULL', 'null', 'ä', '日', '🐘', '=>', ':', '*', '&', '|', '!', '<->', '\N', '\.', '0', '-', ' ', ' '])
        [1 + floor(random() * 40)::integer], ''), '')
    FROM generate_series(1, n)
$$;

CREATE TABLE t_bool AS SELECT g % 2 = 0 AS v FROM generate_series(1, 3) g;
CREATE TABLE t_int2 AS SELECT (random() * 65535 - 32768)::int2 AS v FROM generate_series(1, 300) UNION ALL VALUES ((-32768)::int2), (32767), (0), (NULL);
CREATE TABLE t_int4 AS SELECT (random() * 4294967295 - 2147483648)::int4 AS v FROM generate_series(1, 300)
    UNION ALL VALUES ((-2147483648)::int4), (2147483647), (0), (NULL);
CREATE TABLE t_int8 AS SELECT ((random() - 0.5) * 1.8e19)::int8 / (10 ^ (g % 19))::int8 AS v FROM generate_series(1, 300) g
    UNION ALL VALUES ((-9223372036854775808)::int8), (9223372036854775807), (0), (NULL);
CREATE TABLE t_oid AS SELECT (random() * 4294967295)::int8::oid AS v FROM generate_series(1, 100) UNION ALL VALUES (0::oid), (4294967295::oid);
CREATE TABLE t_xid AS SELECT v::text::xid AS v FROM t_oid;
CREATE TABLE t_cid AS SELECT v::text::cid AS v FROM t_oid;
CREATE TABLE t_xid8 AS SELECT v::text::xid8 AS v FROM t_oid UNION ALL VALUES ('18446744073709551615'::xid8);
CREATE TABLE t_tid AS SELECT ('(' || g * 65537::int8 || ',' || g % 65536 || ')')::tid AS v FROM generate_series(0, 65535, 97) g;
CREATE TABLE t_numeric (v numeric);
INSERT INTO t_numeric SELECT ((random() - 0.5) * 10::numeric ^ (g % 40 - 20))::numeric FROM generate_series(1, 2000) g;
INSERT INTO t_numeric SELECT round(((random() - 0.5) * 1e12)::numeric, g % 20) FROM generate_series(1, 500) g;
INSERT INTO t_numeric SELECT (10::numeric ^ g) * s FROM generate_series(-30, 60) g, (VALUES (1), (-1), (9)) s(s);
INSERT INTO t_numeric VALUES ('NaN'), ('Infinity'), ('-Infinity'), (0), ('0.00'), ('-0.0'), ('1e-16383'), ('1e131071'), ('0.0001'), ('10000'), ('9999.9999'), ('1.10'), (NULL);
CREATE TABLE t_numeric_scaled AS SELECT v::numeric(20, 6) AS v FROM t_numeric WHERE abs(v) < 1e13;
CREATE TABLE t_money AS SELECT ((random() - 0.5) * 10 ^ (g % 17))::numeric::money AS v FROM generate_series(1, 500) g
    UNION ALL VALUES ('-92233720368547758.08'::money), ('92233720368547758.07'), (0::money), ('-0.01'::money), (NULL);
CREATE TABLE t_text AS SELECT any_text(g % 12) AS v FROM generate_series(1, 3000) g UNION ALL VALUES (''), (NULL), ('\.'), ('\N'), ('NULL');
CREATE TABLE t_varchar AS SELECT v::varchar(5) AS v FROM t_text;
CREATE TABLE t_bpchar AS SELECT v::char(9) AS v FROM t_text;
CREATE TABLE t_bpchar_free AS SELECT v::bpchar AS v FROM t_text;
CREATE TABLE t_name AS SELECT v::name AS v FROM t_text;
CREATE TABLE t_citext AS SELECT v::citext AS v FROM t_text;
CREATE TABLE t_char AS SELECT g::"char" AS v FROM generate_series(-128, 127) g WHERE g >= 0 OR current_setting('server_version_num')::integer >= 160000;
CREATE TABLE t_bytea AS SELECT decode(string_agg(md5(random()::text), ''), 'hex') AS v FROM generate_series(1, 400) g GROUP BY g / 9
    UNION ALL VALUES (''::bytea), (NULL), ('\x00ff5c09'::bytea);
CREATE TABLE t_json AS SELECT json_build_object(any_text(3), any_text(5), 'n', g / 7.0, 'a', ARRAY[g, NULL], 'x', NULL) AS v FROM generate_series(1, 300) g;
CREATE TABLE t_jsonb AS SELECT v::jsonb AS v FROM t_json UNION ALL VALUES ('null'::jsonb), ('[]'), ('{}'), ('"x"'), ('1e400'), (NULL);
CREATE TABLE t_jsonpath AS SELECT jsonpath '$.a[*] ? (@ > 1 && exists (@.b)).c' AS v UNION ALL VALUES ('strict $[0 to last]'::jsonpath), ('$."odd \"name\""');
CREATE TABLE t_xml AS SELECT xmlelement(name "x", xmlattributes(regexp_replace(any_text(3), '[[:cntrl:]]', '', 'g') AS a), regexp_replace(any_text(5), '[[:cntrl:]]', '', 'g')) AS v FROM
    generate_series(1, 200) WHERE random() >= 0;
INSERT INTO t_xml VALUES ('<?xml version="1.0" standalone="yes"?><a/>'), ('<?xml version="1.1"?><a/>'), ('text only'), (''), ('<?xml version="1.0" encoding="UTF-8"?><ä/>');
CREATE TABLE t_date AS SELECT date '2000-01-01' + ((random() - 0.5) * 2 * 730000)::integer * (1 + g % 3) AS v FROM generate_series(1, 1000) g
    UNION ALL VALUES ('infinity'::date), ('-infinity'), ('4713-01-01 BC'), ('4714-11-24 BC'), ('0001-01-01'), ('0001-12-31 BC'), ('5874897-12-31'), ('2000-02-29'), ('1900-02-28'), (NULL);
CREATE TABLE t_time AS SELECT (random() * interval '24 hours')::time(6) AS v FROM generate_series(1, 300) UNION ALL VALUES ('24:00:00'::time), ('00:00:00'), ('23:59:59.999999'), ('00:00:00.1');
CREATE TABLE t_timetz AS SELECT (t.v::text || z)::timetz AS v FROM t_time t, (VALUES ('+00'), ('-08'), ('+05:30'), ('-00:44:30'), ('+15:59:59'), ('-15:59:59'), ('+00:00:01')) z(z);
CREATE TABLE t_timestamp AS SELECT timestamp '2000-01-01' + (random() - 0.5) * interval '4000 years' + g * interval '1 microsecond' AS v FROM generate_series(1, 1000) g
    UNION ALL VALUES ('infinity'::timestamp), ('-infinity'), ('4714-11-24 00:00:00 BC'), ('294276-12-31 23:59:59.999999'), ('1999-12-31 23:59:59.999999'), ('0001-12-31 23:59:59.5 BC'), (NULL);
CREATE TABLE t_timestamptz AS SELECT v AT TIME ZONE 'UTC' AS v FROM t_timestamp;
CREATE TABLE t_timestamptz_3 AS SELECT v::timestamptz(3) AS v FROM t_timestamptz WHERE v < '290000-01-01' OR NOT isfinite(v);
CREATE TABLE t_interval AS SELECT ((random() - 0.5) * 100)::integer * (g % 3) * interval '1 month' + ((random() - 0.5) * 100)::integer * (g % 2) * interval '1 day'
    + (random() - 0.5) * 1000000 * ((g / 3) % 3) * interval '1 second' AS v FROM generate_series(1, 2000) g
    UNION ALL VALUES ('0'::interval), ('-1 day'), ('1 year -1 mon'), ('-1 mon 1 day'), ('1 mon -00:00:00.000001'), ('-178000000 years'), ('2147483647 days'), ('-2147483648 days'),
        ('2562047788:00:54.775807'), ('-2562047788:00:54.775807'), ('1 year 1 mon 1 day 01:01:01.1'), ('-1 year +1 day -1 second'), (NULL);
CREATE TABLE t_interval_day AS SELECT v::interval day to second(2) AS v FROM t_interval WHERE abs(extract(epoch FROM v)) < 1e9;
DO $$ BEGIN
    IF current_setting('server_version_num')::integer >= 170000 THEN
        INSERT INTO v.t_interval VALUES ('infinity'), ('-infinity');
    END IF;
END $$;
CREATE TABLE t_uuid AS SELECT md5(random()::text)::uuid AS v FROM generate_series(1, 100);
CREATE TABLE t_inet AS SELECT (floor(random() * 256) || '.' || g % 256 || '.' || g % 2 || '.' || floor(random() * 256) || '/' || g % 33)::inet AS v FROM generate_series(1, 400) g;
INSERT INTO t_inet SELECT (SELECT string_agg(CASE WHEN random() < 0.55 THEN '0' WHEN random() < 0.1 THEN 'ffff' ELSE to_hex(floor(random() * 65536)::integer) END, ':') FROM generate_series(1, 8) WHERE g > 0)::inet FROM generate_series(1, 3000) g;
INSERT INTO t_inet SELECT (host(v) || '/' || floor(random() * 129))::inet FROM t_inet WHERE family(v) = 6;
INSERT INTO t_inet VALUES ('::'), ('::1'), ('::2'), ('::1.2.3.4'), ('::ffff:1.2.3.4'), ('::ffff:0:1'), ('::1:2:3'), ('1::'), ('fe80::/10'), ('0.0.0.0'), (NULL), ('::1:0'), ('::ffff:0'), ('::0:1:0:0');
CREATE TABLE t_cidr AS SELECT network(v) AS v FROM t_inet;
CREATE TABLE t_macaddr AS SELECT substr(md5(random()::text), 1, 12)::macaddr AS v FROM generate_series(1, 50);
CREATE TABLE t_macaddr8 AS SELECT substr(md5(random()::text), 1, 16)::macaddr8 AS v FROM generate_series(1, 50);
CREATE TABLE t_bit AS SELECT floor(random() * 8192)::integer::bit(13) AS v FROM generate_series(1, 50);
CREATE TABLE t_varbit AS SELECT floor(random() * 1e9)::integer::bit(32)::varbit(31) AS v FROM generate_series(1, 50) UNION ALL VALUES (''::varbit), (B'1'), (B'10101010'), (NULL);
CREATE TABLE t_point AS SELECT point(random() * 10 ^ (g % 30 - 10), -random()) AS v FROM generate_series(1, 300) g UNION ALL VALUES ('(NaN,Infinity)'::point), ('(-0,1e-300)');
CREATE TABLE t_line AS SELECT line(point(g, random()), point(random(), -g)) AS v FROM generate_series(1, 100) g;
CREATE TABLE t_lseg AS SELECT lseg(point(g, random()), point(random(), -g)) AS v FROM generate_series(1, 100) g;
CREATE TABLE t_box AS SELECT box(point(g, random()), point(random(), -g)) AS v FROM generate_series(1, 100) g;
CREATE TABLE t_path AS SELECT ('[(1,2),(' || g || ',' || random() || ')]')::path AS v FROM generate_series(1, 100) g UNION ALL SELECT pclose(path '[(0,0),(1,1),(2,0)]');
CREATE TABLE t_polygon AS SELECT ('((1,2),(' || g || ',' || random() || '))')::polygon AS v FROM generate_series(1, 100) g;
CREATE TABLE t_circle AS SELECT circle(point(g, random()), random()) AS v FROM generate_series(1, 100) g;
CREATE TABLE t_cube AS SELECT cube(ARRAY[random(), g], ARRAY[g, random()]) AS v FROM generate_series(1, 50) g UNION ALL VALUES (cube(1)), ('(1,2,3)'), ('(1,2),(1,2)'), (cube(ARRAY[]::float8[]));
CREATE TABLE t_tsvector AS SELECT array_to_tsvector(array_remove(ARRAY[any_text(3), any_text(4), 'plain'], '')) AS v FROM generate_series(1, 300)
    UNION ALL SELECT setweight(to_tsvector('english', 'the quick brown foxes ' || g || ' quick'), (ARRAY['A', 'B', 'C', 'D'])[1 + g % 4]::"char") FROM generate_series(1, 50) g
    UNION ALL VALUES (''::tsvector), ('''a b'':1A,2B,3C,4 b:16383'), (NULL);
CREATE TABLE t_tsquery AS VALUES (''::tsquery), ('a'), ('a & b | !c'), ('(a | b) & c'), ('!(a & b)'), ('!!a'), ('a <-> b'), ('a <3> (b | c)'), ('a <-> (b <-> c)'), ('(a <-> b) <-> c'),
    ('!a <-> b'), ('!(a <-> b)'), ('a:*ABD & ''it''''s a\\b'':C'), ('(a & b) <2> (c | !d)'), ('a | b & c <-> d'), ('(a | b) | c'), ('a & (b & c)'), ('!(a | b) & c'), ('a <0> b'), (NULL);
DO $$ DECLARE q tsquery; n integer; BEGIN
    FOR n IN 1..400 LOOP
        q := plainto_tsquery('simple', 'w' || n % 7);
        FOR i IN 1..(n % 6) LOOP
            q := CASE floor(random() * 5) WHEN 0 THEN q && 'x:*'::tsquery WHEN 1 THEN q || 'y:AB'::tsquery WHEN 2 THEN !!q WHEN 3 THEN tsquery_phrase('z'::tsquery, q, 1 + n % 3)
                ELSE tsquery_phrase(q, 'p | q'::tsquery) END;
        END LOOP;
        INSERT INTO v.t_tsquery VALUES (q);
    END LOOP;
END $$;
CREATE TABLE t_lsn AS SELECT ('' || to_hex(g) || '/' || to_hex(g * 7919))::pg_lsn AS v FROM generate_series(0, 100000, 997) g;
CREATE TABLE t_snapshot AS VALUES ('10:20:10,14,15'::pg_snapshot), ('1:1:'), ('4294967299:8589934599:4294967299,4294967301');
CREATE TABLE t_txid_snapshot AS SELECT column1::text::txid_snapshot AS v FROM t_snapshot;
CREATE TABLE t_int2vector AS VALUES ('1 2 -3'::int2vector), ('');
CREATE TABLE t_oidvector AS VALUES ('1 2 4294967295'::oidvector), ('');
CREATE TABLE t_refcursor AS SELECT v::refcursor AS v FROM t_text;
CREATE TABLE t_hstore AS SELECT hstore(any_text(3), any_text(4)) || hstore(any_text(5), NULL) AS v FROM generate_series(1, 300) UNION ALL VALUES (''::hstore), (NULL);
CREATE TABLE t_ltree AS VALUES ('Top.Science.Astronomy'::ltree), (''), ('a');
CREATE TABLE t_lquery AS VALUES ('*.Astro*@%.!x|y.*{1,2}'::lquery), ('a.b');
CREATE TABLE t_ltxtquery AS VALUES ('Europe & Russia*@ & !Transportation'::ltxtquery), ('a');

-- Types of users, and types within types.
CREATE TYPE v.mood AS ENUM ('sad', 'it''s "odd", {really}', 'NULL', '(b\a)', ' ');
CREATE TYPE v."Odd (type)" AS ENUM ('x');
CREATE DOMAIN v.corners AS box;
CREATE DOMAIN v.words AS text[];
CREATE DOMAIN v.small AS v.mood;
CREATE TYPE v.pair AS (t text, "n N" numeric(10, 2), m v.mood[], d v.words, b bytea, gone integer);
ALTER TYPE v.pair DROP ATTRIBUTE gone;
CREATE TYPE v.nested AS (p v.pair, ps v.pair[], r int4range, c v.small);
CREATE TYPE v.nothing AS ();
CREATE TYPE v.textrange AS RANGE (subtype = text, multirange_type_name = v.manytexts);
CREATE TYPE v.timerange AS RANGE (subtype = time);
CREATE TABLE t_mood AS SELECT (enum_range(NULL::mood))[1 + g % 5] AS v FROM generate_series(1, 10) g;
CREATE TABLE t_odd_type AS SELECT 'x'::"Odd (type)" AS v;
CREATE TABLE t_corners AS SELECT v::corners AS v FROM t_box;
CREATE TABLE t_words AS SELECT ARRAY[any_text(3), NULL, any_text(1)]::words AS v FROM generate_series(1, 300);
CREATE TABLE t_pair AS SELECT (any_text(g % 5), g / 3.0, ARRAY[(enum_range(NULL::mood))[1 + g % 5], NULL], ARRAY[any_text(2)], '\x5c'::bytea)::pair AS v FROM generate_series(1, 500) g;
INSERT INTO t_pair VALUES (NULL), (ROW(NULL, NULL, NULL, NULL, NULL)), (ROW('', 0, '{}', '{}', ''));
CREATE TABLE t_nested AS SELECT (v, ARRAY[v, NULL], '[1,5)'::int4range, 'sad')::nested AS v FROM t_pair;
CREATE TABLE t_nothing AS SELECT ROW()::nothing AS v;
CREATE TABLE t_row_type AS SELECT t AS v FROM t_mood t;
CREATE TABLE t_range_int AS VALUES ('[1,5)'::int4range), ('empty'), ('(,)'), ('[1,)'), ('(,9)'), (NULL);
CREATE TABLE t_range_num AS SELECT numrange(v - 1, v, (ARRAY['[]', '()', '[)', '(]'])[1 + floor(random() * 4)::integer]) AS v FROM t_numeric WHERE v > -1e20 AND v < 1e20;
CREATE TABLE t_range_ts AS SELECT tsrange(timestamp '2000-01-01 10:00:00', v) AS v FROM t_timestamp WHERE v > '2001-01-01';
CREATE TABLE t_range_tstz AS SELECT tstzrange(NULL, v) AS v FROM t_timestamptz;
CREATE TABLE t_range_date AS SELECT daterange('2000-01-01', v) AS v FROM t_date WHERE v > '2001-01-01' AND v < '5000000-01-01';
CREATE TABLE t_range_text AS SELECT textrange(least(a, b), greatest(a, b), '[]') AS v FROM (SELECT any_text(g % 4) AS a, any_text(g % 3) AS b FROM generate_series(1, 500) g) t;
CREATE TABLE t_range_time AS VALUES (timerange('10:00', '11:00:00.5')), ('empty');
CREATE TABLE t_many_int AS VALUES ('{[1,5),[7,9)}'::int4multirange), ('{}'), ('{(,)}');
CREATE TABLE t_many_text AS SELECT manytexts(v) AS v FROM t_range_text;
CREATE TABLE t_many_tstz AS SELECT tstzmultirange(v) AS v FROM t_range_tstz;
CREATE TABLE t_arrays AS VALUES ('{}'::integer[]), ('{1,NULL,-3}'), ('{{1,2},{3,4}}'), ('[0:1][-2:-1]={{1,2},{3,4}}'), ('{{{1},{2}},{{3},{4}}}'), ('[5:5]={1}'), (NULL);
CREATE TABLE t_array_text AS SELECT ARRAY[ARRAY[any_text(g % 3), any_text(1)], ARRAY[NULL, any_text(2)]] AS v FROM generate_series(1, 1000) g;
CREATE TABLE t_array_box AS SELECT array_agg(v) AS v FROM t_box;
CREATE TABLE t_array_corners AS SELECT array_agg(v) AS v FROM t_corners;
CREATE TABLE t_array_words AS SELECT array_agg(v) AS v FROM (SELECT v FROM t_words LIMIT 3) w;
CREATE TABLE t_array_pair AS SELECT array_agg(v) AS v FROM t_pair;
CREATE TABLE t_array_range AS SELECT array_agg(v) AS v FROM t_range_text;
CREATE TABLE t_array_json AS SELECT array_agg(v) AS v FROM t_jsonb;
CREATE TABLE t_array_bytea AS SELECT array_agg(v) AS v FROM t_bytea;
CREATE TABLE t_array_time AS SELECT array_agg(v) AS v FROM t_timestamptz;
CREATE TABLE t_array_money AS SELECT array_agg(v) AS v FROM t_money;
CREATE TABLE t_array_char AS SELECT array_agg(v) AS v FROM t_char;
CREATE TABLE t_array_hstore AS SELECT array_agg(v) AS v FROM t_hstore;
CREATE TABLE t_array_tsv AS SELECT array_agg(v) AS v FROM t_tsvector;

-- Other tables.
CREATE TABLE many_columns AS SELECT i.v AS a, t.v AS "b ""c"", d", t.v || 'x' AS c FROM t_text t, (SELECT v FROM t_int4 LIMIT 3) i;
CREATE TABLE no_columns ();
INSERT INTO no_columns SELECT FROM generate_series(1, 5);
CREATE TABLE as_text AS SELECT t.v AS t, 'pg_class'::regclass AS c, NULL::regtype AS n FROM t_text t;
CREATE TABLE as_text_alone AS SELECT v::text::regrole AS v FROM (VALUES ('postgres')) x(v);
