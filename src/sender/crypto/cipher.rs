//! AES-256-CBC as WeChat uses it: an initialisation vector in front or taken from the key, padding
//! on blocks of 16 or 32 bytes, and a frame around the message. Both directions.

use aes::Aes256;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};

use super::digest;
use crate::sender::language::definition::Iv;
use crate::sender::language::recipe::Opener;

/// Bytes of an AES block.
const BLOCK: usize = 16;

/// Random bytes and length in front of a framed message.
const FRAME_HEAD: usize = 20;

/// Why a message does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Sealing {
    /// Not a valid cipher text.
    Broken,
    /// A valid cipher text with the id of another app.
    NotOurs,
}

impl Opener {
    /// The key that goes with the secret at `index`.
    fn key(&self, index: usize) -> Result<&[u8; 32], Sealing> {
        let own = self.keys.get(index).or(self.keys.first());
        own.map(|key| &**key).ok_or(Sealing::Broken)
    }

    /// The message inside `sealed`, opened with the key of the secret at `index`.
    pub(in crate::sender) fn open(&self, sealed: &[u8], index: usize) -> Result<Vec<u8>, Sealing> {
        let key = self.key(index)?;
        let (iv, text) = match self.iv {
            Iv::Prefix => sealed.split_at_checked(BLOCK).ok_or(Sealing::Broken)?,
            Iv::Key => (&key[..BLOCK], sealed),
        };
        let iv: &[u8; BLOCK] = iv.try_into().map_err(|_| Sealing::Broken)?;
        if text.is_empty() || text.len() % BLOCK != 0 {
            return Err(Sealing::Broken);
        }
        let mut plain = cbc::Decryptor::<Aes256>::new(key.into(), iv.into())
            .decrypt_padded_vec::<NoPadding>(text)
            .map_err(|_| Sealing::Broken)?;
        let padded = plain.len();
        plain.truncate(padded - padding(&plain, self.pad)?);
        match self.frame.as_slice() {
            [] => Ok(plain),
            ids => unframe(&plain, ids),
        }
    }

    /// `message`, sealed so that [`Self::open`] opens it. `salt` is random: the vector in front,
    /// or the first bytes of the frame.
    pub(in crate::sender) fn seal(
        &self,
        message: &[u8],
        salt: [u8; BLOCK],
        index: usize,
    ) -> Vec<u8> {
        let Ok(key) = self.key(index) else { return Vec::new() };
        let mut plain = match self.frame.first() {
            Some(frame) => framed(message, frame, salt),
            None => message.to_vec(),
        };
        let pad = usize::from(self.pad) - plain.len() % usize::from(self.pad);
        plain.resize(plain.len() + pad, u8::try_from(pad).unwrap_or_default());
        let mut own = [0; BLOCK];
        own.copy_from_slice(&key[..BLOCK]);
        let (iv, head): ([u8; BLOCK], &[u8]) = match self.iv {
            Iv::Prefix => (salt, &salt),
            Iv::Key => (own, &[]),
        };
        let text = cbc::Encryptor::<Aes256>::new(key.into(), (&iv).into())
            .encrypt_padded_vec::<NoPadding>(&plain);
        [head, &text].concat()
    }
}

/// Bytes of PKCS#7 padding on blocks of `block` bytes. Every padding byte is checked.
fn padding(plain: &[u8], block: u8) -> Result<usize, Sealing> {
    let pad = *plain.last().ok_or(Sealing::Broken)?;
    let len = usize::from(pad);
    if pad == 0 || pad > block || len > plain.len() {
        return Err(Sealing::Broken);
    }
    let wrong = plain[plain.len() - len..].iter().fold(0, |wrong, byte| wrong | (byte ^ pad));
    if wrong == 0 { Ok(len) } else { Err(Sealing::Broken) }
}

/// 16 random bytes, the length in 4, the message, the app's id.
fn framed(message: &[u8], frame: &[u8], salt: [u8; BLOCK]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&salt[..], &len.to_be_bytes(), message, frame].concat()
}

fn unframe(plain: &[u8], ids: &[Vec<u8>]) -> Result<Vec<u8>, Sealing> {
    let (head, rest) = plain.split_at_checked(FRAME_HEAD).ok_or(Sealing::Broken)?;
    let len: [u8; 4] = head[BLOCK..].try_into().map_err(|_| Sealing::Broken)?;
    let len = usize::try_from(u32::from_be_bytes(len)).map_err(|_| Sealing::Broken)?;
    let (message, id) = rest.split_at_checked(len).ok_or(Sealing::Broken)?;
    let is_ours = ids.iter().any(|own| digest::same(id, own));
    if is_ours { Ok(message.to_vec()) } else { Err(Sealing::NotOurs) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn opener(key: &str, iv: Iv, pad: u8, frame: Option<&str>) -> Opener {
        let key = crate::sender::request::encoding::unbase64(key.as_bytes()).unwrap();
        Opener {
            of: Vec::new(),
            keys: vec![Zeroizing::new(key.try_into().unwrap())],
            iv,
            pad,
            frame: frame.iter().map(|frame| frame.as_bytes().to_vec()).collect(),
            slot: None,
            reads: Vec::new(),
        }
    }

    const OWN: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";

    #[test]
    fn the_published_envelope_opens_and_the_published_reply_is_made() {
        let published = opener(&"A".repeat(43), Iv::Key, 32, Some("wxba5fad812f8e6fb9"));
        let sealed = crate::sender::request::encoding::unbase64(
            b"+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4RvQMkUyus8TPxLKJGQqcvZqzDpVzazhZv6JsXUnnR8XGT740XgXZUXQ7vJVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l5kdfMuFUPpRSrfMZuMcp3Fn2Pede2IuQrKEYwKSqFIZoNqJ4M8EajAsjLY2km32IIjdf8YL/P50F7mStwntrA2cPDrM1kb6mOcfBgRtWygb3VIYnSeOBrebufAlr7F9mFUPAJGj04=",
        )
        .unwrap();
        let message = published.open(&sealed, 0).unwrap();
        assert_eq!(message.len(), 167);
        assert!(String::from_utf8(message).unwrap().contains("debug_demo"));
        let reply = published.seal(br#"{"demo_resp":"good luck"}"#, *b"707722b803182950", 0);
        assert_eq!(
            crate::sender::request::encoding::base64(&reply),
            "ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ==",
        );
    }

    #[test]
    fn a_full_extra_block_of_padding() {
        let own = opener(OWN, Iv::Key, 32, Some("wx0000000000000001"));
        let sealed = own.seal(&[b'x'; 26], *b"QRSTUVWXYZ012345", 0);
        assert_eq!(
            crate::sender::request::encoding::base64(&sealed),
            "803n0Y90N3nweU1QdPoBFVRKQ3uJAVWZwFDicoRv7aTt2soTnqj8Tn4H9uSLqZo6sq56bBKFTfQ1FXqZo4Xfy4vCDR3dEzKzgHCySCayVXmQt3FA1oRCm4OeuOTSmUzm",
        );
        assert_eq!(own.open(&sealed, 0).unwrap(), [b'x'; 26]);
    }

    #[test]
    fn another_app_is_told_apart_from_rubbish() {
        let ours = opener(OWN, Iv::Key, 32, Some("wx-a"));
        let theirs = opener(OWN, Iv::Key, 32, Some("wx-b"));
        let sealed = theirs.seal(b"hello", [7; 16], 0);
        assert_eq!(ours.open(&sealed, 0), Err(Sealing::NotOurs));
        assert_eq!(ours.open(&sealed[1..], 0), Err(Sealing::Broken));
        assert_eq!(ours.open(b"", 0), Err(Sealing::Broken));
    }

    proptest::proptest! {
        #[test]
        fn what_is_sealed_opens(message: Vec<u8>, salt: [u8; 16]) {
            for (iv, pad, frame) in [(Iv::Key, 32, Some("wx")), (Iv::Prefix, 16, None)] {
                let opener = opener(OWN, iv, pad, frame);
                let sealed = opener.seal(&message, salt, 0);
                proptest::prop_assert_eq!(opener.open(&sealed, 0).unwrap(), &message[..]);
            }
        }

        #[test]
        fn any_bytes_open_or_do_not(sealed: Vec<u8>) {
            let _ = opener(OWN, Iv::Key, 32, Some("wx")).open(&sealed, 0);
            let _ = opener(OWN, Iv::Prefix, 16, None).open(&sealed, 0);
        }
    }
}
