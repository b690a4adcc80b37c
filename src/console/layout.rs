//! The frame of every page: head, navigation, language, session.

use maud::{DOCTYPE, Markup, html};

use super::area::Area;
use super::assets;
use super::components::form;
use super::lang::Lang;
use super::session::SignIn;
use super::text::texts;
use super::visit::Visit;

texts! {
    SKIP = "Skip to content", "跳到正文";
    AREAS = "Navigation", "导航";
    LANGUAGE = "Language", "语言";
    SIGN_IN = "Sign in to make changes", "登录后可更改";
    SIGN_OUT = "Sign out", "退出登录";
    SIGNED_IN = "Signed in: {}", "已登录：{}";
    READ_ONLY = "read-only", "只读";
    SUPPORT = "support", "客服";
    MENU = "Menu", "菜单";
    FIND = "Find anything", "查找";
    FIND_HINT = "User, transaction, event, URL, curl, log line …  ( / )", "用户、交易号、事件、URL、curl、日志……（按 / 键）";
    GO = "Find", "查找";
    ZONE = "Times are in UTC.", "时间均为 UTC。";
    ZONE_LOCAL = "Times are in your time zone ({zone}); point at one for UTC.", "时间为您所在时区（{zone}）；指向时间可查看 UTC。";
    COPIED = "Copied", "已复制";
    VERSION = "Postern {}", "Postern {}";
}

/// A whole page.
pub(super) fn page(visit: &Visit, title: &str, middle: &Markup) -> Markup {
    let lang = visit.lang;
    html! {
        (DOCTYPE)
        html lang=(lang.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · Postern" }
                link rel="icon" type="image/svg+xml" href=(assets::ICON.path);
                link rel="stylesheet" href=(assets::STYLE.path);
                script src=(assets::SCRIPT.path) defer {}
            }
            body {
                a.skip href="#content" { (SKIP.of(lang)) }
                header.top {
                    a.brand href="/console" { img src=(assets::ICON.path) alt="" width="20" height="20"; "Postern" }
                    @if visit.viewer.entry != SignIn::Outside {
                        button.menu.quiet type="button" popovertarget="areas" { (MENU.of(lang)) }
                        (search(visit))
                    }
                    (corner(visit))
                    @if visit.viewer.entry != SignIn::Outside { (navigation(visit)) }
                }
                main #content tabindex="-1" {
                    h1 { (title) }
                    (middle)
                }
                footer {
                    p #zone data-zone=(ZONE_LOCAL.of(lang)) { (ZONE.of(lang)) }
                    p { (VERSION.fill(lang, &[&env!("CARGO_PKG_VERSION")])) }
                }
                p #said.unseen role="status" data-copied=(COPIED.of(lang)) {}
            }
        }
    }
}

/// The box that takes anything. It posts: a pasted callback may hold a signature, which belongs in no
/// address.
fn search(visit: &Visit) -> Markup {
    let lang = visit.lang;
    html! {
        search {
            (form::to(visit, Area::Find.path(), &html! {
                textarea #find name="q" rows="1" aria-label=(FIND.of(lang)) placeholder=(FIND_HINT.of(lang))
                    spellcheck="false" autocapitalize="off" autocomplete="off" enterkeyhint="search" {}
                button.quiet type="submit" { (GO.of(lang)) }
            }))
        }
    }
}

fn navigation(visit: &Visit) -> Markup {
    let current = visit.area.navigation_area();
    html! {
        nav #areas popover="auto" aria-label=(AREAS.of(visit.lang)) {
            ul {
                @for area in Area::IN_NAVIGATION.into_iter().filter(|area| visit.viewer.may_see(*area)) {
                    li {
                        a href=(area.path()) aria-current=[(area == current).then_some("page")] {
                            (area.title().of(visit.lang))
                        }
                    }
                }
            }
        }
    }
}

/// The language choice and the sign-out button.
fn corner(visit: &Visit) -> Markup {
    let lang = visit.lang;
    html! {
        div.corner {
            ul.languages aria-label=(LANGUAGE.of(lang)) {
                @for other in Lang::ALL {
                    li {
                        a href=(visit.in_language(other)) lang=(other.tag())
                            hreflang=(other.tag())
                            aria-current=[(other == lang).then_some("true")] { (other.own_name()) }
                    }
                }
            }
            @if visit.viewer.entry == SignIn::Open {
                p.who { a href=(Area::SignIn.path()) { (SIGN_IN.of(lang)) } }
            }
            @if visit.viewer.entry == SignIn::SignedIn {
                p.who {
                    (SIGNED_IN.fill(lang, &[&visit.viewer.who.as_str()]))
                    @if !visit.viewer.may_support() { " (" (READ_ONLY.of(lang)) ")" }
                    @else if !visit.viewer.may_change() { " (" (SUPPORT.of(lang)) ")" }
                }
                (form::to(visit, Area::SignOut.path(), &html! {
                    button.quiet type="submit" { (SIGN_OUT.of(lang)) }
                }))
            }
        }
    }
}
