//! The connection against a real server.

mod common;

use common::server::{TestServer, bin_dir};
use pgtide::pg::{
    Connection, ConnectionArgs, CopyError, Error, Reply, RowSink, SessionOptions, Settings,
    TransactionStatus,
};

fn settings(conninfo: &str) -> Settings {
    let args = ConnectionArgs {
        dbname: Some(conninfo.to_owned()),
        ..ConnectionArgs::default()
    };
    Settings::resolve(args, &|_| None).unwrap()
}

fn try_connect(conninfo: &str) -> Result<Connection, Error> {
    settings(conninfo).connect(&SessionOptions::pinned())
}

fn with_server(test: impl FnOnce(&TestServer)) {
    let Some(bin) = bin_dir() else {
        eprintln!("NOT RUN: no PostgreSQL server programs on this machine");
        return;
    };
    let server = TestServer::start(&bin, "");
    test(&server);
}

#[derive(Default)]
struct Rows {
    rows: Vec<Vec<u8>>,
    count: u64,
    keep: bool,
    parts: u64,
    longest_part: usize,
}

impl RowSink for Rows {
    type Error = String;
    fn row(&mut self, row: &[u8]) -> Result<(), String> {
        self.count += 1;
        if self.keep {
            self.rows.push(row.to_vec());
        }
        Ok(())
    }
    fn part(&mut self, part: &[u8], row_len: u64, offset: u64) -> Result<(), String> {
        self.parts += 1;
        self.longest_part = self.longest_part.max(part.len());
        if offset + part.len() as u64 == row_len {
            self.count += 1;
        }
        Ok(())
    }
}

fn copy_out(c: &mut Connection, sql: &str, max_row: usize) -> Rows {
    let mut sink = Rows {
        keep: true,
        ..Rows::default()
    };
    c.send(sql).unwrap();
    assert!(matches!(c.next().unwrap(), Reply::CopyOut { .. }));
    let rows = c.read_copy(max_row, &mut sink).unwrap();
    assert_eq!(rows, sink.count);
    assert!(matches!(c.next().unwrap(), Reply::Complete(tag) if tag == format!("COPY {rows}")));
    assert!(matches!(c.next().unwrap(), Reply::Done));
    sink
}

#[test]
fn queries_batches_and_copies() {
    with_server(|server| {
        let mut c = try_connect(&server.conninfo("postgres")).unwrap();
        c.execute("SET search_path = public").unwrap();
        assert!(c.server_version() >= 130000);
        let rows = c.query("SELECT 1, NULL, 'é', true; SELECT 2, 'x'").unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].get_i64(0).unwrap(), 2);
        assert_eq!(c.query("SELECT 1 WHERE false").unwrap().len(), 0);
        c.execute("CREATE TABLE t (a int PRIMARY KEY, b text)")
            .unwrap();

        let mut copy = c.copy_in("COPY t FROM STDIN").unwrap();
        copy.write(b"1\tone\n2\t").unwrap();
        copy.write(b"\\N\n").unwrap();
        assert_eq!(copy.finish().unwrap(), 2);

        let out = copy_out(&mut c, "COPY t TO STDOUT (FORMAT binary)", 1 << 20);
        assert_eq!(out.rows[0], b"\0\x02\0\0\0\x04\0\0\0\x01\0\0\0\x03one");
        let mut copy = c.copy_in("COPY t FROM STDIN (FORMAT binary)").unwrap();
        assert!(copy.is_binary());
        copy.write(&out.rows[0]).unwrap();
        let error = copy.finish().unwrap_err();
        let server_error = error.server().unwrap();
        assert_eq!(server_error.code, "23505");
        assert!(server_error.detail.as_deref().unwrap().contains("(1)"));
        assert_eq!(server_error.constraint.as_deref(), Some("t_pkey"));
        assert_eq!(c.transaction_status(), TransactionStatus::Idle);

        let text = copy_out(&mut c, "COPY t TO STDOUT", 1 << 20);
        assert_eq!(text.rows, [b"1\tone\n".to_vec(), b"2\t\\N\n".to_vec()]);
        for sql in [
            "COPY (SELECT 1 WHERE false) TO STDOUT (FORMAT binary)",
            "COPY (SELECT 1 WHERE false) TO STDOUT",
        ] {
            assert_eq!(copy_out(&mut c, sql, 10).count, 0);
        }
        assert_eq!(
            copy_out(
                &mut c,
                "COPY (SELECT FROM generate_series(1,3)) TO STDOUT (FORMAT binary)",
                10
            )
            .rows,
            [[0, 0], [0, 0], [0, 0]]
        );

        c.execute("BEGIN").unwrap();
        let statements: Vec<String> = (0..500).map(|i| format!("CREATE TABLE b{i} ()")).collect();
        c.batch(statements.iter().map(String::as_str)).unwrap();
        let error = c
            .batch(["SELECT 1", "SELECT 1/0", "CREATE TABLE never ()"])
            .unwrap_err();
        assert_eq!(error.index, 1);
        assert_eq!(error.source.code(), Some("22012"));
        assert_eq!(c.transaction_status(), TransactionStatus::Failed);
        c.execute("ROLLBACK").unwrap();
        let error = c
            .batch(["SELECT 1", "SELECT 1/0", "CREATE TABLE never ()"])
            .unwrap_err();
        assert_eq!(error.index, 1);
        assert!(
            c.query("SELECT FROM pg_class WHERE relname = 'never'")
                .unwrap()
                .is_empty()
        );

        // Several statements in one message: an error ends them, and the connection is free.
        c.send("SELECT 1; SELECT 1/0; SELECT 2").unwrap();
        assert!(
            c.execute("SELECT 1").is_err(),
            "an answer is still to be read"
        );
        assert!(matches!(c.next(), Ok(Reply::Row(_))));
        assert!(matches!(c.next(), Ok(Reply::Complete(_))));
        assert_eq!(c.next().unwrap_err().code(), Some("22012"));
        assert!(matches!(c.next(), Ok(Reply::Done)));

        c.execute("DO $$ BEGIN RAISE WARNING 'careful' USING HINT = 'h'; END $$")
            .unwrap();
        let notices = c.take_notices();
        assert_eq!(notices.len(), 1);
        assert_eq!(notices[0].message, "careful");
        assert!(c.take_notices().is_empty());
    });
}

/// Resident memory of this process at its highest, in MiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    let kib = line.split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() / 1024
}

#[test]
fn large_copies_in_bounded_memory() {
    with_server(|server| {
        let mut c = try_connect(&server.conninfo("postgres")).unwrap();
        c.execute("SET search_path = public; CREATE TABLE many (a bigint, b text); CREATE TABLE again (LIKE many)")
            .unwrap();
        c.execute("INSERT INTO many SELECT i, CASE WHEN i % 1000 = 0 THEN repeat('x', 300000) ELSE 'row ' || i END FROM generate_series(1, 100000) i")
            .unwrap();

        // Rows around the size of the read buffer, whole and in parts, from one COPY straight into the next.
        let mut target = try_connect(&server.conninfo("postgres")).unwrap();
        struct Forward<'a, 'c>(&'a mut pgtide::pg::CopyIn<'c>, u64);
        impl RowSink for Forward<'_, '_> {
            type Error = Error;
            fn row(&mut self, row: &[u8]) -> Result<(), Error> {
                self.0.write(row)
            }
            fn part(&mut self, part: &[u8], _: u64, _: u64) -> Result<(), Error> {
                self.1 += 1;
                self.0.write(part)
            }
        }
        for (format, max_row) in [
            ("binary", 1 << 20),
            ("text", 1 << 20),
            ("binary", 1000),
            ("text", 1000),
        ] {
            target.execute("TRUNCATE public.again").unwrap();
            let mut copy = target
                .copy_in(&format!("COPY public.again FROM STDIN (FORMAT {format})"))
                .unwrap();
            c.send(&format!("COPY many TO STDOUT (FORMAT {format})"))
                .unwrap();
            assert!(
                matches!(c.next().unwrap(), Reply::CopyOut { columns: 2, binary } if binary == (format == "binary"))
            );
            let mut sink = Forward(&mut copy, 0);
            assert_eq!(c.read_copy(max_row, &mut sink).unwrap(), 100_000);
            assert_eq!(sink.1 > 0, max_row == 1000);
            assert!(matches!(c.next().unwrap(), Reply::Complete(_)));
            assert!(matches!(c.next().unwrap(), Reply::Done));
            assert_eq!(copy.finish().unwrap(), 100_000);
            let same = "SELECT (SELECT count(*) FROM (TABLE public.many EXCEPT ALL TABLE public.again) x) = 0";
            assert!(target.query(same).unwrap()[0].get_bool(0).unwrap());
        }

        // One message, several COPYs.
        c.send("COPY (SELECT 1) TO STDOUT; COPY (SELECT 2) TO STDOUT (FORMAT binary); COPY (SELECT 1/0) TO STDOUT")
            .unwrap();
        for _ in 0..2 {
            assert!(matches!(c.next().unwrap(), Reply::CopyOut { .. }));
            assert!(c.next().is_err(), "rows are to be read first");
            assert_eq!(c.read_copy(100, &mut Rows::default()).unwrap(), 1);
            assert!(matches!(c.next().unwrap(), Reply::Complete(_)));
        }
        let failed = c.next().and_then(|_| {
            c.read_copy(1, &mut Rows::default()).map_err(|e| match e {
                CopyError::Connection(e) => e,
                CopyError::Sink(e) => panic!("{e}"),
            })
        });
        assert_eq!(failed.unwrap_err().code(), Some("22012"));
        // An error after rows.
        c.send("COPY (SELECT 1/(5-i) FROM generate_series(1,9) i) TO STDOUT (FORMAT binary)")
            .unwrap();
        assert!(matches!(c.next().unwrap(), Reply::CopyOut { .. }));
        let mut sink = Rows::default();
        let error = c.read_copy(1 << 20, &mut sink).unwrap_err();
        assert!(matches!(error, CopyError::Connection(Error::Server(e)) if e.code == "22012"));
        assert_eq!(sink.count, 4);
        c.execute("SELECT 1; COPY many TO STDOUT").unwrap();

        // A value of 300 MB, never held whole.
        c.execute("CREATE TABLE huge (b bytea)").unwrap();
        c.execute("ALTER TABLE huge ALTER b SET STORAGE external")
            .unwrap();
        let before = peak_memory();
        let mut copy = c.copy_in("COPY huge FROM STDIN (FORMAT binary)").unwrap();
        let len = 300u32 << 20;
        copy.write(&[0, 1]).unwrap();
        copy.write(&len.to_be_bytes()).unwrap();
        let chunk = vec![0xabu8; 1 << 20];
        for _ in 0..300 {
            copy.write(&chunk).unwrap();
        }
        assert_eq!(copy.finish().unwrap(), 1);
        for max_row in [1 << 20, usize::MAX] {
            let mut sink = Rows::default();
            c.send("COPY (SELECT b FROM huge UNION ALL SELECT '\\x01') TO STDOUT (FORMAT binary)")
                .unwrap();
            assert!(matches!(c.next().unwrap(), Reply::CopyOut { .. }));
            assert_eq!(c.read_copy(max_row, &mut sink).unwrap(), 2);
            assert!(matches!(c.next().unwrap(), Reply::Complete(_)));
            assert!(matches!(c.next().unwrap(), Reply::Done));
            assert!(sink.parts >= 300 && sink.longest_part <= 1 << 20);
        }
        assert!(
            peak_memory() < before + 50,
            "{} MiB, before {before}",
            peak_memory()
        );
    });
}

#[test]
fn failures_in_mid_copy_and_cancel() {
    with_server(|server| {
        let mut c = try_connect(&server.conninfo("postgres")).unwrap();
        c.execute("CREATE TABLE public.t (a int PRIMARY KEY CHECK (a <> 1000))")
            .unwrap();
        // The server complains long before we are done: we hear of it, and stop.
        let mut copy = c.copy_in("COPY public.t FROM STDIN").unwrap();
        let mut sent = 0u64;
        let error = (0..)
            .find_map(|i| {
                sent += 1;
                copy.write(format!("{i}\n").as_bytes()).err()
            })
            .unwrap();
        let report = error.server().unwrap();
        assert_eq!(report.code, "23514");
        assert!(report.context.as_deref().unwrap().contains("line 1001"));
        assert_eq!(report.table.as_deref(), Some("t"));
        assert!(sent < 5_000_000);
        assert!(copy.write(b"1\n").is_err());
        assert!(copy.finish().is_err());
        assert_eq!(c.query("SELECT FROM public.t").unwrap().len(), 0);

        // Given up by us, in words and by dropping.
        let mut copy = c.copy_in("COPY public.t FROM STDIN").unwrap();
        copy.write(b"1\n").unwrap();
        copy.abort("the block is damaged").unwrap();
        drop(
            c.copy_in("COPY public.t FROM STDIN (FORMAT binary)")
                .unwrap(),
        );
        assert_eq!(c.query("SELECT FROM public.t").unwrap().len(), 0);
        // An empty binary COPY is one with header and trailer.
        assert_eq!(
            c.copy_in("COPY public.t FROM STDIN (FORMAT binary)")
                .unwrap()
                .finish()
                .unwrap(),
            0
        );

        // A COPY FROM where nobody has rows.
        assert_eq!(
            c.execute("COPY public.t FROM STDIN").unwrap_err().code(),
            Some("57014")
        );
        assert!(c.execute("SELECT '\0'").is_err());
        c.execute("").unwrap();

        // Cancel, in a query and in a COPY.
        let token = c.cancel_token();
        token.cancel().unwrap();
        for sql in [
            "SELECT pg_sleep(30)",
            "COPY (SELECT pg_sleep(30)) TO STDOUT",
        ] {
            let token = token.clone();
            let canceller = std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(300));
                token.cancel()
            });
            assert_eq!(c.execute(sql).unwrap_err().code(), Some("57014"));
            canceller.join().unwrap().unwrap();
        }

        // A sink that gives up leaves a connection that says so.
        struct Full;
        impl RowSink for Full {
            type Error = &'static str;
            fn row(&mut self, _: &[u8]) -> Result<(), &'static str> {
                Err("full")
            }
            fn part(&mut self, _: &[u8], _: u64, _: u64) -> Result<(), &'static str> {
                Err("full")
            }
        }
        for max_row in [0, 100] {
            let mut c = try_connect(&server.tcp("postgres", "postgres")).unwrap();
            c.send("COPY (SELECT generate_series(1, 100000)) TO STDOUT (FORMAT binary)")
                .unwrap();
            c.next().unwrap();
            assert!(matches!(
                c.read_copy(max_row, &mut Full),
                Err(CopyError::Sink("full"))
            ));
            assert!(!c.is_usable());
            assert!(matches!(c.execute("SELECT 1"), Err(Error::Unusable(_))));
        }

        // Ended by the server: the reason is reported, in a query and in a COPY to it.
        let mut victim = try_connect(&server.conninfo("postgres")).unwrap();
        let kill = format!(
            "SELECT pg_terminate_backend({}, 5000)",
            victim.backend_pid()
        );
        c.execute(&kill).unwrap();
        let error = victim.execute("SELECT 1").unwrap_err();
        assert_eq!(error.code(), Some("57P01"), "{error}");
        assert!(error.is_connection_lost());
        assert!(victim.execute("SELECT 1").is_err());
        let mut victim = try_connect(&server.conninfo("postgres")).unwrap();
        let kill = format!(
            "SELECT pg_terminate_backend({}, 5000)",
            victim.backend_pid()
        );
        victim.execute("CREATE TABLE public.k (a text)").unwrap();
        let mut copy = victim.copy_in("COPY public.k FROM STDIN").unwrap();
        copy.write(b"1\n").unwrap();
        c.execute(&kill).unwrap();
        let chunk = vec![b'\n'; 1 << 20];
        let error = (0..100).find_map(|_| copy.write(&chunk).err()).unwrap();
        assert_eq!(error.code(), Some("57P01"), "{error}");
    });
}
