//! A door for fuzzing (feature `fuzzing`): the parsers of this crate on bytes as a peer, a client or a person may send.
//!
//! Each function panics when a parser breaks its promise: that no bytes make it panic, and that what it takes has one form.
//! It returns whether it took the bytes as they are.

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use duet_mvcc::{
    Command, EmptySource, Store, TxnLimits, validate_delete_range, validate_put, validate_range, validate_txn,
};
use duet_protocol::{
    Acknowledge, AppendHeader, ApplianceId, ClusterId, Conf, Digest, DiskId, Entry, Epoch, Firm, Heartbeat,
    Instant, Lsn, Message, PerAppliance, Position, Proposal, ReadIndex, ReadQuestion, limits,
};
use prost::Message as _;

use crate::client_port::authority;
use crate::config::{Config, Settings};
use crate::grpc::convert;
use crate::peer::codec::{self, CopyFrame};
use crate::peer::frame;
use crate::peer::hello::{self, Hello, HelloError, Purpose};

const POSITION: Position = Position { epoch: Epoch(3), lsn: Lsn(41), digest: Digest([3; 16]) };

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut buffer = Vec::new();
    write(&mut buffer);
    buffer
}

/// Valid messages between the appliances.
pub fn message_samples() -> Vec<Vec<u8>> {
    let conf = Conf::pair(Epoch(5), ApplianceId::A, PerAppliance { a: DiskId(1), b: DiskId(u128::MAX) });
    let first = Entry::following(&POSITION, Epoch(5), Bytes::from_static(b"put"));
    let second = Entry::following(&first.position(), Epoch(5), Bytes::new());
    let heartbeat = Heartbeat { life: 77, sent: Instant(123_456), promise: limits::PROMISE };
    let header = AppendHeader {
        conf,
        base: Lsn(40),
        previous: POSITION,
        committed: Lsn(41),
        last: Lsn(99),
        heartbeat,
        disk: DiskId(1),
    };
    let (epoch, matched, retry_from, disk) = (Epoch(5), Lsn(9), Some(Lsn(4)), DiskId(4));
    let (max_epoch, position) = (Epoch(8), POSITION);
    let messages = [
        Message::Append { header, entries: vec![first, second] },
        Message::Acknowledge(Acknowledge { epoch, matched, heartbeat, retry_from, disk }),
        Message::Propose(Proposal { conf, base: Conf::NONE, position: Some(position) }),
        Message::Stored(Conf::solo(Epoch(6), ApplianceId::B, DiskId(2))),
        Message::Firm(Firm {
            conf: Conf::NONE,
            max_epoch,
            position,
            disk,
            leaving: true,
            damaged: false,
            joined: true,
        }),
        Message::Leave,
        Message::AskReadIndex(ReadQuestion { life: 77, number: 3 }),
        Message::ReadIndex(ReadIndex {
            question: ReadQuestion { life: 77, number: 3 },
            epoch: Epoch(5),
            lsn: Lsn(41),
        }),
    ];
    messages.iter().map(|message| written(|buffer| codec::write_message(buffer, message))).collect()
}

/// A message between the appliances.
pub fn message(bytes: &[u8]) -> bool {
    let Ok(message) = codec::read_message(Bytes::copy_from_slice(bytes)) else { return false };
    assert!(written(|buffer| codec::write_message(buffer, &message)) == bytes, "a message has one form");
    true
}

/// Valid frames of a copy.
pub fn copy_samples() -> Vec<Vec<u8>> {
    let text = Bytes::from_static;
    let frames = [
        CopyFrame::Rows(vec![(text(b"key"), text(b"value")), (Bytes::new(), Bytes::new())]),
        CopyFrame::Meta(text(b"meta")),
        CopyFrame::End { epoch: Epoch(1), position: POSITION, rows: 2, meta: Some(4) },
        CopyFrame::End { epoch: Epoch(1), position: POSITION, rows: 2, meta: None },
        CopyFrame::Ready,
    ];
    frames.iter().map(|frame| written(|buffer| codec::write_copy(buffer, frame))).collect()
}

/// A frame of a copy.
pub fn copy(bytes: &[u8]) -> bool {
    let Ok(frame) = codec::read_copy(Bytes::copy_from_slice(bytes)) else { return false };
    assert!(written(|buffer| codec::write_copy(buffer, &frame)) == bytes, "a copy's frame has one form");
    true
}

/// Valid hellos and a refusal.
pub fn hello_samples() -> Vec<Vec<u8>> {
    let hello = Hello {
        purpose: Purpose::Messages,
        cluster_name: "demo".into(),
        cluster: Some(ClusterId(7)),
        appliance: ApplianceId::A,
        disk: DiskId(1),
        client_url: "http://127.0.0.1:2379".into(),
    };
    let blank = Hello { purpose: Purpose::Identify, cluster: None, ..hello.clone() };
    vec![
        written(|buffer| hello.write(buffer)),
        written(|buffer| blank.write(buffer)),
        written(|buffer| hello::write_refusal(buffer, "because")),
    ]
}

/// The first frame of a connection.
pub fn hello(bytes: &[u8]) -> bool {
    match Hello::read(&Bytes::copy_from_slice(bytes)) {
        Ok(hello) => {
            assert!(written(|buffer| hello.write(buffer)) == bytes, "a hello has one form");
            true
        }
        Err(HelloError::Refused(reason)) => written(|buffer| hello::write_refusal(buffer, &reason)) == bytes,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "a refusal says why");
            false
        }
    }
}

/// Valid streams of frames.
pub fn frame_samples() -> Vec<Vec<u8>> {
    let frame = |body: &Vec<u8>| written(|buffer| frame::write(buffer, |buffer| buffer.extend(body)));
    message_samples().iter().map(frame).collect()
}

/// Frames, one after the other.
pub fn frame(mut bytes: &[u8]) -> bool {
    let mut frames = 0;
    while !bytes.is_empty() {
        let before = bytes;
        let Ok(body) = frame::read(&mut bytes) else { return false };
        let again = written(|buffer| frame::write(buffer, |buffer| buffer.extend(&body)));
        assert!(again == before[..before.len() - bytes.len()], "a frame has one form");
        frames += 1;
    }
    frames > 0
}

/// Valid configurations.
pub fn config_samples() -> Vec<Vec<u8>> {
    let text = r#"
cluster = "demo"
appliance = "A"
data = "/var/lib/duet"
client_listen = "127.0.0.1:2379"
client_url = "http://10.0.0.1:2379"
peer_listen = "127.0.0.1:2380"
peer = "127.0.0.1:3380"
witness = "http://127.0.0.1:7900" # or "dir:/mnt/share"
retain_entries = 100
"#;
    vec![text.as_bytes().to_vec(), text.replace("http://127.0.0.1:7900", "dir:/mnt/share").into_bytes()]
}

/// A configuration file. Names of hosts to listen on are not looked up, as that would ask the network.
pub fn config(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let checked = Settings::parse(text, None).and_then(|settings| {
        let numeric =
            |listen: Option<String>| listen.filter(|text| text.parse::<std::net::SocketAddr>().is_ok());
        let (client_listen, peer_listen) =
            (numeric(settings.client_listen.clone()), numeric(settings.peer_listen.clone()));
        Config::check(Settings { client_listen, peer_listen, ..settings })
    });
    match checked {
        Ok(config) => {
            assert!(config.client_url.starts_with("http://") && !config.cluster.is_empty(), "{config:?}");
            assert!(config.witness.to_string().parse().as_ref() == Ok(&config.witness), "{}", config.witness);
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty(), "a refusal says why");
            false
        }
    }
}

/// HTTP/2 streams of clients, with a URL for an authority and without; the first byte says where the network cuts.
pub fn authority_samples() -> Vec<Vec<u8>> {
    let stream = |value: [u8; 5]| {
        let block = [&[0x83, 0x86, 0x41, 0x8f], &value[..], &[0x08, 0x9d, 0x5c, 0x0b, 0x81, 0x70]].concat();
        let length = u8::try_from(block.len()).unwrap_or(0);
        let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
        let headers = [0, 0, length, 1, 4, 0, 0, 0, 1];
        let data = [0, 0, length, 0, 1, 0, 0, 0, 1];
        [&[40], authority::PREFACE, settings, &headers, &block, &data, &block].concat()
    };
    vec![stream(authority::URL), stream(authority::NAME), b"\x05GET / HTTP/1.1\r\n\r\n".to_vec()]
}

/// A client's stream: nothing is changed but a URL's first bytes, to what is as long, and never outside of HTTP/2.
pub fn client_stream(bytes: &[u8]) {
    let Some((cut, stream)) = bytes.split_first() else { return };
    let mut followed = stream.to_vec();
    let (left, right) = followed.split_at_mut(usize::from(*cut).min(stream.len()));
    authority::follow(&mut [left, right]);
    if !stream.starts_with(authority::PREFACE) {
        assert!(followed == stream, "only HTTP/2 is changed");
    }
    let mut at = 0;
    while let Some(offset) = followed[at..].iter().zip(&stream[at..]).position(|(new, old)| new != old) {
        // The first two bytes of the two spellings are equal.
        let first = (at + offset).saturating_sub(2);
        let window = first..first + authority::URL.len();
        assert!(stream.get(window.clone()) == Some(&authority::URL[..]), "only a URL is changed");
        assert!(followed[window.clone()] == authority::NAME, "it becomes a name");
        at = window.end;
    }
}

/// Valid requests, behind a byte that says of which kind.
pub fn request_samples() -> Vec<Vec<u8>> {
    use pb::request_op::Request;
    let text = Bytes::from_static;
    let put = pb::PutRequest { key: text(b"a"), value: text(b"v"), prev_kv: true, ..Default::default() };
    let range = pb::RangeRequest { key: text(b"a"), range_end: text(b"c"), limit: 2, ..Default::default() };
    let delete = pb::DeleteRangeRequest { key: text(b"b"), range_end: text(b"\0"), prev_kv: true };
    let compare = pb::Compare {
        target: 2,
        key: text(b"a"),
        target_union: Some(pb::compare::TargetUnion::ModRevision(3)),
        ..Default::default()
    };
    let op = |request| pb::RequestOp { request: Some(request) };
    let inner = pb::TxnRequest {
        success: vec![op(Request::RequestDeleteRange(delete.clone()))],
        ..Default::default()
    };
    let txn = pb::TxnRequest {
        compare: vec![compare],
        success: vec![op(Request::RequestRange(range.clone())), op(Request::RequestTxn(inner))],
        failure: vec![op(Request::RequestPut(put.clone()))],
    };
    let behind = |kind: u8, message: Vec<u8>| [vec![kind], message].concat();
    vec![
        behind(0, put.encode_to_vec()),
        behind(1, range.encode_to_vec()),
        behind(2, delete.encode_to_vec()),
        behind(3, txn.encode_to_vec()),
    ]
}

/// A client's request on its whole way: protobuf, the data model's types, validation, the log's bytes, the store.
pub fn request(bytes: &[u8]) -> bool {
    let Some((kind, message)) = bytes.split_first() else { return false };
    let mut store = Store::new(std::sync::Arc::new(EmptySource));
    for key in [&b"a"[..], b"b", b"bb"] {
        let put = duet_mvcc::PutRequest {
            key: Bytes::from_static(key),
            value: Bytes::from_static(b"v"),
            ..Default::default()
        };
        store.apply(&Command::Put(put));
    }
    let Some(command) = command_of(*kind, message, &store) else { return false };
    let encoded = command.encode();
    assert!(Command::decode(&encoded).as_ref() == Ok(&command), "a valid request is read back from the log");
    store.apply(&command);
    true
}

/// The command of a request, if it is one that a client may send. A range is answered.
fn command_of(kind: u8, message: &[u8], store: &Store) -> Option<Command> {
    match kind % 4 {
        0 => {
            let put = convert::put(&pb::PutRequest::decode(message).ok()?);
            validate_put(&put).ok()?;
            Some(Command::Put(put))
        }
        1 => {
            let range = convert::range(&pb::RangeRequest::decode(message).ok()?).ok()?;
            validate_range(&range).ok()?;
            let answer = store.range(&range).ok()?;
            drop(convert::range_response(answer, pb::ResponseHeader::default()).encode_to_vec());
            None
        }
        2 => {
            let delete = convert::delete_range(&pb::DeleteRangeRequest::decode(message).ok()?);
            validate_delete_range(&delete).ok()?;
            Some(Command::DeleteRange(delete))
        }
        _ => {
            let txn = convert::txn(&pb::TxnRequest::decode(message).ok()?).ok()?;
            validate_txn(&txn, TxnLimits::default()).ok()?;
            if txn.is_read_only() {
                drop(store.read_only_txn(&txn));
                return None;
            }
            Some(Command::Txn(txn))
        }
    }
}
