//! Values that must never be printed.

use std::fmt;

/// What is shown in place of a secret.
pub const MASK: &str = "***";

/// A text that prints as `***` and cannot be serialized.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes the text as a secret.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text's bytes, for use as a key.
    pub fn expose_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// A URL as it may be shown: without its password.
///
/// A password that was not escaped may contain `/`, `?` or `@`, so everything up to the last `@` counts as part of it: in
/// doubt too much is hidden, never too little.
pub fn mask_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return MASK.to_owned() };
    // An `@` behind a `?` ends a password in front of the host, or belongs to a parameter that is one: nobody can tell.
    if rest.split_once('?').is_some_and(|(_, query)| query.contains('@') && names_password(query)) {
        return format!("{scheme}://{MASK}");
    }
    let shown = match rest.rsplit_once('@') {
        Some((user_info, host)) => match user_info.split_once(':') {
            Some((user, _)) => format!("{user}:{MASK}@{host}"),
            None => format!("{user_info}@{host}"),
        },
        None => rest.to_owned(),
    };
    // Parameters can carry a password too (`?password=`, `&sslpassword=`).
    let shown = match shown.split_once('?') {
        Some((path, query)) => {
            let masked = query.split('&').map(|pair| match pair.split_once('=') {
                Some((name, _)) if names_password(name) => format!("{name}={MASK}"),
                _ => pair.to_owned(),
            });
            format!("{path}?{}", masked.collect::<Vec<_>>().join("&"))
        }
        None => shown,
    };
    format!("{scheme}://{shown}")
}

fn names_password(text: &str) -> bool {
    text.to_ascii_lowercase().contains("pass")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hostile;

    #[test]
    fn a_secret_never_prints() {
        let secret = Secret::new("correct horse battery staple");
        assert_eq!(format!("{secret} {secret:?} {:#?}", Some(&secret)), "*** *** Some(\n    ***,\n)");
        assert_eq!(secret.expose(), "correct horse battery staple");
    }

    #[test]
    fn the_password_of_a_url_is_hidden() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://:hunter2@host/0", "redis://:***@host/0"),
            ("postgres://app:hunter2@host:5432/usher", "postgres://app:***@host:5432/usher"),
            ("postgres://app@host/usher", "postgres://app@host/usher"),
            ("postgres://app:hun/t@r?2@host/usher", "postgres://app:***@host/usher"),
            ("postgres://host/u?user=a&password=hunter2", "postgres://host/u?user=a&password=***"),
            ("hunter2", "***"),
        ] {
            assert_eq!(mask_url(url), shown);
        }
    }

    proptest! {
        #![proptest_config(hostile::config("secrets"))]

        #[test]
        fn no_password_shows_whatever_is_around_it(
            before in "[!-~]{0,6}", after in "[!-~]{0,6}", user in "[a-z]{0,5}", host in "[a-z]{1,5}(:[0-9]{1,4})?",
            path in "(/[a-z0-9]{0,5})?", query in "(\\?[a-z]{1,5}=[a-z@]{0,5})?", mark in "password|sslpassword|PassWord|passfile",
        ) {
            let first = format!("redis://{user}:{before}hunter2{after}@{host}{path}{query}");
            // A parameter ends at an ampersand.
            let before = before.replace('&', "+");
            let last = format!("postgres://{user}@{host}{path}?x=y&{mark}={before}hunter2{after}");
            for url in [first, last] {
                prop_assert!(!mask_url(&url).contains("hunter2"), "{} is shown as {}", url, mask_url(&url));
            }
        }
    }
}
