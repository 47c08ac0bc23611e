//! The header of each Lua file says what the script does, and this fails when one of them does not say the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use usher::engine::redis::scripts::{self, Script, ScriptError, WhenFull};

/// What a header says.
struct Header {
    name: String,
    keys: Vec<String>,
    /// Arguments by their number; the last may stand for all that follow.
    arguments: usize,
    open_ended: bool,
    errors: BTreeSet<i64>,
    when_full: WhenFull,
    body: String,
}

/// Reads `-- 1 name …` under a heading such as `-- KEYS`.
fn section<'a>(lines: &[&'a str], heading: &str) -> Vec<&'a str> {
    let start = lines.iter().position(|line| *line == format!("-- {heading}"));
    let start = start.unwrap_or_else(|| panic!("no {heading} in the header"));
    let entries = lines[start + 1..].iter().take_while(|line| line.starts_with("--   "));
    entries.map(|line| line[5..].trim()).collect()
}

fn header(source: &str) -> Header {
    let lines: Vec<&str> = source.lines().take_while(|line| line.starts_with("--")).collect();
    let (name, what) = lines[0][3..].split_once(": ").expect("a first line of the form `-- name: what it does`");
    assert!(what.len() > 10, "{name}: says what it does");
    assert!(!section(&lines, "REPLY").is_empty(), "{name}: says what it replies");

    let mut keys = Vec::new();
    for (i, entry) in section(&lines, "KEYS").into_iter().enumerate() {
        let (number, key) = entry.split_once(' ').expect("a number and a name");
        assert_eq!(number, (i + 1).to_string(), "{name}: keys are counted");
        keys.push(key.to_owned());
    }
    let (mut arguments, mut open_ended) = (0, false);
    for entry in section(&lines, "ARGV") {
        if entry == "none" {
            continue;
        }
        let number = entry.split_once(' ').expect("a number and a name").0;
        assert!(!open_ended, "{name}: nothing follows an open end");
        open_ended = number.ends_with("..");
        arguments += 1;
        assert_eq!(number.trim_end_matches('.'), arguments.to_string(), "{name}: arguments are counted");
    }
    let errors = section(&lines, "ERRORS").into_iter().filter(|entry| *entry != "none");
    let errors =
        errors.map(|entry| entry.split(' ').next().and_then(|code| code.parse().ok()).expect("a code")).collect();
    let when_full = section(&lines, "WHEN FULL")[0].split_once(": ").map_or("reads", |(what, _why)| what);
    let when_full = match when_full {
        "reads" => WhenFull::Reads,
        "runs" => WhenFull::Runs,
        "tries" => WhenFull::Tries,
        "refused" => WhenFull::Refused,
        other => panic!("{name}: {other} is not what can become of a script"),
    };
    let body = source.lines().skip(lines.len()).map(without_comment).collect::<Vec<_>>().join("\n");
    Header { name: name.to_owned(), keys, arguments, open_ended, errors, when_full, body }
}

fn without_comment(line: &str) -> &str {
    line.split("--").next().unwrap_or(line)
}

/// The numbers `n` in `name[n]`.
fn indices(body: &str, name: &str) -> BTreeSet<usize> {
    let opening = format!("{name}[");
    let after = body.split(&opening).skip(1);
    after.filter_map(|rest| rest.split(']').next().and_then(|index| index.parse().ok())).collect()
}

/// The second arguments of all `redis.call`s, with the command.
fn calls(body: &str) -> Vec<(&str, &str)> {
    let after = body.split("redis.call(").skip(1);
    let parts = after.map(|rest| {
        let end = rest.find([')', '\n']).unwrap_or(rest.len());
        let mut arguments = rest[..end].split(',').map(str::trim);
        (arguments.next().unwrap_or(""), arguments.next().unwrap_or(""))
    });
    parts.collect()
}

fn check(script: &Script) {
    let name = script.name;
    let header = header(script.source);
    assert_eq!(header.name, name, "the header names its file");
    assert_eq!(header.keys, script.keys.iter().map(|key| key.name).collect::<Vec<_>>(), "{name}: keys as registered");
    let keys: BTreeSet<_> = (1..=header.keys.len()).collect();
    assert_eq!(indices(&header.body, "KEYS"), keys, "{name}: uses the keys it declares, all of them");

    let arguments = indices(&header.body, "ARGV");
    let fixed = header.arguments - usize::from(header.open_ended);
    assert_eq!(arguments, (1..=fixed).collect(), "{name}: uses the arguments it declares, all of them");
    let whole_list = ["#ARGV", "unpack(ARGV", "ARGV[at]", "ARGV[i"].iter().any(|form| header.body.contains(form));
    assert_eq!(whole_list, header.open_ended, "{name}: goes through the rest of the arguments if it declares one");

    let mut errors = BTreeSet::new();
    for (word, code) in [("UNKNOWN_EVENT", -1), ("BAD_ARGUMENTS", -2)] {
        if header.body.contains(word) {
            errors.insert(code);
        }
    }
    assert_eq!(header.errors, errors, "{name}: errors");
    assert!(errors.iter().all(|code| ScriptError::from_code(*code).is_some()), "{name}: every error is in the enum");

    assert_eq!(header.when_full, script.when_full, "{name}: when the store is full");
    let changes_nothing = script.source.contains(" Changes nothing.");
    assert_eq!(
        changes_nothing,
        script.when_full == WhenFull::Reads,
        "{name}: Redis sees to it that it changes nothing"
    );

    no_key_is_made_up(name, &header.body);
    assert!(script.source.lines().count() <= 100, "{name}: more than 100 lines");
    assert!(script.source.lines().all(|line| line.len() <= 120), "{name}: a line of more than 120 characters");
}

/// Every key of a call is `KEYS[n]` or a name that stands for one: a local taken from KEYS, or the parameter of a helper.
fn no_key_is_made_up(name: &str, body: &str) {
    let mut known = BTreeSet::from(["key", "joins", "line", "parked", "active", "feed"].map(String::from)); // parameters of the libs and of helpers
    if name != "lib" {
        known.remove("line");
        known.remove("feed");
        known.remove("joins");
        known.remove("active");
        known.remove("parked");
    }
    for line in body.lines() {
        let Some((left, right)) = line.trim().strip_prefix("local ").and_then(|rest| rest.split_once(" = ")) else {
            continue;
        };
        for (variable, value) in left.split(", ").zip(right.split(", ")) {
            if value.starts_with("KEYS[") {
                known.insert(variable.to_owned());
            }
        }
    }
    for (command, key) in calls(body) {
        let keyless = command == "'TIME'";
        let handed = key.starts_with("KEYS[") || known.contains(key);
        assert!(keyless || handed, "{name}: redis.call({command}, {key} …) on a key that is not in KEYS");
    }
    assert!(!body.contains(":2:{"), "{name}: a key is made up");
    let whole = body.split("KEYS").skip(1).all(|rest| rest.starts_with('['));
    assert!(whole, "{name}: KEYS is used by number only, so that this test can see it");
}

#[test]
fn every_header_tells_the_truth() {
    for script in scripts::ALL {
        check(script);
    }
}

#[test]
fn the_shared_part_touches_only_what_it_is_handed() {
    for (name, text) in scripts::LIBS {
        assert!(text.starts_with(&format!("-- {name}: ")));
        assert!(text.lines().count() <= 100 && text.lines().all(|line| line.len() <= 120));
        let body = text.lines().map(without_comment).collect::<Vec<_>>().join("\n");
        assert!(!body.contains("KEYS") && !body.contains("ARGV"));
        no_key_is_made_up("lib", &body);
    }
}

#[test]
fn every_file_is_registered_and_every_script_has_a_file() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("lua");
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("the directory") {
        let path = entry.expect("an entry").path();
        assert_eq!(path.extension().and_then(|e| e.to_str()), Some("lua"), "{}", path.display());
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        files.insert(name, std::fs::read_to_string(&path).expect("the text"));
    }
    let mut expected: BTreeMap<_, _> = scripts::ALL.iter().map(|s| (s.name.to_owned(), s.source.to_owned())).collect();
    expected.extend(scripts::LIBS.map(|(name, text)| (name.to_owned(), text.to_owned())));
    assert_eq!(files, expected);
}

#[test]
fn the_checks_see_what_they_should() {
    assert_eq!(indices("KEYS[1] + KEYS[3]", "KEYS"), BTreeSet::from([1, 3]));
    assert_eq!(calls("redis.call('GET', 'a:b') redis.call('TIME')"), [("'GET'", "'a:b'"), ("'TIME'", "")]);
    let caught = std::panic::catch_unwind(|| no_key_is_made_up("x", "redis.call('GET', 'usher:line')"));
    assert!(caught.is_err(), "a key that is made up is caught");
}
