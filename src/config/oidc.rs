//! `[admin.oidc]`: sign-in to the console with accounts of an OpenID provider.

use std::collections::BTreeSet;

use super::admin::{RIGHTS, scope};
use super::file::{Item, Read, Section, ValueError};
use super::{AdminRight, Oidc, OidcRole, network, secret, server, unit};

pub(super) const KEYS: &[&str] =
    &["issuer", "client_id", "client_secret", "scopes", "roles_claim", "name_claim", "ca", "roles"];
pub(super) const ROLE_KEYS: &[&str] = &["value", "right", "sources"];

const ISSUER: &str = "\"https://login.example.com\"";
const ROLES: &str = "[{ value = \"postern-admins\", right = \"admin\" }]";

pub(super) fn check(section: &Section<'_>) -> Option<Oidc> {
    section.refuse_unknown(KEYS);
    let issuer = section.need("issuer", ISSUER, network::issuer);
    let client_id = section.need("client_id", "\"postern\"", unit::text);
    let client_secret = section.take("client_secret", secret::secret);
    let scopes = section.take_or("scopes", String::from("openid email profile"), scopes);
    let roles_claim = section.take_or("roles_claim", String::from("groups"), unit::text);
    let name_claim = section.take_or("name_claim", String::from("email"), unit::text);
    let ca = section.take("ca", server::certificates);
    let roles = section.item("roles").map(roles);
    if roles.is_none() {
        let remedy = format!("write roles = {ROLES}");
        section.fault("roles", "is missing: no account could sign in", remedy);
    }
    Some(Oidc {
        issuer: issuer?,
        client_id: client_id?,
        client_secret,
        scopes,
        roles_claim,
        name_claim,
        ca,
        roles: roles?,
    })
}

fn scopes(item: &Item<'_>) -> Read<String> {
    let text = unit::text(item)?;
    match text.split(' ').any(|scope| scope == "openid") {
        true => Ok(text),
        false => Err(ValueError::new(
            "has no openid, without which a provider says nothing of an account",
            "write \"openid email profile\"",
        )),
    }
}

fn roles(item: Item<'_>) -> Vec<OidcRole> {
    let whole = item.clone();
    let (mut roles, mut values) = (Vec::new(), BTreeSet::new());
    let elements = item.elements();
    if elements.is_empty() {
        whole.fault("is an empty list: no account could sign in", format!("write {ROLES}"));
    }
    for element in &elements {
        let Some(role) = role(element) else { continue };
        if !values.insert(role.value.clone()) {
            element.fault(format!("{} has two rights", role.value), "leave one out");
        }
        roles.push(role);
    }
    roles
}

fn role(item: &Item<'_>) -> Option<OidcRole> {
    let section = item.note(item.section(&format!("write {ROLES}")))?;
    section.refuse_unknown(ROLE_KEYS);
    let value = section.need("value", "\"postern-admins\"", unit::text);
    let right = section.need("right", "\"read\"", unit::word(RIGHTS));
    let scope = scope(&section);
    let right: AdminRight = right?;
    Some(OidcRole { value: value?, right, scope })
}
