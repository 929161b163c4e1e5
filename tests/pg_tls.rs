//! Who may connect how: passwords, TLS, certificates, several hosts.

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::server::{TestServer, append, bin_dir, run};
use pgtide::pg::{Connection, ConnectionArgs, Error, SessionOptions, Settings};

fn try_connect(conninfo: &str) -> Result<Connection, Error> {
    connect_with(conninfo, &[])
}

fn connect_with(conninfo: &str, env: &[(&str, &str)]) -> Result<Connection, Error> {
    let args = ConnectionArgs {
        dbname: Some(conninfo.to_owned()),
        no_password: true,
        ..ConnectionArgs::default()
    };
    let find = |name: &str| {
        let given = env.iter().find(|(n, _)| *n == name);
        given
            .map_or((name == "HOME").then_some("/nowhere"), |(_, v)| Some(*v))
            .map(str::to_owned)
    };
    Settings::resolve(args, &find)?.connect(&SessionOptions::pinned())
}

fn error(conninfo: &str) -> String {
    match try_connect(conninfo) {
        Ok(_) => panic!("{conninfo} connected"),
        Err(error) => error.to_string(),
    }
}

fn openssl(dir: &Path, arguments: &str) {
    run(Command::new("sh")
        .arg("-ec")
        .arg(format!("cd {}; {arguments}", dir.display())));
}

fn private(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// An authority, a server certificate of it for `db.test`, a client certificate for user `cert`, and a certificate that
/// signed itself.
fn make_certificates() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    openssl(
        dir.path(),
        "exec 2>/dev/null
         openssl req -new -x509 -days 30 -nodes -subj '/CN=test root' -keyout ca.key -out ca.crt
         sign() { openssl x509 -req -days 30 -CA ca.crt -CAkey ca.key -CAcreateserial -in $1.csr -out $1.crt -extfile $1.ext; }
         openssl req -new -nodes -subj /CN=other.name -keyout server.key -out server.csr
         echo 'subjectAltName=DNS:*.test,IP:127.0.0.1' > server.ext; sign server
         openssl req -new -nodes -subj /CN=cert -keyout client.key -out client.csr
         echo 'extendedKeyUsage=clientAuth' > client.ext; sign client
         openssl req -new -x509 -days 30 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-384 -sha384 \
           -addext basicConstraints=critical,CA:FALSE -subj /CN=self.test -keyout self.key -out self.crt
         openssl pkcs8 -topk8 -in client.key -out locked.key -passout pass:x",
    );
    dir
}

fn use_certificate(server: &TestServer, dir: &Path, name: &str) {
    let data = &server.data_dir;
    for (from, to) in [
        (format!("{name}.crt"), "server.crt"),
        (format!("{name}.key"), "server.key"),
        ("ca.crt".to_owned(), "root.crt"),
    ] {
        fs::copy(dir.join(from), data.join(to)).unwrap();
        private(&data.join(to));
        if nix::unistd::geteuid().is_root() {
            run(Command::new("chown").arg("postgres:").arg(data.join(to)));
        }
    }
}

struct Cluster {
    server: TestServer,
    dir: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Option<Cluster> {
        let Some(bin) = bin_dir() else {
            eprintln!("NOT RUN: no PostgreSQL server programs on this machine");
            return None;
        };
        let server = TestServer::start(&bin, "");
        let mut c = try_connect(&server.conninfo("postgres")).unwrap();
        c.execute(
            "CREATE ROLE scram LOGIN PASSWORD 'pw'; CREATE ROLE plain LOGIN PASSWORD 'pw'; CREATE ROLE cert LOGIN;
             SET password_encryption = md5; CREATE ROLE md5 LOGIN PASSWORD 'pw'",
        )
        .unwrap();
        let dir = make_certificates();
        use_certificate(&server, dir.path(), "server");
        append(
            &server.data_dir.join("postgresql.conf"),
            "ssl = on\nssl_ca_file = 'root.crt'\n",
        );
        server.set_hba(
            "local all all trust
             host all plain all password
             host all md5 all md5
             hostssl all cert all cert
             host all all all scram-sha-256\n",
        );
        Some(Cluster { server, dir })
    }

    fn file(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        if name.ends_with(".key") {
            private(&path);
        }
        path
    }

    fn tcp(&self, user: &str, more: &str) -> String {
        format!("{} {more}", self.server.tcp(user, "postgres"))
    }

    /// Over TCP by a name that no resolver knows.
    fn named(&self, host: &str, more: &str) -> String {
        format!(
            "host={host} hostaddr=127.0.0.1 port={} user=scram password=pw dbname=postgres {more}",
            self.server.port
        )
    }
}

fn wait_for_tls(cluster: &Cluster) {
    for _ in 0..100 {
        if let Ok(c) = try_connect(&cluster.tcp("scram", "password=pw sslmode=require")) {
            assert!(c.is_encrypted());
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!(
        "{}",
        error(&cluster.tcp("scram", "password=pw sslmode=require"))
    );
}

#[test]
fn passwords_tls_and_certificates() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    wait_for_tls(&cluster);
    let tcp = |user: &str, more: &str| cluster.tcp(user, more);

    // Passwords, with and without TLS.
    for user in ["scram", "plain", "md5"] {
        for mode in ["disable", "allow", "prefer", "require"] {
            let c = try_connect(&tcp(user, &format!("password=pw sslmode={mode}"))).unwrap();
            assert_eq!(
                c.is_encrypted(),
                matches!(mode, "prefer" | "require"),
                "{user} {mode}"
            );
        }
        let wrong = try_connect(&tcp(user, "password=wrong")).unwrap_err();
        assert_eq!(wrong.code(), Some("28P01"), "{wrong}");
    }
    assert!(error(&tcp("scram", "")).contains("no password supplied"));

    // Channel binding, and what the user lets the server ask for.
    try_connect(&tcp(
        "scram",
        "password=pw channel_binding=require sslmode=require",
    ))
    .unwrap();
    try_connect(&tcp(
        "scram",
        "password=pw channel_binding=disable sslmode=require",
    ))
    .unwrap();
    let e = error(&tcp(
        "scram",
        "password=pw channel_binding=require sslmode=disable",
    ));
    assert!(
        e.contains("channel binding required, but SSL not in use"),
        "{e}"
    );
    let e = error(&tcp("md5", "password=pw channel_binding=require"));
    assert!(e.contains("channel binding required"), "{e}");
    try_connect(&tcp("scram", "password=pw require_auth=scram-sha-256")).unwrap();
    try_connect(&tcp("md5", "password=pw require_auth=!password")).unwrap();
    let e = error(&tcp("plain", "password=pw require_auth=!password"));
    assert!(e.contains("requested a cleartext password"), "{e}");
    let e = error(&format!(
        "{} require_auth=scram-sha-256",
        cluster.server.conninfo("postgres")
    ));
    assert!(e.contains("did not complete authentication"), "{e}");

    // Verification.
    let ca = cluster.file("ca.crt");
    let full = format!("sslmode=verify-full sslrootcert={ca}");
    try_connect(&cluster.named("db.test", &full)).unwrap();
    try_connect(&tcp("scram", &format!("password=pw {full}"))).unwrap();
    for wrong in ["db.example", "a.db.test", "other.name", "127.0.0.2"] {
        let e = error(&cluster.named(wrong, &full));
        assert!(e.contains("does not match host name"), "{e}");
        try_connect(&cluster.named(wrong, &full.replace("full", "ca"))).unwrap();
    }
    let e = error(&format!(
        "{full} hostaddr=127.0.0.1 user=scram port={}",
        cluster.server.port
    ));
    assert!(e.contains("host name must be specified"), "{e}");
    let other = cluster.file("self.crt");
    for mode in ["require", "verify-ca", "verify-full"] {
        let e = error(&cluster.named("db.test", &format!("sslmode={mode} sslrootcert={other}")));
        assert!(e.contains("not signed by a trusted root"), "{mode}: {e}");
    }
    let e = error(&cluster.named("db.test", "sslmode=verify-ca sslrootcert=/no/such"));
    assert!(e.contains("does not exist"), "{e}");
    try_connect(&cluster.named("db.test", "sslmode=require sslrootcert=/no/such")).unwrap();
    let e = error(&cluster.named("db.test", "sslrootcert=system"));
    assert!(e.contains("TLS"), "{e}");
    for versions in [
        "ssl_max_protocol_version=TLSv1.2",
        "ssl_min_protocol_version=TLSv1.3",
    ] {
        let mut c = try_connect(&cluster.named("db.test", &format!("{full} {versions}"))).unwrap();
        let version = c
            .query("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            .unwrap();
        assert!(versions.contains(version[0].get(0).unwrap()));
        // A large answer and a large question through TLS.
        let mut copy = c
            .copy_in("COPY (SELECT 1) FROM STDIN")
            .map(drop)
            .unwrap_err();
        assert_eq!(copy.code(), Some("42601"));
        c.execute("CREATE TEMP TABLE t (a text)").unwrap();
        let mut writer = c.copy_in("COPY t FROM STDIN").unwrap();
        let line = [vec![b'x'; 999_999], vec![b'\n']].concat();
        for _ in 0..10 {
            writer.write(&line).unwrap();
        }
        assert_eq!(writer.finish().unwrap(), 10);
        let sum = c.query("SELECT sum(length(a)) FROM t").unwrap();
        assert_eq!(sum[0].get_i64(0).unwrap(), 9_999_990);
        copy = c.copy_in("SELECT 1").map(drop).unwrap_err();
        assert!(matches!(copy, Error::Protocol(_)));
        assert_eq!(c.query("SELECT 1").unwrap().len(), 1);
    }

    // Client certificates.
    let (crt, key) = (cluster.file("client.crt"), cluster.file("client.key"));
    let with = format!("sslcert={crt} sslkey={key}");
    let mut c = try_connect(&tcp("cert", &with)).unwrap();
    assert_eq!(
        c.query("SELECT current_user").unwrap()[0].get(0),
        Some("cert")
    );
    try_connect(&tcp(
        "cert",
        &format!("{with} sslcertmode=require sslmode=require"),
    ))
    .unwrap();
    let e = error(&tcp(
        "cert",
        &format!("{with} sslcertmode=disable sslmode=require"),
    ));
    assert!(e.contains("certificate"), "{e}");
    let e = error(&tcp(
        "scram",
        "password=pw sslmode=require sslcertmode=require",
    ));
    assert!(e.contains("sslcertmode=require"), "{e}");
    let locked = cluster.file("locked.key");
    let e = error(&tcp(
        "cert",
        &format!("sslcert={crt} sslkey={locked} sslmode=require"),
    ));
    assert!(e.contains("encrypted"), "{e}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let e = error(&tcp("cert", &format!("{with} sslmode=require")));
    assert!(e.contains("group or world access"), "{e}");
    private(Path::new(&key));

    // A query cancelled through TLS.
    let mut c = try_connect(&cluster.named("db.test", &full)).unwrap();
    let token = c.cancel_token();
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        token.cancel()
    });
    assert_eq!(
        c.query("SELECT pg_sleep(30)").unwrap_err().code(),
        Some("57014")
    );
    canceller.join().unwrap().unwrap();

    // TLS from the first byte: PostgreSQL 17 has it.
    let direct = cluster.named("db.test", "sslmode=require sslnegotiation=direct");
    if c.server_version() >= 170000 {
        assert!(try_connect(&direct).unwrap().is_encrypted());
    } else {
        eprintln!("NOT RUN: sslnegotiation=direct needs PostgreSQL 17");
        assert!(try_connect(&direct).is_err());
    }

    // A certificate that signed itself, common name only, is its own root.
    use_certificate(&cluster.server, cluster.dir.path(), "self");
    cluster.server.reload();
    let own = format!("sslmode=verify-full channel_binding=require sslrootcert={other}");
    let mut last = String::new();
    for _ in 0..100 {
        match try_connect(&cluster.named("self.test", &own)) {
            Ok(_) => {
                last.clear();
                break;
            }
            Err(e) => last = e.to_string(),
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(last, "");
    let e = error(&cluster.named("other.test", &own));
    assert!(e.contains("\"self.test\" does not match host name"), "{e}");
}

#[test]
fn hosts_files_and_sockets() {
    let Some(bin) = bin_dir() else {
        eprintln!("NOT RUN: no PostgreSQL server programs on this machine");
        return;
    };
    let server = TestServer::start(&bin, "");
    let port = server.port;
    let socket = server.socket_dir.display().to_string();

    // The first host refuses, the second serves; only that one is in the pinned settings.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let list = format!(
        "postgres://postgres@127.0.0.1:{closed},no-such-host.invalid:1,localhost:{port}/postgres"
    );
    let args = ConnectionArgs {
        dbname: Some(list.clone()),
        ..ConnectionArgs::default()
    };
    let settings = Settings::resolve(args, &|_| None).unwrap();
    let mut first = settings.connect(&SessionOptions::pinned()).unwrap();
    let pinned = settings.pin(&first);
    assert_eq!(pinned.get("host"), Some("localhost"));
    assert_eq!(pinned.get("hostaddr"), Some("127.0.0.1"));
    assert_eq!(pinned.get("port"), Some(port.to_string().as_str()));
    let mut second = pinned
        .with_dbname("template1")
        .connect(&SessionOptions::pinned())
        .unwrap();
    assert_eq!(
        first.server_start_time().unwrap(),
        second.server_start_time().unwrap()
    );
    let e = error(&format!(
        "postgres://postgres@127.0.0.1:{closed},127.0.0.1:{closed}/"
    ));
    assert_eq!(e.lines().count(), 2, "{e}");

    // A child program finds its way by the environment alone.
    let child = |settings: &Settings| {
        let mut command = Command::new(bin.join("psql"));
        command.args(["-XAtw", "-c", "SELECT current_database()", "-d"]);
        command.arg(settings.child_conninfo());
        for (name, value) in settings.child_env() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        String::from_utf8(run(&mut command).stdout).unwrap()
    };
    assert_eq!(child(&pinned.with_dbname("template1")), "template1\n");

    // What is asked of the server.
    let on = |attrs: &str| {
        format!(
            "{} target_session_attrs={attrs}",
            server.conninfo("postgres")
        )
    };
    for good in ["any", "read-write", "primary", "prefer-standby"] {
        try_connect(&on(good)).unwrap();
    }
    assert!(error(&on("standby")).contains("not in hot standby mode"));
    assert!(error(&on("read-only")).contains("not read-only"));
    let read_only = format!(
        "{} options='-c default_transaction_read_only=on'",
        on("read-only")
    );
    try_connect(&read_only).unwrap();
    assert!(error(&read_only.replace("read-only", "read-write")).contains("session is read-only"));

    // Who is at the other end of the socket.
    let owner = if nix::unistd::geteuid().is_root() {
        "postgres".to_owned()
    } else {
        std::env::var("USER").unwrap()
    };
    try_connect(&format!("{} requirepeer={owner}", on("any"))).unwrap();
    assert!(error(&format!("{} requirepeer=nobody", on("any"))).contains("actual peer user name"));
    try_connect(&format!("{} sslmode=verify-full", on("any"))).unwrap();

    // Password file and service file.
    first
        .execute("CREATE ROLE u LOGIN PASSWORD 'in \\ file:'")
        .unwrap();
    server.set_hba("local all postgres trust\nhost all all all scram-sha-256\n");
    let dir = tempfile::tempdir().unwrap();
    let (pass, service) = (dir.path().join("pass"), dir.path().join("service"));
    fs::write(&pass, format!("*:{port}:*:u:in \\\\ file\\:\n")).unwrap();
    private(&pass);
    fs::write(
        &service,
        format!("[mine]\nhost=127.0.0.1\nport={port}\nuser=u\ndbname=postgres\n"),
    )
    .unwrap();
    let (pass, service) = (pass.to_str().unwrap(), service.to_str().unwrap());
    let env = [
        ("PGPASSFILE", pass),
        ("PGSERVICEFILE", service),
        ("PGSERVICE", "mine"),
    ];
    let mut c = connect_with("", &env).unwrap();
    let row = &c.query("SELECT current_user, current_setting('application_name'), current_setting('TimeZone'), current_setting('search_path'), current_setting('client_encoding')").unwrap()[0];
    let values: Vec<_> = (0..5).map(|i| row.get(i).unwrap()).collect();
    assert_eq!(values, ["u", "pgtide", "UTC", "", "UTF8"]);
    // What the user sets beside what pgtide pins.
    let more = format!(
        "host={socket} port={port} user=postgres dbname=postgres options='-c work_mem=3MB -c TimeZone=Asia/Tokyo' application_name='my app'"
    );
    let mut c = connect_with(&more, &[("PGGEQO", "off"), ("PGTZ", "CET")]).unwrap();
    let row = &c.query("SELECT current_setting('work_mem'), current_setting('application_name'), current_setting('TimeZone'), current_setting('geqo')").unwrap()[0];
    let values: Vec<_> = (0..4).map(|i| row.get(i).unwrap()).collect();
    assert_eq!(values, ["3MB", "my app", "UTC", "off"]);

    // A database that carries settings of its own, in another encoding.
    c.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'")
        .unwrap();
    c.execute("ALTER DATABASE latin SET client_encoding = 'UTF8'")
        .unwrap();
    c.execute("ALTER DATABASE latin SET statement_timeout = '1ms'")
        .unwrap();
    let mut c = try_connect(&server.conninfo("latin")).unwrap();
    let rows = c.query_raw(&b"SELECT '\xe9', pg_sleep(0.01)"[..]).unwrap();
    assert_eq!(rows[0].raw(0), Some(&b"\xe9"[..]));
    assert!(matches!(
        c.query("SELECT chr(233)"),
        Err(Error::Value { column: 0, .. })
    ));

    // A server that never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().map(|a| (a.port(), silent)).unwrap();
    let start = std::time::Instant::now();
    let e = error(&format!(
        "host=127.0.0.1 port={} connect_timeout=2 user=u",
        silent.0
    ));
    assert!(e.contains("timeout expired"), "{e}");
    assert!(start.elapsed().as_secs() < 6);
}
