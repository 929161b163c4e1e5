-- What PostgreSQL 16 and 17 added; run after rich.sql.

CREATE TABLE app.parted_am (a integer) PARTITION BY LIST (a);
CREATE TABLE app.parted_am_1 PARTITION OF app.parted_am FOR VALUES IN (1);
INSERT INTO app.parted_am VALUES (1), (1);
CREATE TABLE app.parted_identity (id integer GENERATED ALWAYS AS IDENTITY, k integer) PARTITION BY LIST (k);
CREATE TABLE app.parted_identity_1 PARTITION OF app.parted_identity FOR VALUES IN (1);
INSERT INTO app.parted_identity (k) VALUES (1), (1);
CREATE COLLATION app.no_case (provider = icu, locale = 'und', deterministic = false, rules = '&a < g');
CREATE TABLE app.storage (a text STORAGE EXTERNAL, b text COMPRESSION pglz);
INSERT INTO app.storage VALUES ('a', 'b');
CREATE VIEW app.invoker WITH (security_invoker = true) AS SELECT a FROM app.storage;
GRANT MAINTAIN ON app.storage TO pgtide_writer;
CREATE EVENT TRIGGER on_login ON login EXECUTE FUNCTION app.ddl_seen();
ALTER EVENT TRIGGER on_login DISABLE;
