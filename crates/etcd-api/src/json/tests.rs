//! What was seen of a real etcd 3.5, and that the two directions fit.

use bytes::Bytes;
use prost::Message;

use super::*;
use crate::etcdserverpb as pb;
use crate::schema::Schema;

const KV: &str = "/etcdserverpb.KV/";

fn read(method: &str, text: &str) -> Result<Vec<u8>, String> {
    let schema = Schema::api();
    let method = schema.method(method).expect("there is such a method");
    Scanner::check(text.as_bytes()).map_err(|error| error.0)?;
    from_json(schema, method.input, text.as_bytes()).map_err(|error| error.0)
}

fn range(text: &str) -> Result<pb::RangeRequest, String> {
    read(&format!("{KV}Range"), text).map(|bytes| pb::RangeRequest::decode(&bytes[..]).unwrap())
}

fn written(method: &str, answer: &impl Message) -> String {
    let schema = Schema::api();
    let method = schema.method(method).expect("there is such a method");
    let mut out = String::new();
    to_json(schema, method.output, &answer.encode_to_vec(), &mut out).unwrap();
    out
}

#[test]
fn requests_are_read_leniently() {
    let wanted = pb::RangeRequest {
        key: Bytes::from_static(b"k"),
        range_end: Bytes::from_static(b"\0"),
        limit: 5,
        sort_order: 2,
        count_only: true,
        ..pb::RangeRequest::default()
    };
    let same = [
        r#"{"key":"aw==","range_end":"AA==","limit":"5","sort_order":"DESCEND","count_only":true}"#,
        r#"{"key":"aw==","rangeEnd":"AA==","limit":5,"sortOrder":2,"countOnly":true}"#,
        r#" {"nope":[{"a":"}"}],"key":[107],"range_end":"eHg=","rangeEnd":"AA==","limit":" 5 ","sort_order":2,
            "count_only":true,"revision":null,"serializable":false} "#,
        r#"{"rangeEnd":"AA==","range_end":"eHg=","key":"eHg=","key":"a\nw=\r=","limit":5,"sort_order":2,
            "count_only":true}"#,
    ];
    for text in same {
        assert_eq!(range(text).as_ref(), Ok(&wanted), "{text}");
    }
    assert_eq!(range("null"), Ok(pb::RangeRequest::default()));
    assert_eq!(range(r#"{"key":"+/8="}"#).unwrap().key, &b"\xfb\xff"[..]);
}

#[test]
fn what_does_not_fit_is_refused_in_gos_words() {
    let cases = [
        (r#"{"key":"-_8="}"#, "illegal base64 data at input byte 0"),
        (r#"{"key":"aw"}"#, "illegal base64 data at input byte 0"),
        (r#"{"key":"!!"}"#, "illegal base64 data at input byte 0"),
        (r#"{"key":"aaaaa!aa"}"#, "illegal base64 data at input byte 5"),
        (r#"{"key":[300]}"#, "json: cannot unmarshal number 300 into Go value of type uint8"),
        (r#"{"key":5}"#, "json: cannot unmarshal number into Go value of type []uint8"),
        (r#"{"limit":1.0}"#, "json: cannot unmarshal number 1.0 into Go value of type int64"),
        (
            r#"{"limit":9223372036854775808}"#,
            "json: cannot unmarshal number 9223372036854775808 into Go value of type int64",
        ),
        (r#"{"limit":true}"#, "json: cannot unmarshal bool into Go value of type int64"),
        (r#"{"limit":"x"}"#, "invalid character 'x' looking for beginning of value"),
        (r#"{"limit":""}"#, "unexpected end of JSON input"),
        (r#"{"count_only":"true"}"#, "json: cannot unmarshal string into Go value of type bool"),
        (r#"{"count_only":1}"#, "json: cannot unmarshal number into Go value of type bool"),
        (
            r#"{"sort_order":"NOPE"}"#,
            r#"unknown value "\"NOPE\"" for enum etcdserverpb.RangeRequest.SortOrder"#,
        ),
        ("[]", "json: cannot unmarshal array into Go value of type map[string]json.RawMessage"),
        (r#""x""#, "json: cannot unmarshal string into Go value of type map[string]json.RawMessage"),
        ("5", "json: cannot unmarshal number into Go value of type map[string]json.RawMessage"),
    ];
    for (text, error) in cases {
        assert_eq!(range(text), Err(error.to_owned()), "{text}");
    }
    let lists = read(&format!("{KV}Txn"), r#"{"success":{}}"#);
    let error = "json: cannot unmarshal object into Go value of type []json.RawMessage";
    assert_eq!(lists, Err(error.to_owned()));
}

#[test]
fn of_two_members_of_a_oneof_the_later_declared_one_counts() {
    let text = r#"{"success":[{"request_put":{"key":"aw=="},"request_range":{"key":"aw=="}},null,{}],
                   "compare":[{"key":"aw==","create_revision":"0"}]}"#;
    let txn = pb::TxnRequest::decode(&read(&format!("{KV}Txn"), text).unwrap()[..]).unwrap();
    assert!(matches!(txn.success[0].request, Some(pb::request_op::Request::RequestPut(_))));
    assert_eq!(txn.success[1..], [pb::RequestOp::default(), pb::RequestOp::default()]);
    let zero = pb::compare::TargetUnion::CreateRevision(0);
    assert_eq!(txn.compare[0].target_union, Some(zero), "a zero says something here");
}

#[test]
fn nesting_has_an_end() {
    let nested = |levels: usize| {
        let text = r#"{"success":[{"request_txn":"#.repeat(levels) + "{}" + &"}]}".repeat(levels);
        read(&format!("{KV}Txn"), &text)
    };
    assert!(nested(40).is_ok());
    let refused = Err("etcdserver: too many operations in txn request".to_owned());
    assert_eq!(nested(60), refused);
    assert_eq!(nested(3_000), refused);
    assert_eq!(nested(20_000), Err("invalid character '[' exceeded max depth".to_owned()));
    let ignored = format!(r#"{{"nope":{}{}}}"#, "[".repeat(9_000), "]".repeat(9_000));
    assert_eq!(range(&ignored), Ok(pb::RangeRequest::default()));
}

#[test]
fn answers_are_written_as_etcd_writes_them() {
    let header = pb::ResponseHeader { cluster_id: u64::MAX, revision: 7, ..Default::default() };
    let kv = crate::mvccpb::KeyValue {
        key: Bytes::from_static(b"k"),
        create_revision: 2,
        value: Bytes::from_static(b"\xff\x00"),
        ..Default::default()
    };
    let inner = pb::RangeResponse { kvs: vec![kv.clone(), kv], count: 2, ..Default::default() };
    let responses = vec![
        pb::ResponseOp { response: Some(pb::response_op::Response::ResponseRange(inner)) },
        pb::ResponseOp { response: Some(pb::response_op::Response::ResponsePut(pb::PutResponse::default())) },
    ];
    let answer = pb::TxnResponse { header: Some(header), succeeded: true, responses };
    assert_eq!(
        written(&format!("{KV}Txn"), &answer),
        concat!(
            r#"{"header":{"cluster_id":"18446744073709551615","revision":"7"},"succeeded":true,"responses":["#,
            r#"{"response_range":{"kvs":[{"key":"aw==","create_revision":"2","value":"/wA="},"#,
            r#"{"key":"aw==","create_revision":"2","value":"/wA="}],"count":"2"}},{"response_put":{}}]}"#
        )
    );
    let hash = pb::HashResponse { header: None, hash: 3_340_730_664 };
    assert_eq!(written("/etcdserverpb.Maintenance/Hash", &hash), r#"{"hash":3340730664}"#);
    let alarm = pb::AlarmMember { member_id: 0, alarm: 1 };
    let alarms =
        pb::AlarmResponse { header: None, alarms: vec![alarm, pb::AlarmMember { alarm: 9, member_id: 3 }] };
    assert_eq!(
        written("/etcdserverpb.Maintenance/Alarm", &alarms),
        r#"{"alarms":[{"alarm":"NOSPACE"},{"memberID":"3","alarm":9}]}"#
    );
    let left = pb::LeaseTimeToLiveResponse { ttl: -1, keys: vec![Bytes::new()], ..Default::default() };
    assert_eq!(written("/etcdserverpb.Lease/LeaseTimeToLive", &left), r#"{"TTL":"-1","keys":[""]}"#);
}

#[test]
fn what_is_written_is_read_again() {
    let request = pb::WatchCreateRequest {
        key: Bytes::from_static(b"a"),
        filters: vec![0, 1, 0],
        watch_id: -7,
        prev_kv: true,
        ..Default::default()
    };
    let union = Some(pb::watch_request::RequestUnion::CreateRequest(request));
    let request = pb::WatchRequest { request_union: union };
    let schema = Schema::api();
    let watch = schema.method("/etcdserverpb.Watch/Watch").unwrap();
    let mut out = String::new();
    to_json(schema, watch.input, &request.encode_to_vec(), &mut out).unwrap();
    let text = r#"{"create_request":{"key":"YQ==","filters":["NOPUT","NODELETE","NOPUT"],"prev_kv":true,"watch_id":"-7"}}"#;
    assert_eq!(out, text);
    let again = from_json(schema, watch.input, out.as_bytes()).unwrap();
    assert_eq!(pb::WatchRequest::decode(&again[..]).unwrap(), request);
}

#[test]
fn bytes_that_are_no_message_are_told() {
    let schema = Schema::api();
    let range = schema.method("/etcdserverpb.KV/Range").unwrap();
    for wrong in [&[0x0a][..], &[0x0a, 5, 1], &[0x08, 0x80], &[0x0d, 1], &[0x08, 1], &[0x0f]] {
        assert!(to_json(schema, range.output, wrong, &mut String::new()).is_err(), "{wrong:?}");
    }
    let mut out = String::new();
    to_json(schema, range.output, &[0x7d, 0, 0, 0, 0, 0x20, 3], &mut out).unwrap();
    assert_eq!(out, r#"{"count":"3"}"#, "an unknown field is skipped");
}
