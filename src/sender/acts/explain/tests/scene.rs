//! An accepted vector, and the means to sign it.

use std::sync::Arc;

use super::own::{self, Own};
use crate::sender::acts::explain::{MistakeKind, case};
use crate::sender::acts::signature::SignatureVariant;
use crate::sender::crypto::digest::Output;
use crate::sender::language::vector::Vector;
use crate::sender::request::callback::Judgement;
use crate::sender::{Catalog, LiveSecret, OwnedRequest, Recipe, Secret, Sender, Terms};

/// An accepted vector, ready to be signed wrongly.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) sender: Arc<Sender>,
    /// The sender's file.
    file: Arc<toml::Table>,
    /// The sender under `terms`.
    pub(super) recipe: Arc<Recipe>,
    pub(super) about: String,
    pub(super) terms: Terms,
    /// The keys of the source.
    pub(super) source: toml::Table,
    pub(super) variant: usize,
    pub(super) request: OwnedRequest,
    /// The supplied signature as it stands in the request.
    pub(super) supplied: String,
    pub(super) secret: Vec<u8>,
    pub(super) now_ms: i64,
    pub(super) own: Own,
}

/// A mistake that was made, and what is to be said of it.
pub(super) struct Slip {
    pub(super) kind: MistakeKind,
    /// The parameter to be named, where one is.
    pub(super) parameter: Option<String>,
    /// Kinds that make the same bytes here, and so may be named as well.
    pub(super) or: Vec<MistakeKind>,
    pub(super) about: String,
    pub(super) request: OwnedRequest,
    /// The valid signature: must never be shown.
    pub(super) right: String,
    /// The source that it is sent to.
    pub(super) recipe: Arc<Recipe>,
}

/// Parameters of one vector whose values are tried: they are all treated alike.
pub(super) const FREE_MAX: usize = 4;

pub(super) const SECRET: &str = "An0ther-Secret-0f-Ours";

pub(super) fn scenes() -> Vec<Scene> {
    let catalog = Catalog::embedded().unwrap();
    let of = |sender: &Arc<Sender>| {
        let file = Arc::new(sender.text.parse().unwrap());
        let scenes = sender.vectors.iter().filter_map(|vector| scene(sender, &file, vector));
        scenes.collect::<Vec<_>>()
    };
    catalog.iter().flat_map(of).collect()
}

fn scene(sender: &Arc<Sender>, file: &Arc<toml::Table>, vector: &Vector) -> Option<Scene> {
    let mut terms = vector.terms();
    let recipe = Recipe::compile(sender, &terms).unwrap();
    let now_ms = vector.now_ms.unwrap_or(1_700_000_000_000);
    let mut callback = recipe.read(vector.request.borrow(), now_ms);
    let Judgement::Verified(verified) = callback.verify() else { return None };
    let taken = ["accepted", "challenge"].iter().any(|one| vector.expects("outcome", one));
    if !taken {
        return None;
    }
    let matched = verified.callback.matched.clone()?;
    let variant = recipe.variants.get(matched.variant?)?;
    let supplied = supplied_in(&recipe, variant, &vector.request, matched.output.as_ref()?)?;
    let source = vector.source.clone();
    let own = own::read(file, variant.index, &vector.request, &source)?;
    // One secret, long enough to be looked for in what is said; a key keeps its own form.
    let mut secret = terms.secrets[matched.secret?].value.expose().to_vec();
    let about = format!("{}: {}", sender.name(), vector.about);
    assert!(own.supplied(&secret)?.eq_ignore_ascii_case(&supplied), "{about}: {own:#?}");
    let opens_with_it =
        sender.open.as_ref().is_some_and(|open| open.key.spots().any(|spot| spot.key == "secret"));
    if !own.decodes_secret() && !opens_with_it {
        secret = SECRET.into();
    }
    terms.secrets = vec![live(&secret)];
    let index = variant.index;
    let mut scene = Scene {
        sender: Arc::clone(sender),
        file: Arc::clone(file),
        recipe: Arc::new(Recipe::compile(sender, &terms).unwrap()),
        about,
        terms,
        source,
        variant: index,
        request: vector.request.clone(),
        supplied,
        secret,
        now_ms,
        own,
    };
    scene.resign();
    Some(scene)
}

pub(super) fn live(secret: &[u8]) -> LiveSecret {
    LiveSecret { id: "1".into(), value: Secret::new(secret), until_ms: None }
}

/// The supplied signature that matched, as it stands in the request.
fn supplied_in(
    recipe: &Recipe,
    variant: &SignatureVariant,
    request: &OwnedRequest,
    output: &Output,
) -> Option<String> {
    let callback = recipe.read(request.borrow(), 0);
    let supplied_signatures = case::supplied_signatures(&callback, variant);
    let supplied =
        supplied_signatures.into_iter().find(|supplied| variant.matches(output, supplied))?;
    String::from_utf8(supplied).ok()
}

impl Scene {
    pub(super) fn verifies(&self, request: &OwnedRequest) -> bool {
        let mut callback = self.recipe.read(request.borrow(), self.now_ms);
        matches!(callback.verify(), Judgement::Verified(_))
    }

    /// The right supplied signature in place of the one that is there.
    pub(super) fn resign(&mut self) {
        let supplied = self.own.supplied(&self.secret).unwrap();
        self.request = self.with_signature(&supplied);
        self.supplied = supplied;
        assert!(self.verifies(&self.request), "{}: {:#?}", self.about, self.own);
    }

    /// The request with another supplied signature.
    pub(super) fn with_signature(&self, supplied: &str) -> OwnedRequest {
        let mut request = self.request.clone();
        let escaped = String::from_utf8(own::form(supplied.as_bytes())).unwrap();
        // The parameter `event_token=` is not the end of `event_token_all=`.
        let was_escaped = String::from_utf8(own::form(self.supplied.as_bytes())).unwrap();
        let target = replaced(&request.target, &self.supplied, &escaped)
            .or_else(|| replaced(&request.target, &was_escaped, &escaped));
        let body = replaced(&request.body, &self.supplied, supplied);
        match (target, body) {
            (Some(target), _) => request.target = target,
            (None, Some(body)) => request.body = body,
            (None, None) => {
                let found = request.headers.iter().find_map(|(name, value)| {
                    Some((name.clone(), replaced(value.as_bytes(), &self.supplied, supplied)?))
                });
                let (name, value) = found.unwrap_or_else(|| panic!("{}", self.about));
                request.headers.insert(name, http::HeaderValue::from_bytes(&value).unwrap());
            }
        }
        request
    }

    /// The same scene with another value on the wire, rightly signed; `None` where it cannot be.
    pub(super) fn with_value(&self, name: &str, raw: &str) -> Option<Self> {
        let mut scene = self.clone();
        let part = self.own.parts.iter().find(|part| part.name.as_deref() == Some(name))?;
        let old = String::from_utf8(part.raw.clone()).ok()?;
        let target = ["?", "&"].iter().find_map(|mark| {
            let with = format!("{mark}{name}={raw}");
            replaced(&scene.request.target, &format!("{mark}{name}={old}"), &with)
        });
        let member = name.rsplit('.').next()?;
        let body = ["\"", ""].iter().find_map(|quote| {
            let with = format!("\"{member}\":\"{raw}\"");
            replaced(&scene.request.body, &format!("\"{member}\":{quote}{old}{quote}"), &with)
        });
        match (target, body) {
            (Some(target), _) => scene.request.target = target,
            (None, Some(body)) => scene.request.body = body,
            _ => return None,
        }
        scene.reread()
    }

    /// The same scene with one more parameter in the query.
    pub(super) fn with_extra(&self, name: &str, raw: &str) -> Option<Self> {
        let mut scene = self.clone();
        let mark: &[u8] = if scene.request.target.contains(&b'?') { b"&" } else { b"?" };
        let pair = format!("{name}={raw}");
        scene.request.target = [&scene.request.target, mark, pair.as_bytes()].concat();
        scene.reread()
    }

    pub(super) fn with_body(&self, body: &str) -> Option<Self> {
        let mut scene = self.clone();
        scene.request.body = body.into();
        scene.reread()
    }

    pub(super) fn with_secret(&self, secret: &str) -> Option<Self> {
        let mut scene = self.clone();
        scene.secret = secret.into();
        scene.terms.secrets = vec![live(&scene.secret)];
        scene.recipe = Arc::new(Recipe::compile(&scene.sender, &scene.terms).ok()?);
        scene.reread()
    }

    pub(super) fn reread(mut self) -> Option<Self> {
        self.own = own::read(&self.file, self.variant, &self.request, &self.source)?;
        let supplied = self.own.supplied(&self.secret)?;
        self.request = self.with_signature(&supplied);
        self.supplied = supplied;
        self.verifies(&self.request).then_some(self)
    }

    /// Some names of signed parameters whose value may be anything.
    pub(super) fn free(&self) -> Vec<String> {
        let named = self.own.parts.iter().filter_map(|part| part.name.clone());
        named.filter(|name| self.with_value(name, "xyz").is_some()).take(FREE_MAX).collect()
    }

    /// Whether the file has variants besides, under which one mistake can look like another.
    pub(super) fn has_twins(&self) -> bool {
        self.sender.variants.len() > 1
    }

    pub(super) fn slip(
        &self,
        kind: MistakeKind,
        parameter: Option<&str>,
        about: &str,
        supplied: &str,
    ) -> Slip {
        Slip {
            kind,
            parameter: parameter.map(str::to_owned),
            or: Vec::new(),
            about: format!("{}: {about}", self.about),
            request: self.with_signature(supplied),
            right: self.supplied.clone(),
            recipe: Arc::clone(&self.recipe),
        }
    }

    /// A slip made by signing `own`, a changed copy of the right one. `None`: it makes the right
    /// signature, so nothing is wrong.
    pub(super) fn signed(
        &self,
        kind: MistakeKind,
        parameter: Option<&str>,
        about: &str,
        own: &Own,
    ) -> Option<Slip> {
        let supplied = own.supplied(&self.secret)?;
        (supplied != self.supplied).then(|| self.slip(kind, parameter, about, &supplied))
    }

    pub(super) fn changed(&self, change: impl FnOnce(&mut Own)) -> Own {
        let mut own = self.own.clone();
        change(&mut own);
        own
    }
}

fn replaced(text: &[u8], from: &str, to: &str) -> Option<Vec<u8>> {
    let at = memchr::memmem::find(text, from.as_bytes()).filter(|_| !from.is_empty())?;
    Some([&text[..at], to.as_bytes(), &text[at + from.len()..]].concat())
}

impl Slip {
    pub(super) fn or(mut self, kinds: &[MistakeKind]) -> Self {
        self.or.extend_from_slice(kinds);
        self
    }
}
