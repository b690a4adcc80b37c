//! Mistakes in a callback with a valid signature: its message does not decrypt, is encrypted for
//! another app, or has a format that the sender's file does not read.

use super::advice::{Advice, phrase};
use super::{Mistake, MistakeKind};
use crate::sender::acts::outcome::Reason;
use crate::sender::language::definition::Reads;
use crate::sender::language::text::Text;
use crate::sender::request::callback::{Callback, CallbackError};

/// The mistake of a message that does not decrypt, or that is encrypted for another app.
pub(super) fn sealed_otherwise(
    rejection: &CallbackError,
    callback: &Callback<'_>,
) -> Option<Mistake> {
    let sender = &callback.recipe.sender;
    let setting = |text: Option<&Text>| {
        text.and_then(|text| text.spots().next()).map(|spot| spot.key.clone()).unwrap_or_default()
    };
    match (rejection.reason, &sender.open) {
        // A value that is not encoded as it should be is named; a cipher text is not.
        (Reason::BadEncoding, Some(open)) if rejection.parameter.is_none() => {
            let name = setting(Some(&open.key));
            let advice = Advice::new(
                format!(
                    "The signature is valid, and {name} does not decrypt the message: copy {name} \
                     from the sender's console again."
                ),
                format!("签名有效，但 {name} 解不开这条消息：请从发送方后台重新复制 {name}。"),
            );
            Some(Mistake::new(MistakeKind::SealingKey, Some(&name), advice))
        }
        (Reason::NotOurs, Some(open)) if rejection.parameter.is_none() => {
            let name = setting(open.frame.as_ref());
            let advice = Advice::new(
                format!(
                    "The message decrypts, and ends with another id than {name}: set {name} to the \
                     id of the app, company or suite that sends it."
                ),
                format!(
                    "消息可以解密，但结尾的标识与 {name} 不同：请将 {name} 设为发送它的应用、企业\
                     或套件的标识。"
                ),
            );
            Some(Mistake::new(MistakeKind::SealedForAnother, Some(&name), advice))
        }
        (Reason::NotOurs, _) => not_listed(rejection.parameter.as_deref()?, callback),
        _ => None,
    }
}

/// A value that the source does not list as its own.
fn not_listed(name: &str, callback: &Callback<'_>) -> Option<Mistake> {
    let mut all = callback.recipe.ours.iter();
    let ours = all.find(|ours| ours.of.spots().any(|spot| &*spot.name == name))?;
    let setting = &ours.setting;
    let value = callback.parameter(name);
    let shown = |open: &str, close: &str| {
        value.as_ref().map_or_else(String::new, |value| format!("{open}`{value}`{close}"))
    };
    let advice = Advice::new(
        format!(
            "The signature is valid, and its `{name}`{} is not listed in `{setting}` of the \
             source: add it there if it is yours.",
            shown(", ", "")
        ),
        format!(
            "签名有效，但来源的 `{setting}` 中没有列出它的 `{name}`{}：如果属于您，请添加到其中。",
            shown("（", "）")
        ),
    );
    Some(Mistake::new(MistakeKind::NotListed, Some(name), advice))
}

/// The mistake of a sender that is configured to send forms where its file reads none.
pub(super) fn written_otherwise(
    rejection: &CallbackError,
    callback: &Callback<'_>,
) -> Option<Mistake> {
    let reads_form = callback.recipe.sender.reads.contains(&Reads::Form);
    if rejection.reason != Reason::BadBody || reads_form || !is_form(callback.request.body) {
        return None;
    }
    let advice = phrase(
        "The body is a form, and the sender's file reads JSON: set the content type of the webhook \
         to application/json.",
        "请求体是表单，而该发送方的文件读取 JSON：请将 webhook 的内容类型设为 application/json。",
    );
    Some(Mistake::new(MistakeKind::ContentType, None, advice))
}

/// Whether a body begins with a name and `=`.
fn is_form(body: &[u8]) -> bool {
    let name = body.split(|byte| *byte == b'=').next().unwrap_or_default();
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.%+[]".contains(byte);
    name.len() < body.len() && !name.is_empty() && name.iter().all(is_of_name)
}
