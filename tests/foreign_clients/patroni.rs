//! Patroni with two PostgreSQL servers whose only configuration store is a Duet pair: bootstrap, Duet's own handover and
//! crash beneath it, a switchover and a failover of PostgreSQL.
//!
//! Patroni speaks only the JSON gateway. It needs Debian's packages `patroni` and `postgresql`; without them the test is
//! skipped with a word, or fails with `DUET_TEST_REQUIRE_CLIENTS`.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use duet::process::{self, Launcher, Running, free_port};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{A, B, Pair, Witness};

/// The life of Patroni's leader key in seconds, its least.
const TTL: u32 = 20;
/// How long anything may take here: a failover waits for the leader key to expire.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks.
const POLL: Duration = Duration::from_millis(200);
/// Of Patroni's answers about its state.
const DEADLINE: Duration = Duration::from_secs(5);
/// PostgreSQL refuses to run as root.
const USER: &str = "postgres";

/// Where Debian puts the servers, the newest version's programs.
fn postgres_programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions.flatten().map(|version| version.path().join("bin"));
    programs.filter(|programs| programs.join("postgres").exists()).max()
}

/// The user and group to become, if this is root.
fn to_become() -> Option<(u32, u32)> {
    let id = |args: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(args).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    };
    let is_root = id(&["-u"]) == Some(0);
    is_root.then(|| (id(&["-u", USER]).unwrap(), id(&["-g", USER]).unwrap()))
}

/// A PostgreSQL server under Patroni. Dropping it kills both.
struct Postgres {
    name: &'static str,
    directory: PathBuf,
    port: u16,
    rest: String,
    patroni: Option<Running>,
}

impl Postgres {
    fn new(name: &'static str, base: &Path, programs: &Path, endpoints: &[String]) -> Self {
        let directory = base.join(name);
        std::fs::create_dir(&directory).unwrap();
        let (port, rest_port) = (free_port().unwrap(), free_port().unwrap());
        let (dir, programs) = (directory.display(), programs.display());
        let endpoints = endpoints.join(", ");
        let configuration = format!(
            "\
scope: duet
name: {name}
restapi: {{listen: '127.0.0.1:{rest_port}', connect_address: '127.0.0.1:{rest_port}'}}
etcd3: {{hosts: [{endpoints}], protocol: http}}
bootstrap:
  dcs:
    ttl: {TTL}
    loop_wait: 1
    retry_timeout: 5
    postgresql: {{use_pg_rewind: true, parameters: {{wal_log_hints: 'on', max_connections: 20}}}}
  initdb: [encoding: UTF8, data-checksums, {{auth: trust}}]
postgresql:
  listen: 127.0.0.1:{port}
  connect_address: 127.0.0.1:{port}
  data_dir: {dir}/data
  bin_dir: {programs}
  pgpass: {dir}/pgpass
  authentication:
    superuser: {{username: postgres, password: secret}}
    replication: {{username: replicator, password: secret}}
    rewind: {{username: rewinder, password: secret}}
  pg_hba: [local all all trust, host all all 127.0.0.1/32 trust, host replication all 127.0.0.1/32 trust]
  parameters: {{unix_socket_directories: {dir}, fsync: 'off', shared_buffers: 16MB}}
"
        );
        std::fs::write(directory.join("patroni.yml"), configuration).unwrap();
        let rest = format!("http://127.0.0.1:{rest_port}");
        Self { name, directory, port, rest, patroni: None }
    }

    fn start(&mut self) {
        let (mut path, mut args) = (PathBuf::from("patroni"), Vec::new());
        if let Some((user, group)) = to_become() {
            path = "setpriv".into();
            args = vec![format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".into()];
            args.push("patroni".into());
        }
        args.push(self.directory.join("patroni.yml").display().to_string());
        let program = process::Program {
            name: format!("patroni {}", self.name),
            path,
            args: args.into_iter().map(Into::into).collect(),
            env: vec![("HOME".into(), self.directory.clone().into())],
            log: self.directory.join("patroni.log"),
        };
        let launcher = Launcher::new(env!("CARGO_BIN_EXE_duet")).unwrap();
        self.patroni = Some(launcher.start(&program).unwrap());
    }

    /// Both die at once.
    fn kill(&mut self) {
        self.patroni = None;
        // Patroni gives its server a session of its own, so it does not die with it. At SIGQUIT it stops without writing anything.
        let postmaster =
            std::fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap_or_default();
        if let Some(pid) = postmaster.lines().next() {
            Command::new("kill").args(["-QUIT", pid]).stderr(Stdio::null()).status().ok();
        }
    }

    /// What the server answers to a statement.
    fn sql(&self, statement: &str) -> Result<String, String> {
        let mut command = Command::new("psql");
        command.env("PGPASSWORD", "secret").env("PGCONNECT_TIMEOUT", "5").args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
        ]);
        command.args(["-p", &self.port.to_string(), "-v", "ON_ERROR_STOP=1", "-Atqc", statement]);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// The rows that the test has written, as this server sees them.
    fn rows(&self) -> Vec<u32> {
        let rows = self.sql("select id from rows order by id").unwrap_or_default();
        rows.lines().map(|row| row.parse().unwrap()).collect()
    }

    /// What Patroni here says about everybody: name, role, state.
    async fn members(&self) -> Vec<(String, String, String)> {
        let Ok(answer) = duet::http::get(&self.rest, "/cluster", DEADLINE).await else { return Vec::new() };
        let cluster: Value = serde_json::from_slice(&answer).unwrap();
        let text = |member: &Value, field: &str| member[field].as_str().unwrap_or_default().to_owned();
        let members = cluster["members"].as_array().into_iter().flatten();
        members.map(|member| (text(member, "name"), text(member, "role"), text(member, "state"))).collect()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Two servers and the pair they agree by.
struct Site {
    pair: Pair,
    servers: [Postgres; 2],
    rows: u32,
    _directory: TempDir,
}

impl Site {
    /// `None`, with a word, where Patroni or PostgreSQL is missing.
    async fn start() -> Option<Self> {
        let is_there = Command::new("patroni").arg("--version").output().is_ok();
        let (true, Some(programs)) = (is_there, postgres_programs()) else {
            assert!(
                std::env::var_os("DUET_TEST_REQUIRE_CLIENTS").is_none(),
                "install Debian's packages patroni and postgresql"
            );
            println!("skipped: Debian's packages patroni and postgresql are not installed");
            return None;
        };
        let pair = Pair::start(Witness::Server).await;
        let urls = [A, B].map(|appliance| pair.client_url(appliance));
        let endpoints = urls.map(|url| url.trim_start_matches("http://").to_owned());
        let directory = TempDir::new().unwrap();
        let mut servers =
            ["one", "two"].map(|name| Postgres::new(name, directory.path(), &programs, &endpoints));
        if let Some((user, group)) = to_become() {
            for path in [directory.path()].into_iter().chain(servers.iter().map(|it| it.directory.as_path()))
            {
                chown(path, Some(user), Some(group)).unwrap();
            }
        }
        for server in &mut servers {
            server.start();
        }
        Some(Self { pair, servers, rows: 0, _directory: directory })
    }

    /// Waits until the one leads and the other follows it, and says so to both; which one leads.
    async fn until_led(&self, what: &str, wanted: impl Fn(usize) -> bool) -> usize {
        let began = Instant::now();
        loop {
            let seen = [self.servers[0].members().await, self.servers[1].members().await];
            let leader = (0..2).find(|&leader| {
                let expected = |name: &str, role: &str, states: &[&str]| {
                    seen.iter().all(|members| {
                        members
                            .iter()
                            .any(|it| it.0 == name && it.1 == role && states.contains(&it.2.as_str()))
                    })
                };
                wanted(leader)
                    && expected(self.servers[leader].name, "leader", &["running"])
                    && expected(self.servers[1 - leader].name, "replica", &["running", "streaming"])
            });
            if let Some(leader) = leader {
                return leader;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {seen:?}\n{}", self.diagnosis().await);
            tokio::time::sleep(POLL).await;
        }
    }

    /// The leader takes a row and the follower gets it.
    async fn writes(&mut self, leader: usize) {
        let row = self.rows;
        self.servers[leader].sql(&format!("insert into rows values ({row})")).unwrap();
        self.rows += 1;
        let began = Instant::now();
        while self.servers[1 - leader].rows().len() != self.rows as usize {
            assert!(began.elapsed() < PATIENCE, "row {row} does not come\n{}", self.diagnosis().await);
            tokio::time::sleep(POLL).await;
        }
        for server in &self.servers {
            assert_eq!(server.rows(), (0..self.rows).collect::<Vec<_>>(), "at {}", server.name);
        }
    }

    async fn diagnosis(&self) -> String {
        let log = |server: &Postgres| {
            let text = std::fs::read_to_string(server.directory.join("patroni.log")).unwrap_or_default();
            format!("--- end of {}'s log\n{}", server.name, process::last_lines(&text))
        };
        format!("{}\n{}\n{}", log(&self.servers[0]), log(&self.servers[1]), self.pair.diagnosis().await)
    }
}

#[test]
fn patroni_with_two_postgresql_servers() {
    crate::harness::run(async {
        let Some(mut site) = Site::start().await else { return };
        let leader = site.until_led("bootstrap", |_| true).await;
        site.servers[leader].sql("create table rows (id int primary key)").unwrap();
        site.writes(leader).await;

        // Beneath it the pair hands over, and then loses its primary: PostgreSQL keeps its roles.
        let timeline = "select timeline_id from pg_control_checkpoint()";
        let before = site.servers[leader].sql(timeline).unwrap();
        let primary = site.pair.until_any_primary().await;
        site.pair.order(primary, "switchover").await.unwrap();
        site.pair.until_primary(primary.peer()).await;
        site.writes(leader).await;
        site.pair.until_paired().await;
        site.pair.crash(primary.peer()).await;
        site.pair.until_primary(primary).await;
        site.writes(leader).await;
        site.pair.revive(primary.peer()).await;
        site.pair.until_paired().await;
        // Longer than the leader key lives without being renewed.
        tokio::time::sleep(Duration::from_secs(u64::from(TTL) + 2)).await;
        assert_eq!(
            site.until_led("after Duet's failover", |_| true).await,
            leader,
            "nothing happened to PostgreSQL"
        );
        assert_eq!(site.servers[leader].sql(timeline).unwrap(), before, "nobody was promoted");
        site.writes(leader).await;

        // A switchover of PostgreSQL.
        let names = site.servers.each_ref().map(|it| it.name);
        let order =
            format!("{{\"leader\": \"{}\", \"candidate\": \"{}\"}}", names[leader], names[1 - leader]);
        let said = Command::new("curl")
            .args(["-s", "-X", "POST", "-d", &order, &format!("{}/switchover", site.servers[leader].rest)])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("Successfully switched over"), "{said}\n{}", site.diagnosis().await);
        let leader = site.until_led("the switchover", |it| it == 1 - leader).await;
        site.writes(leader).await;

        // A failover of PostgreSQL: the leader key goes with its lease.
        site.servers[leader].kill();
        let began = Instant::now();
        while site.servers[1 - leader].sql("select pg_is_in_recovery()").as_deref() != Ok("f") {
            assert!(began.elapsed() < PATIENCE, "no failover\n{}", site.diagnosis().await);
            tokio::time::sleep(POLL).await;
        }
        site.servers[leader].start();
        let leader = site.until_led("the failover", |it| it == 1 - leader).await;
        site.writes(leader).await;
    });
}
