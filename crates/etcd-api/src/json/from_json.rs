//! From JSON to a message's bytes, as Go's `jsonpb` reads it.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::encoding::{WireType, encode_key, encode_varint};

use super::scanner::{Scanner, is_space};
use super::text::{cut_short, unquote};
use super::{MESSAGE_LEVELS, Malformed};
use crate::schema::{EnumId, Field, Kind, MessageId, Schema};

/// Go's: padded, and what the last bits say that no byte takes does not matter.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

/// etcd's answer to a transaction in a transaction in a transaction and so on.
const TOO_DEEP: &str = "etcdserver: too many operations in txn request";

/// The bytes of the message `message` that `text` describes: one JSON value, as the scanner has found it.
///
/// # Errors
/// It is another kind of value somewhere.
pub fn from_json(schema: &Schema, message: MessageId, text: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut bytes = Vec::with_capacity(text.len());
    Reader { schema, rest: text }.message(message, 1, &mut bytes)?;
    Ok(bytes)
}

/// Reads a text whose syntax the scanner has checked.
struct Reader<'a> {
    schema: &'a Schema,
    rest: &'a [u8],
}

/// What was read of a field: its bytes with their keys, and whether it had its name in camel case, which goes first.
type Slot = Option<(Vec<u8>, bool)>;

impl<'a> Reader<'a> {
    /// The next byte that says something; 0 at the end.
    fn peek(&mut self) -> u8 {
        let space = self.rest.iter().position(|byte| !is_space(*byte)).unwrap_or(self.rest.len());
        self.rest = &self.rest[space..];
        self.rest.first().copied().unwrap_or(0)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Malformed> {
        if self.peek() != wanted {
            return Err(cut_short());
        }
        self.rest = &self.rest[1..];
        Ok(())
    }

    /// Takes `wanted` if it comes next.
    fn take(&mut self, wanted: u8) -> bool {
        let comes = self.peek() == wanted;
        if comes {
            self.rest = &self.rest[1..];
        }
        comes
    }

    /// The next value as it stands.
    fn value(&mut self) -> Result<&'a [u8], Malformed> {
        self.peek();
        let mut scanner = Scanner::default();
        let end = match scanner.find_end(self.rest)? {
            Some(end) => end,
            None if scanner.ends_here() => self.rest.len(),
            None => return Err(cut_short()),
        };
        let (value, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(value)
    }

    fn message(&mut self, id: MessageId, level: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        if level > MESSAGE_LEVELS {
            return Err(Malformed::new(TOO_DEEP));
        }
        match self.peek() {
            b'n' => self.value().map(drop),
            b'{' => self.fields(id, level, out),
            _ => Err(wrong_kind(self.value()?, "map[string]json.RawMessage")),
        }
    }

    /// The fields of an object. Of a name that comes twice the last counts; fields are written in the order of their
    /// declaration, so that of two members of a oneof the later declared one counts.
    fn fields(&mut self, id: MessageId, level: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let fields = &self.schema.message(id).fields;
        let mut slots: Vec<Slot> = vec![None; fields.len()];
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.peek();
            let name = unquote(self.value()?)?;
            self.expect(b':')?;
            let place = fields.iter().position(|field| field.name == name || field.camel_name == name);
            match place.map(|place| (&fields[place], &mut slots[place])) {
                None => drop(self.value()?),
                Some((field, slot)) => {
                    let camel = field.name != name;
                    let mut bytes = Vec::new();
                    self.field(field, level, &mut bytes)?;
                    if camel || !slot.as_ref().is_some_and(|(_, camel)| *camel) {
                        *slot = Some((bytes, camel));
                    }
                }
            }
            if !self.take(b',') {
                break;
            }
        }
        self.expect(b'}')?;
        for (bytes, _) in slots.into_iter().flatten() {
            out.extend_from_slice(&bytes);
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, level: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        if self.peek() == b'n' {
            return self.value().map(drop);
        }
        if !field.repeated {
            return self.single(field, level, out);
        }
        if self.peek() != b'[' {
            return Err(wrong_kind(self.value()?, "[]json.RawMessage"));
        }
        self.expect(b'[')?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.single(field, level, out)?;
            if !self.take(b',') {
                return self.expect(b']');
            }
        }
    }

    /// One value of a field, with its key. What is the default is left out where that says the same.
    fn single(&mut self, field: &Field, level: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let says_something = field.repeated || field.in_oneof;
        if let Kind::Message(id) = field.kind {
            let mut inner = Vec::new();
            self.message(id, level + 1, &mut inner)?;
            write_bytes(field.number, &inner, out);
            return Ok(());
        }
        let value = self.value()?;
        if matches!(field.kind, Kind::String | Kind::Bytes) {
            let content = match field.kind {
                Kind::String => string(value)?.into_bytes(),
                _ => bytes(value)?,
            };
            if says_something || !content.is_empty() {
                write_bytes(field.number, &content, out);
            }
            return Ok(());
        }
        let number = self.scalar(field.kind, value)?;
        if says_something || number != 0 {
            encode_key(field.number, WireType::Varint, out);
            encode_varint(number, out);
        }
        Ok(())
    }

    /// What goes on the wire as a number.
    fn scalar(&self, kind: Kind, value: &[u8]) -> Result<u64, Malformed> {
        match kind {
            Kind::Bool => match value {
                b"true" => Ok(1),
                b"false" | b"null" => Ok(0),
                _ => Err(wrong_kind(value, "bool")),
            },
            Kind::Int32 => Ok(integer::<i32>(value, "int32")?.into_wire()),
            Kind::Uint32 => Ok(integer::<u32>(value, "uint32")?.into_wire()),
            Kind::Int64 => Ok(integer::<i64>(value, "int64")?.into_wire()),
            Kind::Uint64 => integer(value, "uint64"),
            Kind::Enum(id) => Ok(self.enumeration(id, value)?.into_wire()),
            Kind::String | Kind::Bytes | Kind::Message(_) => {
                unreachable!("these are not written as numbers")
            }
        }
    }

    fn enumeration(&self, id: EnumId, value: &[u8]) -> Result<i32, Malformed> {
        let Some(name) = value.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\"")) else {
            return number(value, "protoreflect.EnumNumber");
        };
        let kind = self.schema.enumeration(id);
        std::str::from_utf8(name).ok().and_then(|name| kind.number(name)).ok_or_else(|| {
            let shown = String::from_utf8_lossy(value).replace('\\', "\\\\").replace('"', "\\\"");
            Malformed::new(format!("unknown value \"{shown}\" for enum {}", kind.name))
        })
    }
}

/// Numbers as protobuf writes them: negative ones as the 64-bit two's complement.
trait IntoWire: std::str::FromStr + Default {
    fn into_wire(self) -> u64;
}

impl IntoWire for i32 {
    fn into_wire(self) -> u64 {
        i64::from(self).into_wire()
    }
}

impl IntoWire for u32 {
    fn into_wire(self) -> u64 {
        self.into()
    }
}

impl IntoWire for i64 {
    fn into_wire(self) -> u64 {
        self.cast_unsigned()
    }
}

/// A number, in quotes or not.
fn integer<N: std::str::FromStr + Default>(value: &[u8], go_type: &str) -> Result<N, Malformed> {
    let Some(inner) = value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")) else {
        return number(value, go_type);
    };
    Scanner::check(inner)?;
    number(inner.trim_ascii(), go_type)
}

fn number<N: std::str::FromStr + Default>(value: &[u8], go_type: &str) -> Result<N, Malformed> {
    match value.first() {
        Some(b'n') => Ok(N::default()),
        Some(b'-' | b'0'..=b'9') => {
            let text = String::from_utf8_lossy(value);
            text.parse().map_err(|_| {
                let told = format!("json: cannot unmarshal number {text} into Go value of type {go_type}");
                Malformed::new(told)
            })
        }
        _ => Err(wrong_kind(value, go_type)),
    }
}

fn string(value: &[u8]) -> Result<String, Malformed> {
    match value.first() {
        Some(b'"') => unquote(value),
        Some(b'n') => Ok(String::new()),
        _ => Err(wrong_kind(value, "string")),
    }
}

/// Base64; line ends in it do not matter. Go takes a list of numbers too.
fn bytes(value: &[u8]) -> Result<Vec<u8>, Malformed> {
    match value.first() {
        Some(b'"') => decode_base64(unquote(value)?),
        Some(b'n') => Ok(Vec::new()),
        Some(b'[') => {
            let inner = value.strip_prefix(b"[").and_then(|inner| inner.strip_suffix(b"]"));
            let inner = inner.ok_or_else(cut_short)?.trim_ascii();
            if inner.is_empty() {
                return Ok(Vec::new());
            }
            inner.split(|byte| *byte == b',').map(|one| number(one.trim_ascii(), "uint8")).collect()
        }
        _ => Err(wrong_kind(value, "[]uint8")),
    }
}

fn decode_base64(mut text: String) -> Result<Vec<u8>, Malformed> {
    text.retain(|character| character != '\n' && character != '\r');
    BASE64.decode(&text).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            // Go names the place where the last, incomplete group of four begins.
            base64::DecodeError::InvalidLength(length) => length - length % 4,
            base64::DecodeError::InvalidPadding => text.len() - text.len() % 4,
        };
        Malformed::new(format!("illegal base64 data at input byte {at}"))
    })
}

fn wrong_kind(value: &[u8], go_type: &str) -> Malformed {
    let kind = match value.first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        _ => "number",
    };
    Malformed::new(format!("json: cannot unmarshal {kind} into Go value of type {go_type}"))
}

fn write_bytes(number: u32, content: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}
