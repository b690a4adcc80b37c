//! Why an attempt of a delivery failed, as a closed set with a text in each language. Attempts keep the
//! English description of the error, with its causes; the kind is read from that.

use maud::{Markup, html};

use super::components::value;
use super::lang::Lang;
use super::messages;
use super::text::Text;

/// A kind of failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptError {
    /// No response within the timeout.
    Late,
    /// Nothing listens there.
    ConnectionRefused,
    /// No way to the address.
    Unreachable,
    /// No connection in time.
    ConnectionTimeout,
    /// The host name has no address.
    UnknownHost,
    /// The egress guard does not allow the address.
    ForbiddenAddress,
    /// The certificate of the server has expired.
    ExpiredCertificate,
    /// The certificate of the server is for another name.
    OtherName,
    /// The certificate of the server, or of its issuer, is not trusted.
    UnknownIssuer,
    /// TLS failed in another way.
    Tls,
    /// The connection broke before a response.
    ConnectionClosed,
    /// The response is not HTTP.
    NotHttp,
    /// A redirect, which is not followed.
    Redirect,
    /// Status 410.
    Gone,
    /// The connection broke before the verdict was complete.
    VerdictCut,
    /// An unreadable verdict, which is asked for again.
    VerdictRepeated,
    /// An unreadable verdict of a delivery that is done.
    VerdictUnreadable,
    /// A verdict after the sender was answered.
    VerdictLate,
    /// The URL cannot tell a test event from a grant.
    WithheldTest,
    /// The URL cannot tell the withdrawal of a reward from a grant.
    WithheldRevoke,
    /// The URL cannot tell an event without effect from a grant.
    WithheldNoEffect,
    /// The values of the event make no valid URL.
    InvalidUrl,
    /// The stored event cannot be read.
    UnreadableEvent,
    /// A certificate or key of the destination is unusable.
    ClientCertificate,
}

impl AttemptError {
    /// All of them, each with a part of its description that no other has. The first that is found
    /// counts.
    const ALL: [(Self, &'static str); 33] = [
        (Self::VerdictCut, "the connection broke before the verdict"),
        (Self::VerdictRepeated, "the verdict is unreadable"),
        // As an older version wrote it.
        (Self::VerdictRepeated, "the verdict is invalid"),
        (Self::VerdictUnreadable, "the verdict cannot be read"),
        (Self::VerdictLate, "the verdict came after"),
        (Self::WithheldTest, "not sent: a test event"),
        (Self::WithheldRevoke, "not sent: takes a reward back"),
        (Self::WithheldNoEffect, "not sent: grants nothing"),
        (Self::InvalidUrl, "the destination's URL is invalid"),
        (Self::UnreadableEvent, "the stored event cannot be decoded"),
        (Self::Redirect, "redirects are not followed"),
        (Self::Gone, "answered 410"),
        (Self::ForbiddenAddress, "may not be reached"),
        (Self::UnknownHost, "dns error"),
        (Self::UnknownHost, "failed to lookup address"),
        (Self::ConnectionRefused, "Connection refused"),
        (Self::Unreachable, "No route to host"),
        (Self::Unreachable, "Network is unreachable"),
        (Self::ConnectionTimeout, "Connection timed out"),
        (Self::ConnectionTimeout, "tcp connect error: deadline has elapsed"),
        (Self::ExpiredCertificate, "certificate: Expired"),
        (Self::ExpiredCertificate, "certificate expired"),
        (Self::OtherName, "the certificate is not valid for this name"),
        (Self::UnknownIssuer, "UnknownIssuer"),
        (Self::Tls, "invalid peer certificate"),
        (Self::Tls, "received corrupt message"),
        (Self::Tls, "received fatal alert"),
        (Self::ClientCertificate, "certificate or key:"),
        (Self::NotHttp, "invalid HTTP"),
        (Self::ConnectionClosed, "Connection reset"),
        (Self::ConnectionClosed, "Broken pipe"),
        (Self::ConnectionClosed, "connection closed"),
        (Self::Late, "no answer in time"),
    ];

    /// The kind of a description; `None`: one that is not known.
    fn of(description: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(_, part)| description.contains(part)).map(|(kind, _)| kind)
    }

    const fn text(self) -> Text {
        match self {
            Self::Late => Text::new("No response in time", "未在限定时间内响应"),
            Self::ConnectionRefused => Text::new("Connection refused", "连接被拒绝"),
            Self::Unreachable => Text::new("Host not reachable", "无法到达主机"),
            Self::ConnectionTimeout => Text::new("Connection timed out", "连接超时"),
            Self::UnknownHost => Text::new("Unknown host name", "无法解析主机名"),
            Self::ForbiddenAddress => Text::new("Address not allowed", "地址不允许访问"),
            Self::ExpiredCertificate => Text::new("Certificate expired", "证书已过期"),
            Self::OtherName => Text::new("Certificate of another name", "证书与主机名不符"),
            Self::UnknownIssuer => Text::new("Certificate not trusted", "证书不受信任"),
            Self::Tls => Text::new("TLS failed", "TLS 握手失败"),
            Self::ConnectionClosed => Text::new("Connection closed", "连接中断"),
            Self::NotHttp => Text::new("Response is not HTTP", "响应不是 HTTP"),
            Self::Redirect => Text::new("Redirect, not followed", "重定向，不跟随"),
            Self::Gone => Text::new("Accepts no more deliveries", "不再接受投递"),
            Self::VerdictCut => Text::new("Verdict incomplete", "判定不完整"),
            Self::VerdictRepeated => {
                Text::new("Unreadable verdict, asked again", "判定无法识别，将再次请求")
            }
            Self::VerdictUnreadable => Text::new("Unreadable verdict", "判定无法识别"),
            Self::VerdictLate => Text::new("Late verdict", "判定迟到"),
            Self::WithheldTest => {
                Text::new("Not sent: the URL cannot show a test", "未发送：URL 无法标明测试")
            }
            Self::WithheldRevoke => {
                Text::new("Not sent: the URL cannot show a withdrawal", "未发送：URL 无法标明撤回")
            }
            Self::WithheldNoEffect => Text::new(
                "Not sent: the URL cannot show that nothing is granted",
                "未发送：URL 无法标明不发放",
            ),
            Self::InvalidUrl => Text::new("Invalid URL", "URL 无效"),
            Self::UnreadableEvent => Text::new("Stored event unreadable", "已存储的事件无法读取"),
            Self::ClientCertificate => Text::new(
                "Certificate or key of the destination unusable",
                "目标的证书或私钥不可用",
            ),
        }
    }
}

/// The error of an attempt in words, with its description beside.
pub(super) fn shown(lang: Lang, description: &str) -> Markup {
    match AttemptError::of(description) {
        Some(kind) => html! { (kind.text().of(lang)) " " (messages::detail(description)) },
        None => html! { span lang="en" { (value::whole(description)) } },
    }
}

/// The error of an attempt in words; one that is not known as it is described.
pub(super) fn words(lang: Lang, description: &str) -> String {
    let kind = AttemptError::of(description);
    kind.map_or_else(|| description.to_owned(), |kind| kind.text().of(lang).to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use bytes::Bytes;
    use http::Request;
    use http_body_util::Full;

    use super::*;
    use crate::egress::{Client, Guard, Trust, Trusted, error_text};

    async fn description(url: &str) -> String {
        let guard = Guard::new(Trust::File, Vec::new());
        let client = Client::new(Trusted::default(), 0, guard).unwrap();
        let request = Request::builder().uri(url).body(Full::<Bytes>::default()).unwrap();
        error_text(&client.exchange(request).await.unwrap_err())
    }

    #[tokio::test]
    async fn real_errors_are_recognized() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = description(&format!("http://{closed}/")).await;
        assert_eq!(AttemptError::of(&refused), Some(AttemptError::ConnectionRefused), "{refused}");
        let unknown = description("http://no-such-host.invalid/").await;
        assert_eq!(AttemptError::of(&unknown), Some(AttemptError::UnknownHost), "{unknown}");
        let metadata = description("http://169.254.169.254/").await;
        assert_eq!(AttemptError::of(&metadata), Some(AttemptError::ForbiddenAddress), "{metadata}");
        for (says, kind) in [
            (&b"not http at all\r\n\r\n"[..], AttemptError::NotHttp),
            (b"", AttemptError::ConnectionClosed),
        ] {
            let server = TcpListener::bind("127.0.0.1:0").unwrap();
            let at = server.local_addr().unwrap();
            let answer = std::thread::spawn(move || {
                use std::io::{Read as _, Write as _};
                let (mut stream, _) = server.accept().unwrap();
                let _ = stream.read(&mut [0; 1024]);
                stream.write_all(says).unwrap();
            });
            let said = description(&format!("http://{at}/")).await;
            answer.join().unwrap();
            assert_eq!(AttemptError::of(&said), Some(kind), "{said}");
        }
        // TLS to a server that speaks something else.
        let plain = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = plain.local_addr().unwrap();
        std::thread::spawn(move || {
            use std::io::Write as _;
            plain.accept().unwrap().0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        });
        let tls = description(&format!("https://{at}/")).await;
        assert_eq!(AttemptError::of(&tls), Some(AttemptError::Tls), "{tls}");
    }

    #[test]
    fn what_an_attempt_says_itself_is_recognized() {
        for (said, kind) in [
            ("the verdict came after the sender was answered", AttemptError::VerdictLate),
            ("no answer in time", AttemptError::Late),
            ("redirects are not followed", AttemptError::Redirect),
            (
                "client error (Connect): invalid peer certificate: Expired",
                AttemptError::ExpiredCertificate,
            ),
            (
                "client error (Connect): invalid peer certificate: UnknownIssuer",
                AttemptError::UnknownIssuer,
            ),
        ] {
            assert_eq!(AttemptError::of(said), Some(kind), "{said}");
        }
        assert_eq!(words(Lang::Zh, "something new"), "something new");
        for (kind, part) in AttemptError::ALL {
            assert_eq!(AttemptError::of(part), Some(kind), "a more general part precedes {part}");
        }
    }
}
