use std::path::PathBuf;
use std::time::Duration;

use super::*;

const KEY_A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const KEY_B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const KEY_C: &str = "cccccccccccccccccccccccccccccccc";

/// A file in a directory of its own.
struct TempFile(PathBuf);

impl TempFile {
    fn new(text: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("usher-config-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).expect("a directory");
        std::fs::write(dir.join("usher.toml"), text).expect("a file");
        Self(dir.join("usher.toml"))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Some(dir) = self.0.parent() {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

fn command_line(args: &[&str], env: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let command = clap::Command::new("usher").args(flags()).subcommand(clap::Command::new("serve"));
    let matches = command.try_get_matches_from([&["usher"], args].concat()).expect("a command line");
    load(&matches, env.iter().copied())
}

fn refused(args: &[&str], env: &[(&str, &str)]) -> String {
    command_line(args, env).expect_err("refused").to_string()
}

fn source(loaded: &Loaded, key: &str) -> (String, Source) {
    let origin = loaded.origins.iter().find(|o| o.key == key).expect("every key is reported");
    (origin.shown.clone(), origin.source.clone())
}

#[test]
fn a_flag_comes_before_a_variable_and_a_variable_before_the_file() {
    let file = TempFile::new("listen = '127.0.0.1:1'\nworkers = 1\nmax_streams = 1\ncookie_secure = true\n");
    let env = [("USHER_CONFIG", file.path()), ("USHER_LISTEN", "127.0.0.1:2"), ("USHER_WORKERS", "2"), ("HOME", "/")];
    for args in [&["--listen", "127.0.0.1:3"][..], &["serve", "--listen", "127.0.0.1:3"]] {
        let loaded = command_line(args, &env).expect("legal");
        assert_eq!(loaded.settings.http.listen.port(), 3);
        assert_eq!((loaded.settings.http.workers, loaded.settings.http.max_streams), (2, 1));
        assert!(loaded.settings.http.cookie_secure);
        assert_eq!(source(&loaded, "listen"), ("127.0.0.1:3".to_owned(), Source::Flag));
        assert_eq!(source(&loaded, "workers"), ("2".to_owned(), Source::Environment));
        assert_eq!(source(&loaded, "max_streams"), ("1".to_owned(), Source::File(file.0.clone())));
        assert_eq!(source(&loaded, "pass_issuer"), ("usher".to_owned(), Source::Default));
        assert_eq!(loaded.origins.len(), table::all().count());
    }
}

#[test]
fn the_file_is_that_of_the_flag_when_both_name_one() {
    let (one, other) = (TempFile::new("workers = 1"), TempFile::new("workers = 2"));
    let loaded = command_line(&["--config", one.path()], &[("USHER_CONFIG", other.path())]).expect("legal");
    assert_eq!(loaded.settings.http.workers, 1);
}

#[test]
fn defaults_are_those_of_the_reference() {
    let settings = from_pairs(&[]).expect("legal");
    assert_eq!(settings.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.data_dir, PathBuf::from("./usher-data"));
    assert_eq!(settings.release_interval, Duration::from_millis(100));
    assert_eq!(settings.limits.visitor, Some(Rate { per_second: 50, burst: 100 }));
    assert_eq!(settings.limits.address, None);
    assert!(settings.redis.is_none() && settings.database.is_none() && !settings.auth.required);
    assert_eq!(settings.log, LogSettings { filter: "info".to_owned(), format: LogFormat::Auto });
    assert_eq!((settings.http.max_connections, settings.http.max_pending), (25_000, 8_192));
}

#[test]
fn every_setting_of_the_table_reaches_the_typed_settings() {
    let sample = |setting: &table::Setting| match setting.kind {
        Kind::Listen => "127.0.0.1:9".to_owned(),
        Kind::Integer(_, most) => most.to_string(),
        Kind::Bool => "true".to_owned(),
        Kind::Choice(words) => words[words.len() - 1].to_owned(),
        Kind::Text | Kind::Word | Kind::Path => format!("x-{}", setting.key),
        Kind::Url(schemes) | Kind::Urls(schemes) => format!("{}sample/{}", schemes[0], setting.key),
        Kind::Key(least) | Kind::Token(least) => setting.key.chars().cycle().take(least.max(40)).collect(),
        Kind::Header => "X-Sample".to_owned(),
        Kind::Networks => "203.0.113.0/24".to_owned(),
        Kind::Origins => "https://sample.example".to_owned(),
        Kind::Filter => "trace".to_owned(),
    };
    // What takes effect only together with another setting, and what excludes another.
    let base = |key: &str| -> Vec<(&str, String)> {
        let shared = vec![
            ("redis_url", "redis://h".to_owned()),
            ("database_url", "postgres://h/d".to_owned()),
            ("ticket_secret", KEY_A.to_owned()),
            ("pass_secret", KEY_B.to_owned()),
            ("admin_token", KEY_C.to_owned()),
            ("auth_jwt_secret", "d".repeat(32)),
            ("rate_limit_per_visitor", "7".to_owned()),
            ("rate_limit_per_address", "7".to_owned()),
        ];
        let without = match key {
            "pass_private_key" => "pass_secret",
            "auth_public_key" => "auth_jwt_secret",
            other => other,
        };
        shared.into_iter().filter(|(k, _)| *k != without && *k != key).collect()
    };
    let read = |pairs: &[(&str, String)]| {
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (*k, v.as_str())).collect();
        from_pairs(&pairs)
    };
    for setting in table::all() {
        let before = base(setting.key);
        let mut after = before.clone();
        after.push((setting.key, sample(setting)));
        let after = read(&after).unwrap_or_else(|e| panic!("{}: {e}", setting.key));
        // A setting that is needed here cannot be left out to compare with: that it is asked for shows that it is read.
        if let Ok(before) = read(&before) {
            assert_ne!(format!("{before:?}"), format!("{after:?}"), "{} changes nothing", setting.key);
        }
    }
}

#[test]
fn unknown_names_are_refused_and_a_near_one_suggested() {
    let file = TempFile::new("lissten = '127.0.0.1:1'\n[redis]\nurl = 'redis://h'\n");
    let says = refused(&["--config", file.path()], &[("USHER_DATABSE_URL", "x"), ("USHER_COLOUR", "red")]);
    for part in
        ["lissten in", "did you mean listen?", "redis in", "USHER_DATABSE_URL", "USHER_DATABASE_URL?", "USHER_COLOUR"]
    {
        assert!(says.contains(part), "{part} in {says}");
    }
    assert!(refused(&[], &[("USHER_PORT", "8080")]).contains("USHER_LISTEN"));
}

#[test]
fn injected_and_empty_variables_are_passed_over() {
    let env = [
        ("USHER_SERVICE_HOST", "10.0.0.1"),
        ("USHER_PORT", "tcp://10.0.0.1:80"),
        ("USHER_TEST_SOMETHING", "1"),
        ("USHER_BENCH_ROUNDS", "1"),
        ("USHER_LISTEN", ""),
        ("USHER_CONFIG", ""),
        ("USHER_WORKERS", " "),
        ("usher_colour", "red"),
    ];
    let loaded = command_line(&[], &env).expect("legal");
    assert_eq!(source(&loaded, "listen").1, Source::Default);
}

#[test]
fn a_bad_value_is_named_with_its_place_and_its_value() {
    let file = TempFile::new("max_streams = -1\nworkers = 1.5\n");
    let env = [("USHER_CONFIG", file.path()), ("USHER_RELEASE_INTERVAL_MS", "5000"), ("USHER_LOG_LEVEL", "inof")];
    let says = refused(&["--listen", "nowhere", "--redis-pool-size", "-4"], &env);
    for part in [
        "--listen must be",
        "\"nowhere\"",
        "--redis-pool-size must be a whole number from 1 to 1000, not \"-4\"",
        "USHER_RELEASE_INTERVAL_MS must be a whole number from 20 to 1000, not \"5000\"",
        "USHER_LOG_LEVEL must be",
        "max_streams in",
        "workers in",
    ] {
        assert!(says.contains(part), "{part} in {says}");
    }
}

#[test]
fn a_secret_is_in_no_message_and_no_report() {
    let short = "hunter2";
    for key in ["USHER_TICKET_SECRET", "USHER_PASS_SECRET", "USHER_AUTH_JWT_SECRET", "USHER_ADMIN_TOKEN"] {
        let says = refused(&[], &[(key, short)]);
        assert!(says.contains(key) && !says.contains(short), "{says}");
    }
    let says = refused(&[], &[("USHER_DATABASE_URL", "mysql://app:hunter2@host/db")]);
    assert!(says.contains("mysql://app:***@host/db") && !says.contains(short), "{says}");
    let broken = TempFile::new("ticket_secret = 'hunter2\n");
    let says = refused(&["--config", broken.path()], &[]);
    assert!(says.contains("line 1") && !says.contains(short), "{says}");

    let env = [
        ("USHER_REDIS_URL", "redis://:hunter2@host/0"),
        ("USHER_DATABASE_URL", "postgres://app:hunter2@host/db"),
        ("USHER_TICKET_SECRET", KEY_A),
        ("USHER_PASS_SECRET", KEY_B),
        ("USHER_ADMIN_TOKEN", KEY_C),
    ];
    let loaded = command_line(&[], &env).expect("legal");
    let report = loaded.origins.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let debug = format!("{loaded:?}");
    for secret in [short, KEY_A, KEY_B, KEY_C] {
        assert!(!report.contains(secret) && !debug.contains(secret), "{secret}");
    }
    assert!(report.contains("redis_url = redis://:***@host/0 (environment)"), "{report}");
    assert!(report.contains("ticket_secret = *** (environment)"), "{report}");
}

#[test]
fn scaled_out_every_missing_shared_setting_is_named_at_once() {
    let says = refused(&[], &[("USHER_REDIS_URL", "redis://h")]);
    for key in ["database_url", "ticket_secret", "pass_private_key or pass_secret", "admin_token"] {
        assert!(says.contains(key), "{key} in {says}");
    }
    let env = [
        ("USHER_REDIS_URL", "redis://h"),
        ("USHER_DATABASE_URL", "postgres://h/d"),
        ("USHER_TICKET_SECRET", KEY_A),
        ("USHER_PASS_PRIVATE_KEY", "/keys/pass.pem"),
        ("USHER_ADMIN_TOKEN", KEY_C),
    ];
    assert!(command_line(&[], &env).is_ok());
    let says = refused(&[], &env[..4]);
    assert!(says.ends_with("not set: admin_token"), "{says}");
}

#[test]
fn rules_between_settings() {
    for (pairs, says) in [
        (&[("auth", "required")][..], "auth_jwt_secret, auth_public_key or auth_trusted_header"),
        (&[("auth_jwt_secret", KEY_A), ("auth_public_key", "k.pem")], "auth_public_key and auth_jwt_secret"),
        (&[("pass_secret", KEY_A), ("pass_private_key", "k.pem")], "pass_private_key and pass_secret"),
        (&[("pass_secret", KEY_A), ("ticket_secret", KEY_A)], "are the same"),
        (&[("auth_issuer", "me")], "auth_issuer"),
        (&[("listen", "")], "listen must be"),
        (&[("redis_url", "redis://a,redis://b")], "redis_mode"),
        (&[("nonsense", "1")], "--nonsense is not a setting"),
    ] {
        let error = from_pairs(pairs).expect_err(says).to_string();
        assert!(error.contains(says), "{says} in {error}");
    }
}

#[test]
fn sentinels_and_nodes_of_a_cluster_are_listed_in_one_setting() {
    let stores = [
        ("database_url", "postgres://h/d"),
        ("ticket_secret", KEY_A),
        ("pass_secret", KEY_B),
        ("admin_token", KEY_C),
        ("redis_url", "redis://:hunter2@a:26379/3, redis://b:26379"),
    ];
    let redis = |more: &[(&str, &str)]| from_pairs(&[&stores, more].concat()).expect("legal").redis.expect("Redis");
    let sentinels = redis(&[("redis_mode", "Sentinel"), ("redis_sentinel_password", "swordfish")]);
    assert_eq!(sentinels.url.expose(), "redis://:hunter2@a:26379/3");
    assert_eq!(sentinels.others.iter().map(Secret::expose).collect::<Vec<_>>(), ["redis://b:26379"]);
    assert_eq!((sentinels.mode, sentinels.sentinel_master.as_str()), (RedisMode::Sentinel, "mymaster"));
    assert_eq!(redis(&[("redis_mode", "cluster")]).mode, RedisMode::Cluster);
    let shown = format!("{sentinels:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("swordfish"), "{shown}");
}

#[test]
fn visitors_must_be_known_as_soon_as_there_is_a_way_to_know_them() {
    for (pairs, required) in [
        (&[][..], false),
        (&[("auth_jwt_secret", KEY_A)], true),
        (&[("auth_trusted_header", "X-User-ID")], true),
        (&[("auth_jwt_secret", KEY_A), ("auth", "Optional")], false),
    ] {
        assert_eq!(from_pairs(pairs).expect("legal").auth.required, required, "{pairs:?}");
    }
    let loaded = command_line(&[], &[("USHER_AUTH_JWT_SECRET", KEY_A)]).expect("legal");
    assert_eq!(source(&loaded, "auth"), ("required".to_owned(), Source::Default));
}

#[test]
fn what_is_risky_is_said() {
    let warned = |args: &[&str], text: &str| {
        let loaded = command_line(args, &[]).expect("legal");
        assert!(loaded.warnings.iter().any(|w| w.contains(text)), "{text} in {:?}", loaded.warnings);
    };
    warned(&["--auth-trusted-header", "X-User-ID"], "auth_trusted_header is ON");
    warned(&[], "anonymous visitors");
    warned(&["--rate-limit-per-address", "5"], "trusted_proxies is not");
    warned(&["--trusted-proxies", "0.0.0.0/0"], "every address");
    warned(&["--database-url", "postgres://h/d"], "one instance only");
    warned(&["--ticket-secret", KEY_A], "USHER_TICKET_SECRET");
    warned(&["--max-streams", "25000"], "max_connections");
    let quiet = [("USHER_AUTH_JWT_SECRET", KEY_A)];
    assert_eq!(command_line(&[], &quiet).expect("legal").warnings, Vec::<String>::new());
}

#[test]
fn lists_and_switches_are_read_from_every_source() {
    let file = TempFile::new("trusted_proxies = ['10.0.0.0/8', '::1']\n");
    let loaded = command_line(&["--config", file.path(), "--cookie-secure"], &[]).expect("legal");
    assert_eq!(loaded.settings.http.trusted_proxies.len(), 2);
    assert!(loaded.settings.http.trusts("10.1.2.3".parse().expect("an address")));
    assert!(loaded.settings.http.cookie_secure);
    let env = [("USHER_TRUSTED_PROXIES", "10.0.0.0/8, ::1"), ("USHER_COOKIE_SECURE", "true")];
    let loaded = command_line(&["--cookie-secure=false"], &env).expect("legal");
    assert_eq!(loaded.settings.http.trusted_proxies.len(), 2);
    assert!(!loaded.settings.http.cookie_secure);
    assert_eq!(command_line(&["--log-level", "WARN"], &[]).expect("legal").settings.log.filter, "warn");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    assert!(refused(&["--config", "/nowhere/usher.toml"], &[]).contains("/nowhere/usher.toml"));
}

proptest::proptest! {
    #![proptest_config(crate::hostile::config("settings"))]

    /// Whatever a setting is said to be: it is taken or refused by name, and a secret is never repeated.
    #[test]
    fn any_text_is_taken_or_refused_by_name(
        at in 0..200_usize, text in "\\PC{0,40}|[ -~]{0,40}|[0-9]{1,30}|[0-9.:/,]{0,20}|https?://[a-z:/]{0,9}|[a-z]+=[a-z]{1,5}|.{200,300}|[a-z]{32,40}",
    ) {
        let all: Vec<_> = table::all().collect();
        let setting = all[at % all.len()];
        let checked = setting.kind.check(&text);
        let shown = setting.kind.show(&text);
        if setting.kind.is_secret() {
            proptest::prop_assert_eq!(&shown, MASK);
        }
        let read = from_pairs(&[(setting.key, &text)]);
        // White space around a value means nothing, and an empty one is none.
        if checked.is_err() && setting.kind.check(text.trim()).is_err() && !text.trim().is_empty() {
            let said = read.expect_err("refused").to_string();
            proptest::prop_assert!(said.contains(&setting.key.replace('_', "-")), "{}", said);
            if setting.kind.is_secret() && text.len() > 8 {
                proptest::prop_assert!(!said.contains(&text), "{}", said);
            }
        }
    }
}
