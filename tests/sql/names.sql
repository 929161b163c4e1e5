-- Objects of every kind under a name that has everything in it that a name may have; also as comment, as label of an enum,
-- as default, as option. Run by psql as superuser in an empty database in UTF-8. The role belongs to the cluster and stays.

SET client_min_messages = error;
\set n 'o''d"d %s \\. $1\n;--\tünï日 :x/*'
-- Databases of other encodings must be able to read the names of roles.
\set r 'pgtide o''d"d %s\\\n;-- */'

SELECT format('CREATE ROLE %I', :'r') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'r') \gexec
CREATE SCHEMA :"n" AUTHORIZATION :"r";
SET search_path = :"n", public;
COMMENT ON SCHEMA :"n" IS :'n';
GRANT ALL ON SCHEMA :"n" TO :"r" WITH GRANT OPTION;
GRANT USAGE ON SCHEMA :"n" TO PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE :"r" IN SCHEMA :"n" GRANT SELECT ON TABLES TO PUBLIC;
CREATE EXTENSION hstore SCHEMA :"n";

CREATE COLLATION :"n" (provider = icu, locale = 'de');
COMMENT ON COLLATION :"n" IS :'n';
CREATE TYPE :"n" AS ENUM (:'n', 'x');
COMMENT ON TYPE :"n" IS :'n';
CREATE TYPE "composite" AS (:"n" :"n", "x" text COLLATE :"n");
COMMENT ON COLUMN "composite".:"n" IS :'n';
CREATE DOMAIN "domain" AS "composite" CONSTRAINT :"n" CHECK ((VALUE).x <> 'y');
COMMENT ON CONSTRAINT :"n" ON DOMAIN "domain" IS :'n';
CREATE TYPE "range" AS RANGE (subtype = :"n", multirange_type_name = "multi %s");
GRANT USAGE ON TYPE "range" TO :"r" WITH GRANT OPTION;

CREATE FUNCTION :"n"(:"n" :"n", OUT "out %" text) LANGUAGE sql AS $$ SELECT $1::text $$;
ALTER FUNCTION :"n"(:"n") SET search_path = :"n", public;
ALTER FUNCTION :"n"(:"n") OWNER TO :"r";
COMMENT ON FUNCTION :"n"(:"n") IS :'n';
CREATE PROCEDURE :"n"(:"n" integer DEFAULT 1) LANGUAGE plpgsql AS 'BEGIN END';
GRANT EXECUTE ON PROCEDURE :"n"(integer) TO :"r";
CREATE FUNCTION "trigger %"() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION "event"() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE AGGREGATE :"n"(bigint) (SFUNC = int8pl, STYPE = bigint, INITCOND = '0');
COMMENT ON AGGREGATE :"n"(bigint) IS :'n';
CREATE FUNCTION "less"(:"n", :"n") RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1::text < $2::text';
CREATE OPERATOR %%% (FUNCTION = "less", LEFTARG = :"n", RIGHTARG = :"n");
COMMENT ON OPERATOR %%% (:"n", :"n") IS :'n';
CREATE OPERATOR FAMILY :"n" USING btree;
CREATE OPERATOR CLASS :"n" FOR TYPE :"n" USING btree FAMILY :"n" AS OPERATOR 1 %%%;
COMMENT ON OPERATOR CLASS :"n" USING btree IS :'n';
CREATE CAST ("composite" AS :"n") WITH INOUT;
COMMENT ON CAST ("composite" AS :"n") IS :'n';
CREATE CONVERSION :"n" FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;
COMMENT ON CONVERSION :"n" IS :'n';
CREATE FUNCTION "handler %"() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE TRUSTED LANGUAGE :"n" HANDLER "handler %";
ALTER LANGUAGE :"n" OWNER TO postgres;
COMMENT ON LANGUAGE :"n" IS :'n';
GRANT USAGE ON LANGUAGE :"n" TO :"r";
CREATE FUNCTION "in language"() RETURNS integer LANGUAGE :"n" AS 'BEGIN RETURN 1; END';
CREATE ACCESS METHOD :"n" TYPE TABLE HANDLER heap_tableam_handler;
COMMENT ON ACCESS METHOD :"n" IS :'n';
CREATE TEXT SEARCH DICTIONARY :"n" (TEMPLATE = simple);
CREATE TEXT SEARCH CONFIGURATION :"n" (COPY = simple);
ALTER TEXT SEARCH CONFIGURATION :"n" ALTER MAPPING FOR asciiword WITH :"n";
COMMENT ON TEXT SEARCH CONFIGURATION :"n" IS :'n';

CREATE SEQUENCE "sequence\%";
ALTER SEQUENCE "sequence\%" OWNER TO :"r";
SELECT nextval('"sequence\%"') \g /dev/null
GRANT USAGE ON SEQUENCE "sequence\%" TO PUBLIC;
COMMENT ON SEQUENCE "sequence\%" IS :'n';

CREATE TABLE "table %s\" (
    :"n" integer GENERATED ALWAYS AS IDENTITY CONSTRAINT :"n" PRIMARY KEY,
    "enum" :"n" DEFAULT :'n', "composite" "composite", "domain" "domain", "domains" "domain"[], "range" "range", "multi" "multi %s",
    "generated" text GENERATED ALWAYS AS (:'n') STORED,
    "unique" text COLLATE :"n" CONSTRAINT "uni%que" UNIQUE CONSTRAINT "che'ck" CHECK ("unique" <> :'n'),
    "self" integer CONSTRAINT "forei\gn" REFERENCES "table %s\",
    "hstore" hstore,
    CONSTRAINT "exclu""de" EXCLUDE USING btree ("self" WITH =) WHERE ("self" > 0)
);
INSERT INTO "table %s\" ("enum", "composite", "domain", "domains", "range", "multi", "unique", "hstore")
VALUES (DEFAULT, ROW(:'n', :'n'), ROW('x', :'n'), ARRAY[ROW(:'n', :'n')::"composite", NULL]::"domain"[], "range"(:'n', 'x', '[]'), '{}', 'a', hstore(:'n', :'n')),
    (NULL, NULL, NULL, '{}', 'empty', NULL, :'n' || '2', NULL);
COMMENT ON TABLE "table %s\" IS :'n';
COMMENT ON COLUMN "table %s\".:"n" IS :'n';
COMMENT ON CONSTRAINT "che'ck" ON "table %s\" IS :'n';
ALTER TABLE "table %s\" OWNER TO :"r";
GRANT SELECT (:"n", "enum"), UPDATE ("unique") ON "table %s\" TO PUBLIC;
ALTER TABLE "table %s\" ALTER "unique" SET STATISTICS 77, CLUSTER ON "uni%que", REPLICA IDENTITY USING INDEX :"n";
CREATE TABLE "child %" () INHERITS ("table %s\");
CREATE INDEX "index\%s" ON "table %s\" (:"n", ("unique" || :'n') COLLATE :"n") WHERE "unique" <> :'n';
COMMENT ON INDEX "index\%s" IS :'n';
CREATE STATISTICS "statistics %" ON :"n", "self" FROM "table %s\";
COMMENT ON STATISTICS "statistics %" IS :'n';
CREATE TRIGGER :"n" BEFORE UPDATE OF :"n" ON "table %s\" FOR EACH ROW WHEN (OLD."unique" <> :'n') EXECUTE FUNCTION "trigger %"(:'n', '\');
COMMENT ON TRIGGER :"n" ON "table %s\" IS :'n';
ALTER TABLE "table %s\" DISABLE TRIGGER :"n";
CREATE POLICY :"n" ON "table %s\" TO :"r" USING ("unique" <> :'n');
COMMENT ON POLICY :"n" ON "table %s\" IS :'n';
ALTER TABLE "table %s\" ENABLE ROW LEVEL SECURITY;
CREATE RULE :"n" AS ON DELETE TO "table %s\" DO ALSO NOTIFY "x%";
COMMENT ON RULE :"n" ON "table %s\" IS :'n';
CREATE TABLE "partitioned %" (:"n" :"n") PARTITION BY LIST (:"n");
CREATE TABLE "partition %" PARTITION OF "partitioned %" FOR VALUES IN (:'n');
INSERT INTO "partitioned %" VALUES (:'n');
CREATE VIEW "view %" AS SELECT :"n", "unique" AS "q%", :'n'::text AS "text" FROM "table %s\";
ALTER VIEW "view %" OWNER TO :"r";
ALTER VIEW "view %" ALTER COLUMN "q%" SET DEFAULT :'n';
COMMENT ON VIEW "view %" IS :'n';
CREATE MATERIALIZED VIEW "materialized %" AS SELECT :"n", "unique" FROM "table %s\";
CREATE INDEX "index of materialized %" ON "materialized %" (:"n");

CREATE FOREIGN DATA WRAPPER :"n" OPTIONS (:"n" :'n');
COMMENT ON FOREIGN DATA WRAPPER :"n" IS :'n';
CREATE SERVER :"n" TYPE :'n' VERSION :'n' FOREIGN DATA WRAPPER :"n" OPTIONS (:"n" :'n');
COMMENT ON SERVER :"n" IS :'n';
GRANT USAGE ON FOREIGN SERVER :"n" TO :"r";
CREATE USER MAPPING FOR :"r" SERVER :"n" OPTIONS (:"n" :'n');
CREATE FOREIGN TABLE "foreign %" (:"n" integer OPTIONS (:"n" :'n')) SERVER :"n" OPTIONS (:"n" :'n');
CREATE PUBLICATION :"n" FOR TABLE "table %s\" WHERE (:"n" > 5), TABLES IN SCHEMA :"n";
COMMENT ON PUBLICATION :"n" IS :'n';
CREATE SUBSCRIPTION "nothing_comes" CONNECTION 'dbname=nowhere' PUBLICATION :"n" WITH (connect = false);
COMMENT ON SUBSCRIPTION "nothing_comes" IS :'n';
CREATE EVENT TRIGGER :"n" ON ddl_command_end EXECUTE FUNCTION "event"();
COMMENT ON EVENT TRIGGER :"n" IS :'n';
ALTER EVENT TRIGGER :"n" DISABLE;
SELECT lo_from_bytea(4711, convert_to(:'n', 'UTF8')) \g /dev/null
COMMENT ON LARGE OBJECT 4711 IS :'n';
ALTER LARGE OBJECT 4711 OWNER TO :"r";
