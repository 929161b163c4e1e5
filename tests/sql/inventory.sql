-- What a database holds, a line for each object: kind, name, content; separated by tabs. Run by psql. Tables are read
-- row by row with the server's own text of each row and its own hash, so that nothing here depends on pgtide.

\pset fieldsep '\t'
SET extra_float_digits = 3;
SET row_security = off;
SET intervalstyle = postgres;
SET datestyle = 'ISO, MDY';
SET timezone = 'UTC';
SET bytea_output = hex;

-- Partitions by the hash of an enum hold other rows after a restore: they are read through the partitioned table.
WITH hashed AS (
    SELECT p.partrelid AS oid FROM pg_partitioned_table p
      JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs::int2[])
      JOIN pg_type t ON t.oid = a.atttypid
     WHERE p.partstrat = 'h' AND t.typtype = 'e'
), of_interest AS (
    SELECT c.oid, c.relkind, c.relispopulated, c.reltoastrelid, format('%I.%I', n.nspname, c.relname) AS name,
           h.oid IS NOT NULL AS whole,
           -- Of an extension's table those rows that belong to the user.
           (SELECT string_agg(u.condition, ' ') FROM pg_extension e, unnest(e.extconfig, e.extcondition) u (oid, condition) WHERE u.oid = c.oid) AS condition
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN hashed h ON h.oid = c.oid
     WHERE (c.relkind IN ('r', 'm') OR h.oid IS NOT NULL) AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_toast%'
       AND NOT (c.relkind = 'r' AND EXISTS (
             SELECT FROM pg_partition_ancestors(c.oid) a JOIN hashed ON hashed.oid = a.relid))
       -- Parents of compressed rows, empty themselves: TimescaleDB fails to read what is below them.
       AND NOT (n.nspname = '_timescaledb_internal' AND c.relname LIKE '\_compressed\_hypertable\_%')
       -- Of an extension's tables those that users may change.
       AND NOT EXISTS (
             SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
              WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
                AND NOT coalesce(c.oid = ANY (e.extconfig), false))
)
SELECT CASE
    WHEN NOT relispopulated THEN format('SELECT ''rows'', %L, ''not populated''', replace(name, E'\n', '\n'))
    ELSE format(
        'SELECT ''rows'', %L, count(*) || '' rows '' || coalesce(sum(hashtextextended(%s, 0)::numeric), 0) FROM %s %s AS "whole row" %s',
        replace(name, E'\n', '\n'),
        -- The text of a row may be longer than a text may be: where that is near, a digest stands for each column.
        CASE WHEN pg_relation_size(nullif(reltoastrelid, 0)) > 50000000 THEN (
            SELECT format('ARRAY[%s]::text', string_agg(
                format(CASE WHEN a.atttypid = 'bytea'::regtype THEN 'md5("whole row".%I)' ELSE 'md5("whole row".%I::text)' END, a.attname),
                ', ' ORDER BY a.attnum))
              FROM pg_attribute a WHERE a.attrelid = of_interest.oid AND a.attnum > 0 AND NOT a.attisdropped)
        ELSE '"whole row"::text' END,
        CASE WHEN whole OR relkind = 'm' THEN '' ELSE 'ONLY' END,
        name, condition)
    END
FROM of_interest ORDER BY name
\gexec

SELECT format('SELECT ''sequence'', %L, last_value || '' '' || is_called FROM %s', replace(name, E'\n', '\n'), name)
  FROM (SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'S' AND n.nspname <> 'pg_catalog'
           AND NOT EXISTS (
             SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
              WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
                AND NOT coalesce(c.oid = ANY (e.extconfig), false))) s
 ORDER BY name
\gexec

SELECT 'large object', m.oid,
    concat_ws(' ', md5(lo_get(m.oid)), length(lo_get(m.oid)), pg_get_userbyid(m.lomowner),
        (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(m.lomacl) a), 'comment:' || replace(obj_description(m.oid, 'pg_largeobject'), E'\n', '\n'))
  FROM pg_largeobject_metadata m ORDER BY m.oid;
