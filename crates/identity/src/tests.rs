use std::io::ErrorKind;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::*;

fn identity() -> Identity {
    Identity::generate().unwrap()
}

#[tokio::test]
async fn both_sides_know_each_other_by_their_keys() {
    let (machine, manager) = (identity(), identity());
    let (near, far) = duplex(1 << 14);
    let acceptor = Acceptor::new(&manager).unwrap();
    let accept = tokio::spawn(async move {
        let (mut stream, who) = acceptor.accept(far).await.unwrap();
        stream.write_all(b"welcome").await.unwrap();
        stream.shutdown().await.unwrap();
        who
    });
    let mut stream = Connector::new(machine.clone())
        .connect(manager.fingerprint(), near)
        .await
        .unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "welcome");
    assert_eq!(accept.await.unwrap(), machine.fingerprint());
}

#[tokio::test]
async fn a_manager_with_another_key_is_refused() {
    let (near, far) = duplex(1 << 14);
    let acceptor = Acceptor::new(&identity()).unwrap();
    let accept = tokio::spawn(async move { acceptor.accept(far).await.map(|(_, who)| who) });
    let refused = Connector::new(identity())
        .connect(identity().fingerprint(), near)
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidData);
    let told = accept.await.unwrap().unwrap_err();
    assert_eq!(
        told.kind(),
        ErrorKind::InvalidData,
        "an alert, not just an end"
    );
}

/// A stolen hash, or even the public key itself, is of no use: the signature is the private one's.
#[tokio::test]
async fn who_shows_a_key_without_having_its_private_half_is_refused() {
    let (victim, thief, manager) = (identity(), identity(), identity());
    let mixed = rustls::sign::CertifiedKey::new(victim.key.cert.clone(), thief.key.key.clone());
    let pretender = Identity {
        key: mixed.into(),
        ..victim
    };
    let (near, far) = duplex(1 << 14);
    let acceptor = Acceptor::new(&manager).unwrap();
    let accept = tokio::spawn(async move { acceptor.accept(far).await.map(|(_, who)| who) });
    let connected = Connector::new(pretender)
        .connect(manager.fingerprint(), near)
        .await;
    assert!(accept.await.unwrap().is_err());
    // Its own side may have ended before the verdict; what it reads then is the end.
    if let Ok(mut stream) = connected {
        assert!(stream.read_u8().await.is_err());
    }
}

#[tokio::test]
async fn what_isnt_tls_gets_nothing_but_an_end() {
    let (mut near, far) = duplex(1 << 14);
    let acceptor = Acceptor::new(&identity()).unwrap();
    let accept = tokio::spawn(async move { acceptor.accept(far).await.map(|(_, who)| who) });
    near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    assert!(accept.await.unwrap().is_err());
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    // An alert record, RFC 8446 section 6.
    assert!(answer[0] == 21 && answer.len() == 7, "{answer:?}");
}

proptest! {
    #[test]
    fn a_fingerprint_survives_being_written_down(bytes: [u8; Fingerprint::LENGTH]) {
        let fingerprint = Fingerprint::from(bytes);
        prop_assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        prop_assert!(fingerprint.to_string().starts_with(&fingerprint.short()));
    }

    #[test]
    fn no_other_text_is_a_fingerprint(text in "[0-9a-fA-Fg ]{0,80}") {
        if let Ok(fingerprint) = text.parse::<Fingerprint>() {
            prop_assert_eq!(fingerprint.to_string(), text);
        }
    }
}
