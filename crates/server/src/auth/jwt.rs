//! JSON web tokens, with the claims that etcd gives them: `username`, `revision` (of the users) and `exp`.
//!
//! Who holds the private key says who somebody is; it may be held elsewhere. A token from before the user's password was
//! changed is refused by its revision.

use std::fmt;
use std::time::Duration;

use duet_mvcc::{Auth, UserId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::options::OptionError;
use super::{Login, wall_clock};

#[derive(Serialize, Deserialize)]
struct Claims {
    username: String,
    revision: u64,
    exp: u64,
}

/// The keys of both appliances, and how they are used.
pub struct JwtKeys {
    /// The configuration they come from.
    given: String,
    header: Header,
    validation: Validation,
    sign: Option<EncodingKey>,
    verify: DecodingKey,
    ttl: Duration,
}

impl PartialEq for JwtKeys {
    fn eq(&self, other: &JwtKeys) -> bool {
        self.given == other.given
    }
}

impl Eq for JwtKeys {}

impl fmt::Debug for JwtKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("JwtKeys").field(&self.given).finish()
    }
}

impl JwtKeys {
    /// Keys in PEM; for the methods that begin with HS the private key is any secret. Without a private key tokens are only
    /// verified.
    ///
    /// # Errors
    /// An unknown method, or keys that do not fit it.
    pub fn new(
        given: &str,
        method: &str,
        public: Option<&[u8]>,
        private: Option<&[u8]>,
        ttl: Duration,
    ) -> Result<JwtKeys, OptionError> {
        let wrong = |what: &str, error: &dyn fmt::Display| OptionError(format!("{what}: {error}"));
        let algorithm =
            method.parse::<Algorithm>().map_err(|error| wrong(&format!("sign-method={method}"), &error))?;
        let missing = |key: &str| OptionError(format!("{key} is missing, which {method} needs"));
        let (sign, verify) = if matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
            let secret = private.ok_or_else(|| missing("priv-key"))?;
            (Some(EncodingKey::from_secret(secret)), DecodingKey::from_secret(secret))
        } else {
            let public = public.ok_or_else(|| missing("pub-key"))?;
            let sign = private.map(|private| encoding_key(algorithm, private)).transpose();
            let sign = sign.map_err(|error| wrong("priv-key", &error))?;
            (sign, decoding_key(algorithm, public).map_err(|error| wrong("pub-key", &error))?)
        };
        let mut validation = Validation::new(algorithm);
        validation.leeway = 0;
        validation.validate_aud = false;
        let keys = JwtKeys {
            given: given.to_owned(),
            header: Header::new(algorithm),
            validation,
            sign,
            verify,
            ttl,
        };
        keys.check().map(|()| keys)
    }

    /// Whether the two keys belong together.
    fn check(&self) -> Result<(), OptionError> {
        let Some(sign) = &self.sign else { return Ok(()) };
        let claims = Claims { username: String::new(), revision: 0, exp: 1 << 40 };
        let signed = jsonwebtoken::encode(&self.header, &claims, sign);
        let token = signed.map_err(|error| OptionError(format!("priv-key cannot sign: {error}")))?;
        self.claims(&token)
            .map(drop)
            .ok_or_else(|| OptionError("pub-key does not belong to priv-key".to_owned()))
    }

    fn claims(&self, token: &str) -> Option<Claims> {
        jsonwebtoken::decode::<Claims>(token, &self.verify, &self.validation).ok().map(|data| data.claims)
    }

    pub(super) fn issue(&self, login: &Login) -> Option<String> {
        let exp = wall_clock::seconds().saturating_add(self.ttl.as_secs());
        let claims = Claims { username: login.name.clone(), revision: login.auth_revision, exp };
        let signed = jsonwebtoken::encode(&self.header, &claims, self.sign.as_ref()?);
        signed.inspect_err(|error| tracing::error!(%error, "a token could not be signed")).ok()
    }

    pub(super) fn identify(&self, auth: &Auth, token: &str) -> Option<UserId> {
        let claims = self.claims(token)?;
        auth.id_of(&claims.username).filter(|id| claims.revision >= id.0)
    }
}

fn encoding_key(algorithm: Algorithm, pem: &[u8]) -> jsonwebtoken::errors::Result<EncodingKey> {
    match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
        _ => EncodingKey::from_rsa_pem(pem),
    }
}

fn decoding_key(algorithm: Algorithm, pem: &[u8]) -> jsonwebtoken::errors::Result<DecodingKey> {
    match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(pem),
        Algorithm::EdDSA => DecodingKey::from_ed_pem(pem),
        _ => DecodingKey::from_rsa_pem(pem),
    }
}

#[cfg(test)]
mod tests {
    use duet_mvcc::{Command, EmptySource, PasswordHash, Store, TokenSecret};

    use super::*;

    // Made for this test; they are nobody's.
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg5Omzb6d+Th1ibdjT
KoPlU7M479G01MMA9Sw+kGnCIeehRANCAATiCqAlEIDSdbB/scQfwty+dar3Wibz
c3Uqcdik/Qtgfn9fTMtI7PRL5PkdK3I3B7GdJ5mXX20T1A0nECijn9vo
-----END PRIVATE KEY-----
";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE4gqgJRCA0nWwf7HEH8LcvnWq91om
83N1KnHYpP0LYH5/X0zLSOz0S+T5HStyNwexnSeZl19tE9QNJxAoo5/b6A==
-----END PUBLIC KEY-----
";
    const OTHER_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAELuKUaMqhFwHN1w3BhZPN19Oe015F
Pe8i6TqLrjCKj9JLH4KcILvDGOl3AFdn/8sADvyJUl+NjVjoBIipalXAsQ==
-----END PUBLIC KEY-----
";

    fn keys(
        method: &str,
        public: Option<&str>,
        private: Option<&str>,
        ttl: u64,
    ) -> Result<JwtKeys, OptionError> {
        let (public, private) = (public.map(str::as_bytes), private.map(str::as_bytes));
        JwtKeys::new(method, method, public, private, Duration::from_secs(ttl))
    }

    /// Users with `bob`, whose password is set so often.
    fn users(changes: usize) -> Store {
        use duet_mvcc::AuthCommand::{UserAdd, UserChangePassword};
        let mut store = Store::new(std::sync::Arc::new(EmptySource));
        let password = || PasswordHash(bytes::Bytes::from_static(b"hash"));
        let add = UserAdd { name: "bob".into(), password: Some(password()) };
        store.apply(&Command::Auth(add)).result.unwrap();
        for _ in 1..changes {
            let change = UserChangePassword { name: "bob".into(), password: password() };
            store.apply(&Command::Auth(change)).result.unwrap();
        }
        store
    }

    fn login(store: &Store) -> Login {
        let auth = store.auth();
        let id = auth.id_of("bob").unwrap();
        Login { name: "bob".into(), id, auth_revision: auth.revision(), secret: TokenSecret::default() }
    }

    #[test]
    fn a_token_signed_at_one_appliance_is_good_at_the_other_until_the_password_changes() {
        let store = users(1);
        let pairs = [
            ("ES256", Some(PUBLIC), PRIVATE),
            ("HS256", None, "a secret of both"),
            ("HS512", None, "another"),
        ];
        for (method, public, private) in pairs {
            let token = keys(method, public, Some(private), 60).unwrap().issue(&login(&store)).unwrap();
            let other = keys(method, public, Some(private), 60).unwrap();
            assert_eq!(other.identify(store.auth(), &token), store.auth().id_of("bob"));
            assert_eq!(other.identify(users(2).auth(), &token), None, "another password");
            assert_eq!(other.identify(&duet_mvcc::Auth::default(), &token), None, "no such user");
            assert_eq!(other.identify(store.auth(), &token[..token.len() - 2]), None);
        }
    }

    #[test]
    fn a_token_runs_out() {
        let store = users(1);
        let keys = keys("HS256", None, Some("secret"), 0).unwrap();
        let token = keys.issue(&login(&store)).unwrap();
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(keys.identify(store.auth(), &token), None);
    }

    #[test]
    fn only_the_method_and_the_keys_that_were_given_count() {
        let store = users(1);
        let token = keys("ES256", Some(PUBLIC), Some(PRIVATE), 60).unwrap().issue(&login(&store)).unwrap();
        let verifier = keys("ES256", Some(PUBLIC), None, 60).unwrap();
        assert!(verifier.identify(store.auth(), &token).is_some());
        assert_eq!(verifier.issue(&login(&store)), None, "there is nothing to sign with");
        let stranger = keys("ES256", Some(OTHER_PUBLIC), None, 60).unwrap();
        assert_eq!(stranger.identify(store.auth(), &token), None);
        // The public key taken for a secret.
        let forged = keys("HS256", None, Some(PUBLIC), 60).unwrap().issue(&login(&store)).unwrap();
        assert_eq!(verifier.identify(store.auth(), &forged), None);
    }

    #[test]
    fn keys_that_do_not_fit_are_told() {
        for (method, public, private, part) in [
            ("ES512", Some(PUBLIC), Some(PRIVATE), "sign-method=ES512"),
            ("ES256", None, Some(PRIVATE), "pub-key is missing"),
            ("ES256", Some("no key"), Some(PRIVATE), "pub-key"),
            ("ES256", Some(PUBLIC), Some("no key"), "priv-key"),
            ("RS256", Some(PUBLIC), Some(PRIVATE), "-key"),
            ("ES256", Some(OTHER_PUBLIC), Some(PRIVATE), "does not belong"),
        ] {
            let told = keys(method, public, private, 60).unwrap_err().to_string();
            assert!(told.contains(part), "{method}: {told}");
        }
    }
}
