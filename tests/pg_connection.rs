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
