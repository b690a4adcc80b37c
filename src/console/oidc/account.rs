//! The account that an ID token is about: what is checked of its claims, its name and its role.

use serde_json::Value;

use super::OidcError;
use crate::config::{Oidc, OidcRole};

/// How far the clock of the provider may be off, in seconds.
const LEEWAY_S: i64 = 60;

/// Longest name of an account in the audit log, in characters.
const NAME_CHARACTERS_MAX: usize = 120;

/// An account with a configured role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::console) struct Account {
    /// Its name in the audit log.
    pub name: String,
    /// The role that counts.
    pub role: String,
}

/// Claims that an ID token must have.
#[derive(Clone, Copy)]
pub(super) struct Expected<'e> {
    pub oidc: &'e Oidc,
    pub nonce: &'e str,
    pub now_s: i64,
}

impl Expected<'_> {
    /// The account of a payload whose signature verified (OpenID Connect Core, 3.1.3.7).
    pub(super) fn account(&self, payload: &[u8]) -> Result<Account, OidcError> {
        let wrong = |what: &str| OidcError::Token(what.to_owned());
        let claims: Value = serde_json::from_slice(payload).map_err(|_| wrong("not JSON"))?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if text("iss") != Some(&self.oidc.issuer) {
            return Err(wrong("iss is another issuer"));
        }
        self.check_audience(&claims).map_err(wrong)?;
        self.check_times(&claims).map_err(wrong)?;
        if text("nonce") != Some(self.nonce) {
            return Err(wrong("nonce is that of another sign-in"));
        }
        let subject = text("sub").filter(|text| !text.is_empty()).ok_or(wrong("sub is missing"))?;
        let name = self.name(&claims).unwrap_or(subject);
        let name: String =
            name.chars().filter(|c| !c.is_control()).take(NAME_CHARACTERS_MAX).collect();
        match self.role(&claims) {
            Some(role) => Ok(Account { name, role: role.value.clone() }),
            None => Err(OidcError::NoRole(name)),
        }
    }

    fn check_audience(&self, claims: &Value) -> Result<(), &'static str> {
        let ours = self.oidc.client_id.as_str();
        let audience = claims.get("aud").map(texts).unwrap_or_default();
        if !audience.contains(&ours) {
            return Err("aud is another client");
        }
        let party = claims.get("azp").map(|party| party.as_str().unwrap_or_default());
        match (audience.len(), party) {
            (_, Some(party)) if party != ours => Err("azp is another client"),
            (2.., None) => Err("azp is missing, with several in aud"),
            _ => Ok(()),
        }
    }

    fn check_times(&self, claims: &Value) -> Result<(), &'static str> {
        let time = |name: &str| claims.get(name).and_then(Value::as_f64).map(|at| at as i64);
        let ends = time("exp").ok_or("exp is missing")?;
        if ends.saturating_add(LEEWAY_S) <= self.now_s {
            return Err("it has expired");
        }
        let is_early = |name| time(name).is_some_and(|at| at.saturating_sub(LEEWAY_S) > self.now_s);
        if is_early("iat") || is_early("nbf") {
            return Err("it is not valid yet");
        }
        Ok(())
    }

    /// The name for the audit log. An address that the provider has not confirmed is not used.
    fn name<'c>(&self, claims: &'c Value) -> Option<&'c str> {
        let claim = self.oidc.name_claim.as_str();
        let is_open = claim == "email" && claims.get("email_verified") == Some(&Value::Bool(false));
        found(claims, claim)?.as_str().filter(|text| !text.is_empty() && !is_open)
    }

    /// The first configured role that the account has.
    fn role(&self, claims: &Value) -> Option<&OidcRole> {
        let has = found(claims, &self.oidc.roles_claim).map(texts).unwrap_or_default();
        self.oidc.roles.iter().find(|role| has.contains(&role.value.as_str()))
    }
}

/// A claim, or a member of one: `realm_access.roles`.
fn found<'c>(claims: &'c Value, name: &str) -> Option<&'c Value> {
    let inside = || name.split('.').try_fold(claims, |found, part| found.get(part));
    claims.get(name).or_else(inside)
}

/// One text or several.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{AdminRight, SourceScope};

    fn oidc() -> Oidc {
        let role = |value: &str, right| OidcRole {
            value: value.to_owned(),
            right,
            scope: SourceScope::All,
        };
        Oidc {
            issuer: String::from("https://login.example"),
            client_id: String::from("postern"),
            client_secret: None,
            scopes: String::from("openid"),
            roles_claim: String::from("realm.groups"),
            name_claim: String::from("email"),
            ca: None,
            roles: vec![role("ops", AdminRight::Admin), role("desk", AdminRight::Support)],
        }
    }

    fn claims() -> Value {
        json!({
            "iss": "https://login.example", "aud": "postern", "sub": "s-1", "nonce": "n",
            "exp": 2000, "iat": 1000, "email": "a@example.com", "realm": { "groups": ["x", "desk"] },
        })
    }

    fn account(claims: &Value) -> Result<Account, String> {
        let oidc = oidc();
        let expected = Expected { oidc: &oidc, nonce: "n", now_s: 1500 };
        expected.account(claims.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_account_has_a_name_and_its_first_role() {
        let named =
            |name: &str, role: &str| Ok(Account { name: name.to_owned(), role: role.to_owned() });
        assert_eq!(account(&claims()), named("a@example.com", "desk"));
        let with = |change: Value| {
            let mut all = claims();
            all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            account(&all)
        };
        assert_eq!(with(json!({ "realm": { "groups": "ops" } })), named("a@example.com", "ops"));
        assert_eq!(
            with(json!({ "realm": { "groups": ["desk", "ops"] } })),
            named("a@example.com", "ops"),
            "in the order of the configuration"
        );
        assert_eq!(with(json!({ "email_verified": false })), named("s-1", "desk"));
        assert_eq!(with(json!({ "email": null })), named("s-1", "desk"));
        assert!(with(json!({ "aud": ["postern", "b"], "azp": "postern" })).is_ok());
        for groups in [json!([]), json!(["OPS"]), json!(null), json!({ "ops": true })] {
            let refused = with(json!({ "realm": { "groups": groups } })).unwrap_err();
            assert!(refused.contains("none of the configured roles"), "{refused}");
        }
    }

    #[test]
    fn a_token_of_others_of_another_time_or_sign_in_is_rejected() {
        for (change, why) in [
            (json!({ "iss": "https://login.example/" }), "issuer"),
            (json!({ "aud": "other" }), "aud"),
            (json!({ "aud": ["postern", "other"] }), "azp"),
            (json!({ "azp": "other" }), "azp"),
            (json!({ "nonce": "other" }), "nonce"),
            (json!({ "nonce": null }), "nonce"),
            (json!({ "exp": 1440 }), "expired"),
            (json!({ "exp": null }), "exp"),
            (json!({ "iat": 1561 }), "not valid yet"),
            (json!({ "sub": "" }), "sub"),
        ] {
            let mut all = claims();
            all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let said = account(&all).unwrap_err();
            assert!(said.contains(why), "{change}: {said}");
        }
        assert!(account(&json!("x")).is_err());
    }
}
