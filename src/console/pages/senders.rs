//! Senders: the catalog, searched, and the contract of each as its file says it.

mod contract;
mod phrases;

use std::sync::Arc;

use maud::{Markup, html};

use crate::config::Config;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::form::{self, Field};
use crate::console::components::{notice, table, value};
use crate::console::fields::segment;
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::reply::{Reply, Shown};
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::sender::{Basis, Sender};

/// Characters of a line that are shown around what was searched for.
const PLACE_CHARACTERS: usize = 60;

texts! {
    SEARCH = "Name, title, parameter or anything else of its contract", "名称、标题、参数或合约中的任何内容";
    GO = "Search", "搜索";
    CLEAR = "Clear", "清除";
    COUNT = "{} of {} senders", "{} / {} 个发送方";
    NAME = "Sender", "发送方";
    TITLE = "Platform", "平台";
    BASIS = "Rests on", "依据";
    CALLS = "Calls with", "请求方法";
    OPEN = "Not confirmed", "未证实";
    SOURCES = "Sources here", "本网关的来源";
    FOUND = "Found in", "匹配内容";
    DOCUMENTATION = "documentation", "官方文档";
    IMPLEMENTATIONS = "implementations", "现有实现";
    NONE = "No sender has that in its contract. One of your own is a file: postern senders NAME --toml shows one to begin with.",
        "没有发送方的合约包含该内容。可用一个文件添加自己的发送方：postern senders NAME --toml 可作为起点。";
    UNCONFIRMED = "{} points of this contract are not confirmed by anybody outside; they are listed below.",
        "此合约有 {} 点未经外部证实，见下文。";
    ALL = "All senders", "全部发送方";
    EXAMPLE = "A source of it", "来源示例";
    PASTE_TOOLS = "postern url SOURCE prints the address to paste, postern sign SOURCE … makes a callback to try it with.",
        "postern url SOURCE 打印要粘贴的地址，postern sign SOURCE … 生成用于测试的回调。";
    NO_SOURCE = "none", "无";
    FILE = "The file that says all this", "合约文件原文";
}

pub async fn get(console: &Console, visit: &Visit) -> Shown {
    let config = console.config();
    match visit.rest().as_slice() {
        [] => Ok(list(&config, visit)),
        [name] => one(&config, visit, name),
        _ => Err(PageError::Absent),
    }
}

// === The catalog ===

/// A sender that a search finds.
struct Found<'c> {
    sender: &'c Arc<Sender>,
    /// What stands around what was searched for in its file; `None` where name or title has it.
    place: Option<String>,
}

/// Every sender that has all words of `text`: those with them in name or title first.
fn search<'c>(config: &'c Config, text: &str) -> Vec<Found<'c>> {
    let text = text.to_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    let has = |hay: &str| words.iter().all(|word| hay.to_lowercase().contains(word));
    let by_name = |sender: &Arc<Sender>| has(&format!("{} {}", sender.name(), sender.title()));
    let named = config.catalog.iter().filter(|sender| by_name(sender));
    let others = config.catalog.iter().filter(|sender| !by_name(sender) && has(sender.text()));
    let named = named.map(|sender| Found { sender, place: None });
    let others = others.map(|sender| {
        let lines = || sender.text().lines().map(str::trim);
        let first = |line: &&str| words.iter().any(|word| line.to_lowercase().contains(word));
        let line = lines().find(|line| has(line)).or_else(|| lines().find(first));
        Found { sender, place: line.map(|line| around(line, &words)) }
    });
    named.chain(others).collect()
}

/// The part of a long line that has one of `words`.
fn around(line: &str, words: &[&str]) -> String {
    let at = words.iter().find_map(|word| line.to_lowercase().find(word)).unwrap_or(0);
    let from = line.floor_char_boundary(at.saturating_sub(PLACE_CHARACTERS / 3));
    let text: String = line[from..].chars().take(PLACE_CHARACTERS).collect();
    let (before, after) = (from > 0, from + text.len() < line.len());
    format!("{}{text}{}", if before { "…" } else { "" }, if after { "…" } else { "" })
}

fn list(config: &Config, visit: &Visit) -> Reply {
    let lang = visit.lang;
    let wanted = visit.query.text("q").unwrap_or_default();
    let found = search(config, wanted);
    let rows: Vec<Vec<Markup>> = found.iter().map(|one| row(config, lang, one)).collect();
    let caption = COUNT.fill(lang, &[&found.len(), &config.catalog.iter().count()]);
    let columns = [NAME, TITLE, BASIS, CALLS, OPEN, SOURCES, FOUND];
    // Without a search nothing was found in anything.
    let shown = if wanted.is_empty() { columns.len() - 1 } else { columns.len() };
    let rows: Vec<Vec<Markup>> =
        rows.into_iter().map(|row| row.into_iter().take(shown).collect()).collect();
    let middle = html! {
        (form::ask(Area::Senders.path(), &html! {
            div.grow {
                (Field { value: wanted, kind: "search", ..Field::new("q", SEARCH) }.show(lang))
            }
            button type="submit" { (GO.of(lang)) }
            a href=(Area::Senders.path()) { (CLEAR.of(lang)) }
        }))
        (table::table(lang, &caption, &columns[..shown], &rows, NONE))
    };
    Reply::Page(Area::Senders.title().of(lang).to_owned(), middle)
}

fn row(config: &Config, lang: Lang, Found { sender, place }: &Found<'_>) -> Vec<Markup> {
    let basis = sender.basis().map(|basis| match basis {
        Basis::Documentation => DOCUMENTATION.of(lang),
        Basis::Implementations => IMPLEMENTATIONS.of(lang),
    });
    let methods: Vec<&str> = sender.methods().iter().map(http::Method::as_str).collect();
    let name = html! { a href=(path(sender.name())) { code { (sender.name()) } } };
    let open =
        html! { @match sender.unconfirmed().len() { 0 => (value::maybe(None)), some => (some) } };
    let found = html! {
        @match place { Some(place) => code { (value::short(place)) }, None => (value::maybe(None)) }
    };
    vec![
        name,
        value::short(sender.title()),
        value::maybe(basis),
        html! { code { (methods.join(", ")) } },
        open,
        sources(config, lang, sender),
        found,
    ]
}

fn sources(config: &Config, lang: Lang, sender: &Sender) -> Markup {
    let of = |source: &&Arc<crate::config::Source>| source.recipe.sender().name() == sender.name();
    let all: Vec<&str> =
        config.sources.values().filter(of).map(|source| source.name.as_str()).collect();
    html! {
        @for (at, name) in all.iter().enumerate() {
            @if at > 0 { ", " }
            a href=(format!("{}/{}", Area::Sources.path(), segment(name))) { (value::short(name)) }
        }
        @if all.is_empty() { span.absent { (NO_SOURCE.of(lang)) } }
    }
}

fn path(name: &str) -> String {
    format!("{}/{}", Area::Senders.path(), segment(name))
}

// === One of them ===

fn one(config: &Config, visit: &Visit, name: &str) -> Shown {
    let lang = visit.lang;
    let sender = config.catalog.get(name).ok_or(PageError::Absent)?;
    let open = sender.unconfirmed().len();
    let middle = html! {
        p { (value::whole(sender.title())) }
        @if open > 0 {
            (notice::notice(notice::Tone::Plain, &UNCONFIRMED.fill(lang, &[&open])))
        }
        p { (SOURCES.of(lang)) ": " (sources(config, lang, sender)) }
        (contract::parts(lang, sender))
        details {
            summary { (FILE.of(lang)) }
            (value::block(sender.text()))
        }
        p { a href=(Area::Senders.path()) { (ALL.of(lang)) } }
    };
    Ok(Reply::Page(sender.name().to_owned(), middle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_searched_for_is_in_what_is_shown() {
        let long = format!("{}reward_Amount{}", "é".repeat(200), "x".repeat(200));
        let shown = around(&long, &["reward_amount"]);
        assert!(shown.contains("reward_Amount") && shown.starts_with('…') && shown.ends_with('…'));
        assert_eq!(around("a = b", &["b"]), "a = b");
        // Letters whose small form is longer than they are.
        assert!(!around(&"İ".repeat(50), &["i"]).is_empty());
    }
}
