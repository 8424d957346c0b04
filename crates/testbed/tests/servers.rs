//! What tests and benchmarks rely on, tried with the real servers.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use testbed::{Kind, Lodging, Postgres, Redis, RedisCluster, Settings, is_alive, wait_until};

/// Far more than any of it takes.
const LIMIT: Duration = Duration::from_secs(30);

fn nothing_is_left(processes: &[u32], directory: &Path) {
    assert!(!processes.is_empty());
    let alive: Vec<&u32> = processes.iter().filter(|process| is_alive(**process)).collect();
    assert!(alive.is_empty(), "{alive:?} of {processes:?} are left");
    assert!(!directory.exists(), "{} is left", directory.display());
}

#[test]
fn postgres_starts_durable_and_answers() {
    let server = Postgres::start(&Settings::default()).unwrap();
    let durable = "select string_agg(name || '=' || setting, ' ' order by name) from pg_settings where name in \
                   ('fsync', 'synchronous_commit', 'full_page_writes', 'listen_addresses', 'max_connections')";
    assert_eq!(
        server.psql(durable).unwrap(),
        "fsync=on full_page_writes=on listen_addresses=127.0.0.1 max_connections=200 synchronous_commit=on"
    );
    let text = "select current_user, rolsuper, pg_encoding_to_char(encoding), datcollate from pg_database, pg_roles \
                where datname = current_database() and rolname = current_user";
    assert_eq!(server.psql(text).unwrap(), "statewright|t|UTF8|C");
}

#[test]
fn postgres_asks_for_the_password() {
    let server = Postgres::start(&Settings::default()).unwrap();
    let url = format!("postgres://statewright:wrong@127.0.0.1:{}/postgres", server.port());
    let output = Command::new("psql").args([&url, "-c", "select 1"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("password authentication failed"), "{errors}");
}

#[test]
fn postgres_killed_or_stopped_and_started_again_keeps_its_data() {
    let server = Postgres::start(&Settings::default()).unwrap();
    let url = server.url();
    server.psql("create table kept (id int); insert into kept values (1)").unwrap();
    server.kill().unwrap();
    server.psql("select 1").unwrap_err();
    server.start_again().unwrap();
    server.psql("insert into kept values (2)").unwrap();
    server.stop().unwrap();
    assert_eq!(server.processes(), []);
    server.start_again().unwrap();
    assert_eq!(server.psql("select string_agg(id::text, ' ' order by id) from kept").unwrap(), "1 2");
    assert_eq!(server.url(), url);
}

#[test]
fn postgres_dropped_leaves_no_process_and_no_directory() {
    let server = Postgres::start(&Settings::default()).unwrap();
    let (processes, directory) = (server.processes(), server.directory().to_path_buf());
    assert!(processes.len() > 1, "the postmaster has children");
    drop(server);
    nothing_is_left(&processes, &directory);
}

#[test]
fn paused_postgres_answers_when_it_goes_on() {
    let server = Postgres::start(&Settings::default()).unwrap();
    server.pause().unwrap();
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| server.psql("select 1"));
        assert!(!wait_until(Duration::from_millis(300), || answer.is_finished()));
        server.resume().unwrap();
        assert_eq!(answer.join().unwrap().unwrap(), "1");
    });
    // It is another process that makes checkpoints.
    server.psql("set statement_timeout = '10s'; checkpoint").unwrap();
}

#[test]
fn redis_starts_durable_and_answers() {
    let server = Redis::start(&Settings::default()).unwrap();
    let settings = ["appendonly", "appendfsync", "save", "maxmemory-policy", "protected-mode", "bind"];
    let told = settings.map(|name| server.ask(&["CONFIG", "GET", name]).unwrap().replace('\n', "="));
    assert_eq!(
        told,
        [
            "appendonly=yes",
            "appendfsync=always",
            "save=",
            "maxmemory-policy=noeviction",
            "protected-mode=yes",
            "bind=127.0.0.1"
        ]
    );
    assert_eq!(server.ask(&["PING"]).unwrap(), "PONG");
}

#[test]
fn settings_of_the_caller_win() {
    let redis = Redis::start(&Settings::default().with("appendfsync", "everysec")).unwrap();
    assert_eq!(redis.ask(&["CONFIG", "GET", "appendfsync"]).unwrap(), "appendfsync\neverysec");
    let postgres = Postgres::start(&Settings::default().with("max_connections", "20")).unwrap();
    assert_eq!(postgres.psql("show max_connections").unwrap(), "20");
}

#[test]
fn redis_killed_or_stopped_and_started_again_keeps_its_data() {
    let server = Redis::start(&Settings::default()).unwrap();
    let url = server.url();
    server.ask(&["SET", "a", "1"]).unwrap();
    server.kill().unwrap();
    server.ask(&["PING"]).unwrap_err();
    server.start_again().unwrap();
    server.ask(&["SET", "b", "2"]).unwrap();
    server.stop().unwrap();
    assert_eq!(server.processes(), []);
    server.start_again().unwrap();
    assert_eq!(server.ask(&["MGET", "a", "b"]).unwrap(), "1\n2");
    assert_eq!(server.url(), url);
}

#[test]
fn redis_dropped_leaves_no_process_and_no_directory() {
    let server = Redis::start(&Settings::default()).unwrap();
    let (processes, directory) = (server.processes(), server.directory().to_path_buf());
    drop(server);
    nothing_is_left(&processes, &directory);
}

#[test]
fn paused_redis_answers_when_it_goes_on() {
    let server = Redis::start(&Settings::default()).unwrap();
    server.pause().unwrap();
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| server.ask(&["PING"]));
        assert!(!wait_until(Duration::from_millis(300), || answer.is_finished()));
        server.resume().unwrap();
        assert_eq!(answer.join().unwrap().unwrap(), "PONG");
    });
}

/// Sets a key on whichever node has its slot.
fn set(cluster: &RedisCluster, key: &str) -> bool {
    cluster.nodes().iter().any(|node| node.ask(&["SET", key, "1"]).is_ok())
}

fn get(cluster: &RedisCluster, key: &str) -> Option<String> {
    cluster.nodes().iter().find_map(|node| node.ask(&["GET", key]).ok())
}

#[test]
fn cluster_starts_with_three_masters_and_a_killed_node_comes_back_with_its_data() {
    let cluster = RedisCluster::start(&Settings::default()).unwrap();
    assert_eq!(cluster.masters(), [0, 1, 2]);
    assert!(cluster.url().starts_with("redis+cluster://127.0.0.1:"), "{}", cluster.url());
    assert_eq!(cluster.url().split(',').count(), 3);
    // One on each node, by their slots: 15495, 3300 and 7365.
    let keys = ["a", "b", "c"];
    for key in keys {
        assert!(set(&cluster, key), "{key}");
    }
    for node in cluster.nodes() {
        assert_eq!(node.ask(&["DBSIZE"]).unwrap(), "1");
    }
    cluster.kill(1).unwrap();
    assert_eq!(cluster.masters(), [0, 2]);
    cluster.start_again(1).unwrap();
    cluster.wait_until_ok().unwrap();
    for key in keys {
        assert_eq!(get(&cluster, key).as_deref(), Some("1"), "{key}");
    }
    assert!(cluster.kill(3).is_err(), "there is no fourth node");
}

#[test]
fn replica_takes_over_from_a_killed_master() {
    let cluster = RedisCluster::start_with_replicas(&Settings::default()).unwrap();
    assert_eq!(cluster.masters(), [0, 1, 2]);
    cluster.kill(0).unwrap();
    assert!(wait_until(LIMIT, || cluster.masters() == [1, 2, 3]), "{:?}", cluster.masters());
    cluster.wait_until_ok().unwrap();
}

#[test]
fn cluster_dropped_leaves_no_process_and_no_directory() {
    let cluster = RedisCluster::start(&Settings::default()).unwrap();
    let left: Vec<(Vec<u32>, PathBuf)> =
        cluster.nodes().iter().map(|node| (node.processes(), node.directory().to_path_buf())).collect();
    drop(cluster);
    for (processes, directory) in left {
        nothing_is_left(&processes, &directory);
    }
}

/// Set in the process that is killed.
const VICTIM: &str = "TESTBED_TEST_VICTIM";

#[test]
fn servers_of_a_killed_process_end_and_their_directories_go() {
    if std::env::var_os(VICTIM).is_some() {
        let servers = (Postgres::start(&Settings::default()), Redis::start(&Settings::default()));
        let (postgres, redis) = (servers.0.unwrap(), servers.1.unwrap());
        // The worst case: a paused server hears no orderly signal.
        postgres.pause().unwrap();
        redis.pause().unwrap();
        for (processes, directory) in
            [(postgres.processes(), postgres.directory()), (redis.processes(), redis.directory())]
        {
            let processes: Vec<String> = processes.iter().map(u32::to_string).collect();
            println!("\nserver {} {}", directory.display(), processes.join(" "));
        }
        std::io::stdout().flush().unwrap();
        loop {
            std::thread::park();
        }
    }
    let name = "servers_of_a_killed_process_end_and_their_directories_go";
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines().map(Result::unwrap);
    let told: Vec<String> = lines.filter(|line| line.starts_with("server ")).take(2).collect();
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert_eq!(told.len(), 2);
    for line in told {
        let mut words = line.split(' ').skip(1);
        let directory = PathBuf::from(words.next().unwrap());
        let processes: Vec<u32> = words.map(|process| process.parse().unwrap()).collect();
        wait_until(LIMIT, || !directory.exists());
        nothing_is_left(&processes, &directory);
    }
}

#[test]
fn second_start_of_a_running_server_is_refused() {
    let server = Redis::start(&Settings::default()).unwrap();
    assert_eq!(server.start_again().unwrap_err().to_string(), "Redis runs already");
}

#[test]
fn server_that_does_not_start_says_why() {
    let error = Redis::start(&Settings::default().with("no-such-setting", "1")).unwrap_err().to_string();
    assert!(error.starts_with("Redis: ended while it started"), "{error}");
    assert!(error.contains("no-such-setting"), "{error}");
    let error = Postgres::start(&Settings::default().with("no_such_setting", "1")).unwrap_err().to_string();
    assert!(error.contains("no_such_setting"), "{error}");
}

#[test]
fn lodgings_of_one_server_do_not_know_of_each_other() {
    let server = Postgres::start(&Settings::default()).unwrap();
    let (one, other) =
        (Lodging::on(Kind::Postgres, &server.url()), Lodging::on(Kind::Postgres, &server.url()));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_ne!(one.url(), other.url());
    let databases = || server.psql("SELECT count(*) FROM pg_database WHERE datname LIKE 'lodging%'").unwrap();
    assert_eq!(databases(), "2");
    drop((one, other));
    assert_eq!(databases(), "0");
    let keys = Lodging::on(Kind::Redis, "redis://127.0.0.1:1?connections=2").unwrap();
    let (before, prefix) = keys.url().rsplit_once("&prefix=").unwrap();
    assert_eq!(before, "redis://127.0.0.1:1?connections=2");
    assert!(!prefix.is_empty());
}
