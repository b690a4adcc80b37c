//! Sealed messages: AES in CBC as WeChat uses it, with an initialisation vector in front or taken
//! from the key, padding on blocks of 16 or 32 bytes, and a frame around the message, in both
//! directions; AES in GCM, which is only opened; and texts without a cipher.

use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use aes::{Aes128, Aes256};
use ring::aead;

use super::digest;
use crate::sender::language::definition::{AesKey, Cipher, Iv};
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

/// A sealed message, with what goes beside it in GCM.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sender) struct Sealed<'s> {
    pub(in crate::sender) text: &'s [u8],
    /// The nonce; empty in CBC.
    pub(in crate::sender) nonce: &'s [u8],
    /// Text that is authenticated and not sealed; empty in CBC.
    pub(in crate::sender) aad: &'s [u8],
}

impl Opener {
    /// The key that goes with the secret at `index`.
    fn key(&self, index: usize) -> Result<&[u8], Sealing> {
        let own = self.keys.get(index).or(self.keys.first());
        own.map(|key| key.as_slice()).ok_or(Sealing::Broken)
    }

    /// The message inside `sealed`, opened with the key of the secret at `index`.
    pub(in crate::sender) fn open(
        &self,
        sealed: &Sealed<'_>,
        index: usize,
    ) -> Result<Vec<u8>, Sealing> {
        let plain = match &self.with {
            Cipher::None => return Ok(sealed.text.to_vec()),
            Cipher::Gcm { key, .. } => return open_gcm(*key, self.key(index)?, sealed),
            Cipher::Cbc { key, iv, pad } => {
                let own = self.key(index)?;
                let (iv, text) = match iv {
                    Iv::Prefix => sealed.text.split_at_checked(BLOCK).ok_or(Sealing::Broken)?,
                    Iv::Key => (own.get(..BLOCK).ok_or(Sealing::Broken)?, sealed.text),
                };
                let mut plain = decrypt(*key, own, iv, text)?;
                plain.truncate(plain.len() - padding(&plain, *pad)?);
                plain
            }
        };
        match self.frame.as_slice() {
            [] => Ok(plain),
            ids => unframe(&plain, ids),
        }
    }

    /// `message`, sealed so that [`Self::open`] opens it. `salt` is random: the vector in front,
    /// or the first bytes of the frame. Empty where the gateway does not seal:
    /// [`Cipher::can_seal`].
    pub(in crate::sender) fn seal(
        &self,
        message: &[u8],
        salt: [u8; BLOCK],
        index: usize,
    ) -> Vec<u8> {
        let (Cipher::Cbc { key, iv, pad }, Ok(own)) = (&self.with, self.key(index)) else {
            return Vec::new();
        };
        let mut plain = match self.frame.first() {
            Some(frame) => framed(message, frame, salt),
            None => message.to_vec(),
        };
        let pad = usize::from(*pad) - plain.len() % usize::from(*pad);
        plain.resize(plain.len() + pad, u8::try_from(pad).unwrap_or_default());
        let (iv, head): (&[u8], &[u8]) = match iv {
            Iv::Prefix => (&salt, &salt),
            Iv::Key => (own.get(..BLOCK).unwrap_or_default(), &[]),
        };
        let text = encrypt(*key, own, iv, &plain).unwrap_or_default();
        [head, &text].concat()
    }
}

/// `text`, decrypted, with its padding.
fn decrypt(size: AesKey, key: &[u8], iv: &[u8], text: &[u8]) -> Result<Vec<u8>, Sealing> {
    if text.is_empty() || !text.len().is_multiple_of(BLOCK) {
        return Err(Sealing::Broken);
    }
    let plain = match size {
        AesKey::Bits128 => cbc::Decryptor::<Aes128>::new_from_slices(key, iv)
            .map(|cipher| cipher.decrypt_padded_vec::<NoPadding>(text)),
        AesKey::Bits256 => cbc::Decryptor::<Aes256>::new_from_slices(key, iv)
            .map(|cipher| cipher.decrypt_padded_vec::<NoPadding>(text)),
    };
    plain.map_err(|_| Sealing::Broken)?.map_err(|_| Sealing::Broken)
}

/// `plain`, whole blocks, encrypted; `None` if key or vector have another length.
fn encrypt(size: AesKey, key: &[u8], iv: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    match size {
        AesKey::Bits128 => cbc::Encryptor::<Aes128>::new_from_slices(key, iv)
            .map(|cipher| cipher.encrypt_padded_vec::<NoPadding>(plain)),
        AesKey::Bits256 => cbc::Encryptor::<Aes256>::new_from_slices(key, iv)
            .map(|cipher| cipher.encrypt_padded_vec::<NoPadding>(plain)),
    }
    .ok()
}

/// The message of an authenticated cipher text, whose last 16 bytes are its tag.
fn open_gcm(size: AesKey, key: &[u8], sealed: &Sealed<'_>) -> Result<Vec<u8>, Sealing> {
    let broken = |_| Sealing::Broken;
    let algorithm = match size {
        AesKey::Bits128 => &aead::AES_128_GCM,
        AesKey::Bits256 => &aead::AES_256_GCM,
    };
    let key = aead::LessSafeKey::new(aead::UnboundKey::new(algorithm, key).map_err(broken)?);
    let nonce = aead::Nonce::try_assume_unique_for_key(sealed.nonce).map_err(broken)?;
    let mut text = sealed.text.to_vec();
    let aad = aead::Aad::from(sealed.aad);
    let len = key.open_in_place(nonce, aad, &mut text).map_err(broken)?.len();
    text.truncate(len);
    Ok(text)
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
            with: Cipher::Cbc { key: AesKey::Bits256, iv, pad },
            keys: vec![Zeroizing::new(key)],
            frame: frame.iter().map(|frame| frame.as_bytes().to_vec()).collect(),
            slot: None,
            reads: Vec::new(),
        }
    }

    /// A cipher text without anything beside it.
    fn of(text: &[u8]) -> Sealed<'_> {
        Sealed { text, ..Sealed::default() }
    }

    const OWN: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";

    #[test]
    fn the_published_envelope_opens_and_the_published_reply_is_made() {
        let published = opener(&"A".repeat(43), Iv::Key, 32, Some("wxba5fad812f8e6fb9"));
        let sealed = crate::sender::request::encoding::unbase64(
            b"+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4RvQMkUyus8TPxLKJGQqcvZqzDpVzazhZv6JsXUnnR8XGT740XgXZUXQ7vJVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l5kdfMuFUPpRSrfMZuMcp3Fn2Pede2IuQrKEYwKSqFIZoNqJ4M8EajAsjLY2km32IIjdf8YL/P50F7mStwntrA2cPDrM1kb6mOcfBgRtWygb3VIYnSeOBrebufAlr7F9mFUPAJGj04=",
        )
        .unwrap();
        let message = published.open(&of(&sealed), 0).unwrap();
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
        assert_eq!(own.open(&of(&sealed), 0).unwrap(), [b'x'; 26]);
    }

    #[test]
    fn another_app_is_told_apart_from_rubbish() {
        let ours = opener(OWN, Iv::Key, 32, Some("wx-a"));
        let theirs = opener(OWN, Iv::Key, 32, Some("wx-b"));
        let sealed = theirs.seal(b"hello", [7; 16], 0);
        assert_eq!(ours.open(&of(&sealed), 0), Err(Sealing::NotOurs));
        assert_eq!(ours.open(&of(&sealed[1..]), 0), Err(Sealing::Broken));
        assert_eq!(ours.open(&of(b""), 0), Err(Sealing::Broken));
    }

    /// The message of the vendor's library for Go (core/notify).
    #[test]
    fn a_published_message_in_gcm_opens_with_its_key_nonce_and_data_alone() {
        let text = crate::sender::request::encoding::unbase64(
            b"YDS3lKPaC4Y52Gf3uhft5qUBlIa8b428AWTtTauHQfQrRw+X1WpiuHIDy0vo1Vd6VEq67aVyqPdDYMkRVSDaZL3iZttevRMOoPKMifozg6XPWjIZumks/GpT48lI4NizyeaqLBokNebthah3o1H76qSlO9NkDjp9bzmKLEYYH9TEklFUpsvPqOTOcgSLgh21YJXYR7dEBXFgRLiNIKRgO5JdXh1hccRUAlyVWxE54PXpnQ==",
        )
        .unwrap();
        let gcm = |key: &str, size| Opener {
            of: Vec::new(),
            with: Cipher::Gcm {
                key: size,
                nonce: crate::sender::language::text::Text::default(),
                aad: crate::sender::language::text::Text::default(),
            },
            keys: vec![Zeroizing::new(key.as_bytes().to_vec())],
            frame: Vec::new(),
            slot: None,
            reads: Vec::new(),
        };
        let right = Sealed { text: &text, nonce: b"Kj7QIyUiYx1q", aad: b"payscore" };
        let opener = gcm("testMchAPIv3Key0", AesKey::Bits128);
        let message = String::from_utf8(opener.open(&right, 0).unwrap()).unwrap();
        assert!(message.starts_with(r#"{"mchid":"1234567890","#), "{message}");
        let wrong = [
            Sealed { nonce: b"Kj7QIyUiYx1r", ..right },
            Sealed { nonce: b"Kj7QIyUiYx1", ..right },
            Sealed { aad: b"payscor", ..right },
            Sealed { text: &text[1..], ..right },
            Sealed { text: &text[..text.len() - 1], ..right },
            Sealed { text: b"", ..right },
        ];
        for sealed in wrong {
            assert_eq!(opener.open(&sealed, 0), Err(Sealing::Broken), "{sealed:?}");
        }
        let other = gcm("testMchAPIv3Key1", AesKey::Bits128);
        assert_eq!(other.open(&right, 0), Err(Sealing::Broken));
        let short = gcm("testMchAPIv3Key0", AesKey::Bits256);
        assert_eq!(short.open(&right, 0), Err(Sealing::Broken));
        assert!(opener.seal(b"x", [7; 16], 0).is_empty(), "GCM is only opened");
    }

    proptest::proptest! {
        #[test]
        fn what_is_sealed_opens(message: Vec<u8>, salt: [u8; 16]) {
            for (iv, pad, frame) in [(Iv::Key, 32, Some("wx")), (Iv::Prefix, 16, None)] {
                let opener = opener(OWN, iv, pad, frame);
                let sealed = opener.seal(&message, salt, 0);
                proptest::prop_assert_eq!(opener.open(&of(&sealed), 0).unwrap(), &message[..]);
            }
        }

        #[test]
        fn any_bytes_open_or_do_not(sealed: Vec<u8>) {
            let _ = opener(OWN, Iv::Key, 32, Some("wx")).open(&of(&sealed), 0);
            let _ = opener(OWN, Iv::Prefix, 16, None).open(&of(&sealed), 0);
        }
    }
}
