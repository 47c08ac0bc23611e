//! Where the keys come from: the settings, or files in the data directory that are made on first start.

use std::path::Path;

use aws_lc_rs::rand;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::admission::PassKey;
use super::error::KeyError;
use super::files::{private_dir, read_or_make};
use super::identity::VisitorKey;
use super::operator::AdminToken;
use super::ticket::TicketKey;
use crate::config::{Secret, Settings};

/// The generated key of tickets, in the data directory.
const TICKET_FILE: &str = "ticket.key";
/// The generated key of passes, in the data directory; a PKCS#8 PEM.
const PASS_FILE: &str = "pass.pem";
/// What a generated secret has, in bytes.
const SECRET_LEN: usize = 32;

/// Every key of the service.
#[derive(Debug)]
pub struct Keys {
    /// The key of queue tickets.
    pub tickets: TicketKey,
    /// The key of passes.
    pub passes: PassKey,
    /// The keys of user tokens; `None` where none are configured.
    pub visitors: Option<VisitorKey>,
    /// The operators' token.
    pub admin: AdminToken,
    /// The operators' token when it was made just now: to be shown once, and never again.
    pub generated_admin_token: Option<Secret>,
}

impl Keys {
    /// Reads the keys that the settings name; makes and keeps those that they do not.
    ///
    /// # Errors
    /// [`KeyError`], with the file where there is one. A file that is there but holds no key is never replaced.
    pub fn open(settings: &Settings) -> Result<Self, KeyError> {
        let generated = if settings.admin_token.is_none() { Some(random_token()?) } else { None };
        let admin_token = settings.admin_token.as_ref().or(generated.as_ref()).ok_or(KeyError::Generating)?;
        Ok(Self {
            tickets: ticket_key(settings)?,
            passes: pass_key(settings)?,
            visitors: VisitorKey::open(&settings.auth)?,
            admin: AdminToken::new(admin_token),
            generated_admin_token: generated,
        })
    }
}

fn ticket_key(settings: &Settings) -> Result<TicketKey, KeyError> {
    if let Some(secret) = &settings.ticket_secret {
        return Ok(TicketKey::new(secret.expose_bytes()));
    }
    let content = kept(&settings.data_dir, TICKET_FILE, || {
        let mut text = random_token()?.expose().to_owned();
        text.push('\n');
        Ok(text.into_bytes())
    })?;
    let secret = URL_SAFE_NO_PAD.decode(content.trim_ascii()).unwrap_or_default();
    if secret.len() < SECRET_LEN {
        return Err(KeyError::Format("32 bytes in base64url").of(&settings.data_dir.join(TICKET_FILE)));
    }
    Ok(TicketKey::new(&secret))
}

fn pass_key(settings: &Settings) -> Result<PassKey, KeyError> {
    let issuer = &settings.pass.issuer;
    if let Some(path) = &settings.pass.private_key {
        let pem = std::fs::read(path).map_err(|error| KeyError::from(error).of(path))?;
        return PassKey::from_pem(&pem, issuer).map_err(|error| error.of(path));
    }
    if let Some(secret) = &settings.pass.secret {
        return Ok(PassKey::from_secret(secret.expose_bytes(), issuer));
    }
    let pem = kept(&settings.data_dir, PASS_FILE, new_pass_pem)?;
    PassKey::from_pem(&pem, issuer).map_err(|error| error.of(&settings.data_dir.join(PASS_FILE)))
}

fn kept(dir: &Path, name: &str, make: impl FnOnce() -> Result<Vec<u8>, KeyError>) -> Result<Vec<u8>, KeyError> {
    private_dir(dir).map_err(|error| KeyError::from(error).of(dir))?;
    let path = dir.join(name);
    read_or_make(&path, make).map_err(|error| error.of(&path))
}

/// 32 random bytes as text.
fn random_token() -> Result<Secret, KeyError> {
    let mut bytes = [0; SECRET_LEN];
    rand::fill(&mut bytes).map_err(|_| KeyError::Generating)?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

/// A new Ed25519 key as PKCS#8 PEM. Version 1 of the format: the one that other tools write and read.
fn new_pass_pem() -> Result<Vec<u8>, KeyError> {
    let der = Ed25519KeyPair::generate().and_then(|pair| pair.to_pkcs8v1()).map_err(|_| KeyError::Generating)?;
    Ok(pem("PRIVATE KEY", der.as_ref()).into_bytes())
}

/// DER as PEM (RFC 7468): base64 in lines of 64.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut body = STANDARD.encode(der);
    while body.len() > 64 {
        let rest = body.split_off(64);
        text.push_str(&body);
        text.push('\n');
        body = rest;
    }
    text.push_str(&body);
    text + &format!("\n-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use std::path::PathBuf;

    use super::*;
    use crate::config::from_pairs;
    use crate::domain::{EventId, Timestamp, VisitorId};
    use crate::engine::Admission;
    use crate::pass::Ticket;

    /// A data directory that is not there yet, removed at the end.
    struct DataDir(PathBuf);

    impl DataDir {
        fn new() -> Self {
            Self(std::env::temp_dir().join(format!("usher-keys-{}", uuid::Uuid::new_v4())))
        }

        fn open(&self, pairs: &[(&str, &str)]) -> Result<Keys, KeyError> {
            let dir = self.0.join("data");
            let mut all = vec![("data_dir", dir.to_str().expect("UTF-8"))];
            all.extend_from_slice(pairs);
            Keys::open(&from_pairs(&all).expect("legal"))
        }
    }

    impl Drop for DataDir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn ticket() -> Ticket {
        Ticket {
            event: EventId::parse("e").expect("an id"),
            visitor: VisitorId::parse("v").expect("an id"),
            number: 1,
            joined_at: Timestamp::from_seconds(0),
            expires_at: Timestamp::from_seconds(10),
        }
    }

    fn mint(keys: &Keys) -> String {
        let (event, visitor) = (ticket().event, ticket().visitor);
        let admission =
            Admission { number: 1, admitted_at: Timestamp::from_seconds(0), expires_at: Timestamp::from_seconds(10) };
        keys.passes.mint(&event, &visitor, &admission).expect("signed")
    }

    const NOW: Timestamp = Timestamp::from_seconds(5);

    #[test]
    fn generated_keys_are_kept_private_and_used_again() {
        let dir = DataDir::new();
        let first = dir.open(&[]).expect("made");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        let data = dir.0.join("data");
        assert_eq!(mode(&data), 0o700);
        let mut names: Vec<_> =
            std::fs::read_dir(&data).expect("readable").map(|f| f.expect("readable").file_name()).collect();
        names.sort();
        assert_eq!(names, [PASS_FILE, TICKET_FILE], "nothing else is left");
        for name in names {
            assert_eq!(mode(&data.join(name)), 0o600);
        }
        let second = dir.open(&[]).expect("read");
        assert!(second.tickets.verify(&first.tickets.issue(&ticket()), NOW).is_ok());
        assert!(second.passes.verify(&mint(&first), NOW).is_ok());
        assert_eq!(first.passes.jwks(), second.passes.jwks());

        let other = DataDir::new().open(&[]).expect("made");
        assert!(other.tickets.verify(&first.tickets.issue(&ticket()), NOW).is_err());
        assert!(other.passes.verify(&mint(&first), NOW).is_err());
    }

    #[test]
    fn processes_that_start_at_once_agree_on_the_keys() {
        let dir = DataDir::new();
        let keys: Vec<Keys> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| dir.open(&[]).expect("opened"))).collect();
            starts.into_iter().map(|start| start.join().expect("no panic")).collect()
        });
        for one in &keys {
            assert_eq!(one.passes.jwks(), keys[0].passes.jwks());
            assert!(keys[0].tickets.verify(&one.tickets.issue(&ticket()), NOW).is_ok());
        }
    }

    #[test]
    fn a_broken_key_file_is_named_and_never_replaced() {
        for name in [TICKET_FILE, PASS_FILE] {
            let dir = DataDir::new();
            dir.open(&[]).expect("made");
            let path = dir.0.join("data").join(name);
            std::fs::write(&path, "nonsense").expect("writable");
            assert!(dir.open(&[]).expect_err("refused").to_string().contains(name));
            assert_eq!(std::fs::read(&path).expect("there"), b"nonsense");
        }
    }

    #[test]
    fn configured_keys_leave_nothing_on_disk() {
        let dir = DataDir::new();
        let secrets = [("ticket_secret", &"t".repeat(32)), ("pass_secret", &"p".repeat(32))];
        let pairs = [(secrets[0].0, secrets[0].1.as_str()), (secrets[1].0, secrets[1].1.as_str())];
        let keys = dir.open(&pairs).expect("opened");
        assert!(!dir.0.exists());
        assert!(keys.passes.verify(&mint(&keys), NOW).is_ok());
        assert_eq!(keys.passes.jwks(), serde_json::json!({"keys": []}));
        let error = dir.open(&[("pass_private_key", "/nowhere/pass.pem"), pairs[0]]).expect_err("refused");
        assert!(error.to_string().contains("/nowhere/pass.pem"));
    }

    #[test]
    fn an_operator_token_is_made_only_where_none_is_set() {
        let dir = DataDir::new();
        let keys = dir.open(&[]).expect("opened");
        let token = keys.generated_admin_token.expect("made");
        assert!(token.expose().len() >= 32 && keys.admin.matches(token.expose()));
        let keys = dir.open(&[("admin_token", "0123456789abcdef")]).expect("opened");
        assert!(keys.generated_admin_token.is_none() && keys.admin.matches("0123456789abcdef"));
    }
}
