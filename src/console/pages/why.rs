//! Why a callback does not verify, in full: its signature beside the one expected, the text that its
//! signature is right for, and the accepted event of its transaction.

use maud::{Markup, html};

use super::captured::{self, keys_of, owned, to_explain};
use super::compare::{self, Accepted, Claims};
use crate::clock::UnixMillis;
use crate::config::Source;
use crate::console::app::Console;
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::value;
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::ledger::RawRequest;
use crate::operator::Overloaded;
use crate::sender::{Beside, Changes, Ends, Evidence, Expected, Explanation, Reason, Verification};

texts! {
    BESIDE = "Signature that came, and the expected one", "收到的签名与期望的签名";
    BESIDE_NOTE = "At most four characters of each end are shown, and fewer of a short signature: a whole one could be used to send the callback.",
        "两端各最多显示四个字符，签名较短时显示更少：完整的签名可被用来发送该回调。";
    MAY_NOT = "Only an admin token sees the ends of the signatures.", "只有 admin 令牌可以看到签名的两端。";
    CAME = "Came", "收到";
    EXPECTED = "Expected", "期望";
    SECRET = "Secret", "密钥";
    NONE_CAME = "No signature came.", "没有收到签名。";
    CHARACTERS = "({} characters)", "（{} 个字符）";
    HIDDEN = "hidden", "已隐藏";
    PRIVATE_KEY = "unknown: only the sender has the private key", "未知：只有发送方持有私钥";
    IS_SECRET = "hidden: it is the secret itself", "已隐藏：它就是密钥本身";
    HOLDS_SECRET = "hidden: it contains a secret", "已隐藏：其中含有密钥";
    NEAREST = "The nearest text that would verify", "最接近且能通过验签的字符串";
    NEAREST_NOTE = "The signature that came is right for this text. What differs is marked.", "收到的签名与此字符串相符，不同之处已标出。";
    OURS = "Text that the sender's rule signs", "按该发送方规则待签名的字符串";
    CHANGED = "With {} the signature that came is right: the value was changed after it was signed.",
        "若 {}，收到的签名即正确：该值在签名之后被改动。";
    CHANGED_ALL = "With these values of the accepted event the signature that came is right: {}. They were changed after it was signed.",
        "若取已接受事件的以下值，收到的签名即正确：{}。这些值在签名之后被改动。";
}

/// A callback to a source, as it was captured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Captured<'c> {
    pub source: &'c Source,
    pub request: &'c RawRequest,
    pub at_ms: UnixMillis,
}

/// Why it does not verify, if its explanation was `found`, and the comparison with the accepted event
/// of its transaction.
pub(super) async fn sections(
    console: &Console,
    visit: &Visit,
    captured: Captured<'_>,
    found: Option<&Explanation>,
) -> Result<(Markup, Markup), PageError> {
    let Captured { source, request, at_ms } = captured;
    let request = owned(request);
    let claims = Claims::of(&source.recipe.read(request.borrow(), at_ms));
    let accepted = Accepted::find(console, source, &claims).await?;
    let compared = compare::section(visit, &claims, accepted.as_ref());
    let Some(found) = found.filter(|found| is_about_signature(found)) else {
        return Ok((html! {}, compared));
    };
    let parameters = accepted.map(|accepted| accepted.parameters()).unwrap_or_default();
    let asked = to_explain(&console.config(), source, request, at_ms)?;
    let evidence = asked.evidence(keys_of(console.tools.keys.clone()), parameters).await;
    let why = match evidence {
        Ok(evidence) => {
            html! { (nearest(visit.lang, found, &evidence)) (beside(visit, &evidence)) }
        }
        Err(Overloaded) => html! {
            section aria-labelledby="beside" {
                h2 #beside { (BESIDE.of(visit.lang)) }
                (captured::overloaded(visit.lang))
            }
        },
    };
    Ok((why, compared))
}

/// Whether the signature was looked at, and may be the reason.
fn is_about_signature(found: &Explanation) -> bool {
    let reasons = [Reason::BadSignature, Reason::Stale, Reason::Future];
    found.verdict == Verification::Rejected
        && found.reason.is_some_and(|one| reasons.contains(&one))
}

// === The nearest text ===

fn nearest(lang: Lang, found: &Explanation, evidence: &Evidence) -> Markup {
    let ours = found.signed_text.as_deref().unwrap_or_default();
    let of_mistake = found.mistake.as_ref().and_then(|mistake| mistake.text.as_deref());
    let text = match &evidence.changes {
        Some(changes) => Some(changes.text.as_str()),
        None => of_mistake,
    };
    let Some(text) = text.filter(|text| *text != ours) else { return html! {} };
    html! {
        section aria-labelledby="nearest" {
            h2 #nearest { (NEAREST.of(lang)) }
            @if let Some(changes) = &evidence.changes {
                p { strong { (changed(lang, changes)) } }
            }
            p { (NEAREST_NOTE.of(lang)) }
            (value::block_beside(text, ours))
            @if !ours.is_empty() { p { (OURS.of(lang)) } (value::block_beside(ours, text)) }
        }
    }
}

fn changed(lang: Lang, changes: &Changes) -> String {
    let pairs = changes.values.iter().map(|value| format!("{} = {}", value.name, value.accepted));
    let pairs: Vec<String> = pairs.collect();
    let text = if pairs.len() == 1 { CHANGED } else { CHANGED_ALL };
    text.fill(lang, &[&pairs.join(lang.comma())])
}

// === Signatures ===

fn beside(visit: &Visit, evidence: &Evidence) -> Markup {
    let lang = visit.lang;
    let may = visit.viewer.may_change();
    let rows: Vec<Vec<Markup>> = evidence.signatures.iter().map(|one| row(lang, one)).collect();
    html! {
        section aria-labelledby="beside" {
            h2 #beside { (BESIDE.of(lang)) }
            @if may {
                p.hint { (BESIDE_NOTE.of(lang)) }
                (DataTable::new(Caption::Hidden(BESIDE.of(lang)), &[CAME, EXPECTED, SECRET], NONE_CAME).show(lang, &rows))
            } @else {
                p.may-not { (MAY_NOT.of(lang)) }
            }
        }
    }
}

fn row(lang: Lang, one: &Beside) -> Vec<Markup> {
    let expected = match &one.expected {
        Expected::Ends(whole) => ends(lang, whole),
        Expected::PrivateKey => html! { (PRIVATE_KEY.of(lang)) },
        Expected::Secret => html! { (IS_SECRET.of(lang)) },
    };
    let came = match &one.came {
        Some(came) => ends(lang, came),
        None => html! { (HOLDS_SECRET.of(lang)) },
    };
    vec![came, expected, value::maybe(one.secret.as_deref())]
}

fn ends(lang: Lang, of: &Ends) -> Markup {
    html! {
        @if of.start.is_empty() { (HIDDEN.of(lang)) }
        @else { code { (value::short(&of.start)) "…" (value::short(&of.end)) } }
        " " span.hint { (CHARACTERS.fill(lang, &[&of.characters])) }
    }
}
