//! Senders: the searchable catalog, and the contract of each sender.

pub(super) mod contract;
mod phrases;

use std::sync::Arc;

use maud::{Markup, html};

use crate::config::Config;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::form::{self, Field};
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::{notice, value};
use crate::console::fields::segment;
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::sender::{Basis, Sender};

/// Characters shown around a match.
const PLACE_CHARACTERS: usize = 60;

texts! {
    SEARCH = "Name, title, parameter or other part of the contract", "名称、标题、参数或对接约定中的其他内容";
    GO = "Search senders", "搜索发送方";
    CLEAR = "Clear filter", "清除筛选";
    COUNT = "{} of {} senders", "{} / {} 个发送方";
    NAME = "Sender", "发送方";
    TITLE = "Platform", "平台";
    BASIS = "Based on", "依据";
    CALLS = "Method", "请求方法";
    OPEN = "Unconfirmed", "未经平台证实";
    SOURCES = "Sources", "来源";
    FOUND = "Match", "匹配内容";
    DOCUMENTATION = "Documentation", "官方文档";
    IMPLEMENTATIONS = "Implementations", "现有实现";
    NONE = "No sender matches. To add your own, write a file: postern senders NAME --toml prints one to start from.",
        "没有匹配的发送方。可编写文件添加自己的发送方：postern senders NAME --toml 会打印一个可作起点的文件。";
    UNCONFIRMED = "{} points of this contract are not confirmed by the platform. They are listed below.", "此对接约定有 {} 点未经平台证实，见下文。";
    ALL = "All senders", "全部发送方";
    EXAMPLE = "Example source", "来源示例";
    PASTE_TOOLS = "postern url SOURCE prints the URL to paste. postern sign SOURCE … creates a test callback.",
        "postern url SOURCE 打印要粘贴的 URL，postern sign SOURCE … 生成测试回调。";
    NO_SOURCE = "None", "无";
    FILE = "Sender file", "发送方文件";
}

pub(crate) async fn get(console: &Console, visit: &Visit) -> PageResult {
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
    /// The text around the match in the file; `None` if the name or the title matches.
    place: Option<String>,
}

/// Finds the senders with all words of `text`; matches in name or title come first.
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

/// The part of a line around the first of `words`.
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
    // Without a search there is no match column.
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
        (DataTable::new(Caption::Shown(&caption), &columns[..shown], NONE).show(lang, &rows))
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

fn one(config: &Config, visit: &Visit, name: &str) -> PageResult {
    let lang = visit.lang;
    let sender = config.catalog.get(name).ok_or(PageError::Absent)?;
    let open = sender.unconfirmed().len();
    let middle = html! {
        p { (value::whole(sender.title())) }
        @if open > 0 {
            (notice::notice(notice::Tone::Plain, &UNCONFIRMED.fill(lang, &[&open])))
        }
        p { (SOURCES.of(lang)) (lang.colon()) (sources(config, lang, sender)) }
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
    fn the_excerpt_contains_the_match() {
        let long = format!("{}reward_Amount{}", "é".repeat(200), "x".repeat(200));
        let shown = around(&long, &["reward_amount"]);
        assert!(shown.contains("reward_Amount") && shown.starts_with('…') && shown.ends_with('…'));
        assert_eq!(around("a = b", &["b"]), "a = b");
        // The lower case of this letter is longer.
        assert!(!around(&"İ".repeat(50), &["i"]).is_empty());
    }
}
