"""The databases that are measured: what they hold, and how they are made.

Each is made once, in the size that the scale asks for, and stays for the next time; it is made anew when what is written
here has changed. It gets its name when it is complete. At another scale than 1 the name says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench import Bench

# 100 sensors, one row of each in 12 seconds for 30 days, in a hypertable of 30 chunks: timestamp, device, temperature (a
# slow wave and noise, 2 decimals), humidity (uniform, all 53 bits random: no codec can do much with it), two counters,
# voltage (likewise, 24 bits), a status that is nearly always the same. And what an application logs, as jsonb with an
# index on all of its keys and values.
SENSORS = """
create extension timescaledb;
set timezone = 'UTC';
create table metrics (ts timestamptz not null, device int not null, temperature float8, humidity float8,
    packets bigint, bytes bigint, voltage real, status text);
select from create_hypertable('metrics', 'ts', chunk_time_interval => interval '1 day');
create index metrics_device_ts on metrics (device, ts desc);
create table events (id bigserial primary key, at timestamptz not null, kind text not null, payload jsonb not null);
"""

METRICS_ROWS = """
set timezone = 'UTC';
select setseed(0.5);
insert into metrics
select t, d, 20 + round((5*sin(extract(epoch from t)/7200 + d) + random())::numeric, 2)::float8, 40 + 20*random(),
    (extract(epoch from t)::bigint - 1700000000) * 3 + d,
    (extract(epoch from t)::bigint - 1700000000) * 1500 + (random()*100)::int,
    (3.3 + random()*0.2)::real,
    case when random() < 0.95 then 'ok' when random() < 0.9 then 'warn' else 'fail' end
from generate_series('{first}'::timestamptz, '{last}'::timestamptz - interval '{step} s', interval '{step} s') t,
    generate_series(1, 100) d;
"""

EVENTS_ROWS = """
select setseed(0.25);
insert into events (at, kind, payload)
select '{first}'::timestamptz + i * interval '{step} s',
    (array['view', 'view', 'view', 'search', 'cart', 'order', 'error'])[1 + (random()*6)::int],
    jsonb_build_object('session', md5((i / 12)::text), 'user', (random()*random()*200000)::int,
        'path', case when random() < 0.4 then (array['/', '/search', '/cart', '/account'])[1 + (random()*3)::int]
            else '/item/' || (random()*random()*20000)::int end,
        'status', (array[200, 200, 200, 200, 304, 404, 500])[1 + (random()*6)::int], 'ms', round((random()*800)::numeric, 1),
        'country', (array['DE', 'FR', 'US', 'IN', 'BR', 'JP', 'PL', 'SE'])[1 + (random()*7)::int])
from generate_series(1, {rows}) i;
"""

# One big table with a primary key and two indexes more, and small ones around it that refer to one another.
PLAIN = """
create table countries (id int primary key, name text not null unique);
create table customers (id int primary key, country int not null references countries, name text not null,
    email text not null unique, since date not null);
create table products (id int primary key, name text not null, price numeric(10,2) not null);
create table carts (id int primary key, customer int not null references customers, product int not null references products,
    added timestamptz not null);
create table orders (id bigint primary key, customer int not null, product int not null, placed timestamptz not null,
    quantity smallint not null, price numeric(10,2) not null, status text not null, note text);
select setseed(0.5);
insert into countries select i, 'country ' || i from generate_series(1, 200) i;
insert into customers select i, 1 + (random()*199)::int, 'Customer ' || md5(i::text), i || '@example.org',
    '2020-01-01'::date + (random()*2000)::int from generate_series(1, {customers}) i;
insert into products select i, 'Product ' || i, round((random()*500)::numeric, 2) from generate_series(1, {products}) i;
insert into carts select i, 1 + (random()*({customers} - 1))::int, 1 + (random()*({products} - 1))::int,
    '2026-01-01'::timestamptz + random() * interval '30 days' from generate_series(1, {customers}) i;
insert into orders select i, 1 + (random()*({customers} - 1))::int, 1 + (random()*({products} - 1))::int,
    '2024-01-01'::timestamptz + i * interval '6 s' + random() * interval '5 s', 1 + (random()*9)::int,
    round((random()*500)::numeric, 2), (array['new', 'paid', 'sent', 'sent', 'sent', 'returned'])[1 + (random()*5)::int],
    case when random() < 0.3 then 'note ' || md5(i::text) end
from generate_series(1, {orders}) i;
create index orders_customer on orders (customer);
create index orders_placed on orders (placed);
"""

# Narrow rows with a primary key: for the growth of time and memory with their number.
ROWS = """
create table rows (id bigint primary key, device int not null, at timestamptz not null, value float8, status text);
insert into rows select i, i % 1000, '2020-01-01'::timestamptz + i * interval '1 s', round((100*random())::numeric, 3)::float8,
    (array['ok', 'ok', 'ok', 'warn', 'fail'])[1 + (random()*4)::int] from generate_series(1, {rows}) i;
"""

WIDE = """
create table wide (id int, value bytea);
insert into wide select i, (select decode(string_agg(md5(i::text || '/' || k), ''), 'hex') from generate_series(1, 3125) k)
from generate_series(1, {rows}) i;
"""

# One row of random bytes, one of hexadecimal digits. The period of either is no multiple of a power of two.
HUGE = """
create table huge (id int, value bytea);
alter table huge alter value set storage external;
insert into huge select 1, convert_to(repeat(string_agg(md5(k::text), ''), 30), 'SQL_ASCII') from generate_series(1, {parts}) k;
insert into huge select 2, value || value from (
    select decode(repeat(string_agg(md5(k::text), ''), 30), 'hex') as value from generate_series(1, {parts}) k);
"""

# Chunks of five rows, two indexes on each.
CHUNKS = """
create extension timescaledb;
create table many (t bigint not null, v integer, note text);
select from create_hypertable('many', 't', chunk_time_interval => 10);
create index many_v on many (v);
"""
CHUNKS_ROWS = """
insert into many select g * 10 + i, g, 'row ' || i from generate_series({first}, {last}) g, generate_series(0, 4) i;
"""

# What compresses little, so that most of it travels.
NOISE = """
create table noise (id bigint, a float8, b float8, c float8, d float8, e uuid, f uuid, g uuid, h uuid);
insert into noise select i, random(), random(), random(), random(),
    gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid()
from generate_series(1, {rows}) i;
"""

OWNERS = """
do $$ begin for n in 1 .. 4 loop
    if to_regrole('pgtide_bench_' || n) is null then execute 'create role pgtide_bench_' || n; end if;
end loop; end $$;
"""
# Large objects of four owners; privileges for every fifth, comments for every hundredth.
OBJECTS = """
do $$ begin for base in 0 .. {objects} - 1 by 10000 loop
    for owner in 1 .. 4 loop
        execute 'set local role pgtide_bench_' || owner;
        perform lo_from_bytea((100000 + i)::oid, decode((select string_agg(md5(i || '/' || j), '') from generate_series(1, 16) j), 'hex'))
        from generate_series(base + owner, base + 10000, 4) i;
        reset role;
    end loop;
    commit;
    execute (select format('grant select on large object %s to pgtide_bench_1 with grant option', string_agg((100000 + i)::text, ', '))
        from generate_series(base + 10, base + 10000, 10) i);
    execute (select format('grant select, update on large object %s to public', string_agg((100000 + i)::text, ', '))
        from generate_series(base + 5, base + 10000, 10) i);
    for i in 1 .. 100 loop execute format('comment on large object %s is ''comment %s''', 100000 + base + i * 100, i); end loop;
    commit;
end loop; end $$;
"""
# What there is of large objects, as one digest.
OBJECTS_DIGEST = """
select md5(string_agg(concat_ws(' ', m.oid, pg_get_userbyid(lomowner), lomacl, d.description, p.digest), E'\\n' order by m.oid))
from pg_largeobject_metadata m left join pg_description d on d.objoid = m.oid and d.classoid = 'pg_largeobject'::regclass
left join (select loid, string_agg(pageno || md5(data), ' ' order by pageno) as digest from pg_largeobject group by loid) p on p.loid = m.oid
"""


def metrics_step(bench: Bench) -> float:
    """Seconds between two rows of a sensor."""
    return 12 / bench.scale


def sensors(bench: Bench) -> str:
    """The hypertable database: 21.6 million rows in 30 chunks, 3 million events, about 4 GB."""
    rows = bench.scaled(3_000_000)
    return bench.database(
        "sensors",
        f"{bench.scaled(21_600_000):,} rows in a hypertable, {rows:,} events as jsonb",
        [
            SENSORS,
            METRICS_ROWS.format(first="2026-01-01", last="2026-01-31", step=metrics_step(bench)),
            EVENTS_ROWS.format(first="2026-01-01", rows=rows, step=0.864 / bench.scale),
            "create index events_payload on events using gin (payload)",
        ],
        4e9 * bench.scale,
    )


def plain(bench: Bench) -> str:
    """The plain database: one table of 10 million rows, about 1.4 GB."""
    sizes = {"orders": bench.scaled(10_000_000), "customers": bench.scaled(200_000), "products": bench.scaled(20_000)}
    return bench.database(
        "plain", f"a table of {sizes['orders']:,} rows and small ones", [PLAIN.format(**sizes)], 1.4e9 * bench.scale
    )


def rows(bench: Bench, count: int) -> str:
    """A table of so many rows."""
    return bench.database(f"rows_{count}", f"a table of {count:,} rows", [ROWS.format(rows=count)], 90 * count)


def wide(bench: Bench) -> str:
    """Rows of 50 kB."""
    count = bench.scaled(10_000)
    return bench.database("wide", f"{count:,} rows of 50 kB", [WIDE.format(rows=count)], 5.2e8 * bench.scale)


def huge(bench: Bench) -> str:
    """Two rows of 900 MB."""
    return bench.database("huge", "two rows of 900 MB", [HUGE.format(parts=bench.scaled(937_500))], 1.8e9 * bench.scale)


def chunk_count(count: int) -> str:
    """So many chunks, in words."""
    return f"{count:,} chunk" + ("" if count == 1 else "s")


def _chunk_statements(count: int) -> Iterator[str]:
    yield CHUNKS
    # Each new chunk takes locks, and a session remembers every chunk that it made.
    for first in range(0, count, 500):
        yield CHUNKS_ROWS.format(first=first, last=min(first + 500, count) - 1)


def chunks(bench: Bench, count: int) -> str:
    """A hypertable of so many chunks with hardly any rows."""
    return bench.database(
        f"chunks_{count}", f"a hypertable of {chunk_count(count)}", _chunk_statements(count), 95e3 * count
    )


def noise(bench: Bench) -> str:
    """Random numbers, 3 GB."""
    count = bench.scaled(22_000_000)
    return bench.database("noise", f"{count:,} rows of random numbers", [NOISE.format(rows=count)], 3e9 * bench.scale)


def objects(bench: Bench) -> str:
    """A million large objects, in whole tens of thousands."""
    count = max(10_000, bench.scaled(1_000_000) // 10_000 * 10_000)
    bench.sql("postgres", OWNERS)
    return bench.database("objects", f"{count:,} large objects", [OBJECTS.format(objects=count)], 420 * count)
