//! From a message's bytes to JSON, as Go's `jsonpb` writes it with the original field names.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};

use super::text::quote;
use super::{MESSAGE_LEVELS, Malformed};
use crate::schema::{Field, Kind, MessageId, Schema};

/// The JSON form of the message `message` that `bytes` are, written to `out`.
///
/// # Errors
/// They are not such a message. What was written by then is of no use.
pub fn to_json(schema: &Schema, message: MessageId, bytes: &[u8], out: &mut String) -> Result<(), Malformed> {
    write_message(schema, message, bytes, 1, out)
}

/// What a field holds, as it came.
#[derive(Clone, Copy)]
enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn malformed() -> Malformed {
    Malformed::new("the message is malformed")
}

fn write_message(
    schema: &Schema,
    id: MessageId,
    bytes: &[u8],
    level: usize,
    out: &mut String,
) -> Result<(), Malformed> {
    if level > MESSAGE_LEVELS {
        return Err(malformed());
    }
    let fields = &schema.message(id).fields;
    let mut found = parse(fields, bytes)?;
    // Stable: the elements of a list stay in order. In most messages all is in order already.
    found.sort_by_key(|(place, _)| *place);
    let mut writer = Writer { schema, level, out };
    writer.out.push('{');
    let mut first = true;
    for same in found.chunk_by(|one, other| one.0 == other.0) {
        let Some((place, last)) = same.last() else { continue };
        let field = &fields[*place];
        let is_default = match last {
            Content::Number(number) => *number == 0,
            Content::Bytes(bytes) => bytes.is_empty() && !matches!(field.kind, Kind::Message(_)),
        };
        if is_default && !field.repeated && !field.in_oneof {
            continue;
        }
        if !std::mem::take(&mut first) {
            writer.out.push(',');
        }
        quote(&field.name, writer.out);
        writer.out.push(':');
        if field.repeated {
            writer.list(field, same)?;
        } else {
            writer.single(field, *last)?;
        }
    }
    writer.out.push('}');
    Ok(())
}

/// The known fields in a message, by their place among the declared ones.
fn parse<'a>(fields: &[Field], bytes: &'a [u8]) -> Result<Vec<(usize, Content<'a>)>, Malformed> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (number, wire_type) = decode_key(&mut rest).map_err(|_| malformed())?;
        let content = match wire_type {
            WireType::Varint => Content::Number(decode_varint(&mut rest).map_err(|_| malformed())?),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut rest).map_err(|_| malformed())?;
                let length = usize::try_from(length).map_err(|_| malformed())?;
                let (content, after) = rest.split_at_checked(length).ok_or_else(malformed)?;
                rest = after;
                Content::Bytes(content)
            }
            // Of no field of this API: skipped as every unknown field.
            WireType::ThirtyTwoBit if rest.len() >= 4 => {
                rest.advance(4);
                continue;
            }
            WireType::SixtyFourBit if rest.len() >= 8 => {
                rest.advance(8);
                continue;
            }
            _ => return Err(malformed()),
        };
        let Some(place) = fields.iter().position(|field| field.number == number) else { continue };
        let is_packed = fields[place].repeated && !is_bytes(fields[place].kind);
        match content {
            Content::Bytes(mut packed) if is_packed => {
                while !packed.is_empty() {
                    let number = decode_varint(&mut packed).map_err(|_| malformed())?;
                    found.push((place, Content::Number(number)));
                }
            }
            content => found.push((place, content)),
        }
    }
    Ok(found)
}

fn is_bytes(kind: Kind) -> bool {
    matches!(kind, Kind::String | Kind::Bytes | Kind::Message(_))
}

struct Writer<'a> {
    schema: &'a Schema,
    level: usize,
    out: &'a mut String,
}

impl Writer<'_> {
    fn list(&mut self, field: &Field, elements: &[(usize, Content<'_>)]) -> Result<(), Malformed> {
        self.out.push('[');
        for (index, (_, content)) in elements.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.single(field, *content)?;
        }
        self.out.push(']');
        Ok(())
    }

    fn single(&mut self, field: &Field, content: Content<'_>) -> Result<(), Malformed> {
        match (field.kind, content) {
            (Kind::Bool, Content::Number(number)) => {
                self.out.push_str(if number == 0 { "false" } else { "true" });
            }
            (Kind::Int32, Content::Number(number)) => self.out.push_str(&wire_int32(number).to_string()),
            (Kind::Uint32, Content::Number(number)) => {
                self.out.push_str(&(number & u64::from(u32::MAX)).to_string());
            }
            (Kind::Int64, Content::Number(number)) => self.in_quotes(&number.cast_signed().to_string()),
            (Kind::Uint64, Content::Number(number)) => self.in_quotes(&number.to_string()),
            (Kind::Enum(id), Content::Number(number)) => {
                let number = wire_int32(number);
                match self.schema.enumeration(id).name_of(number) {
                    Some(name) => self.in_quotes(name),
                    None => self.out.push_str(&number.to_string()),
                }
            }
            (Kind::String, Content::Bytes(bytes)) => quote(&String::from_utf8_lossy(bytes), self.out),
            (Kind::Bytes, Content::Bytes(bytes)) => {
                self.out.push('"');
                STANDARD.encode_string(bytes, self.out);
                self.out.push('"');
            }
            (Kind::Message(id), Content::Bytes(bytes)) => {
                write_message(self.schema, id, bytes, self.level + 1, self.out)?;
            }
            _ => return Err(malformed()),
        }
        Ok(())
    }

    /// What has nothing that needs an escape.
    fn in_quotes(&mut self, text: &str) {
        self.out.push('"');
        self.out.push_str(text);
        self.out.push('"');
    }
}

/// Negative numbers of 32 bits are sent as 64.
#[allow(clippy::cast_possible_truncation)] // protobuf says so: the upper half repeats the sign
fn wire_int32(number: u64) -> i32 {
    number.cast_signed() as i32
}
