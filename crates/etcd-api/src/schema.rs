//! The API's messages and methods as data, for code that treats all of them alike: the JSON form.
//!
//! Read once from the descriptors that the build makes of `proto/*.proto`. Fields stand in the order of their
//! declaration, which is the order in which etcd writes them as JSON.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// What the build wrote.
/// All services and messages, as an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let descriptors = FileDescriptorSet::decode(DESCRIPTORS).expect("the build wrote descriptors");
    Schema::of(&descriptors)
});

/// All messages, enumerations and methods.
#[derive(Debug, Default)]
pub struct Schema {
    messages: Vec<MessageType>,
    enums: Vec<EnumType>,
    methods: HashMap<String, Method>,
}

/// Place of a message in the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageId(usize);

/// Place of an enumeration in the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EnumId(usize);

/// A message.
#[derive(Debug)]
pub struct MessageType {
    /// With its package.
    pub name: String,
    /// In the order of their declaration.
    pub fields: Vec<Field>,
}

/// A field of a message.
#[derive(Debug)]
pub struct Field {
    /// As in the `.proto` file.
    pub name: String,
    /// In camel case, as protobuf's own JSON form has it.
    pub camel_name: String,
    /// On the wire.
    pub number: u32,
    /// It may be there many times.
    pub repeated: bool,
    /// That it is there says something, whatever its value.
    pub in_oneof: bool,
    /// What it holds.
    pub kind: Kind,
}

/// What a field holds. Of protobuf's types only those that the API uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `bool`
    Bool,
    /// `int32`
    Int32,
    /// `uint32`
    Uint32,
    /// `int64`
    Int64,
    /// `uint64`
    Uint64,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// An enumeration.
    Enum(EnumId),
    /// A message.
    Message(MessageId),
}

/// An enumeration.
#[derive(Debug)]
pub struct EnumType {
    /// With its package.
    pub name: String,
    values: Vec<(String, i32)>,
}

/// A method of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Method {
    /// What it takes.
    pub input: MessageId,
    /// What it answers.
    pub output: MessageId,
    /// It takes many messages.
    pub client_streaming: bool,
    /// It answers with many messages.
    pub server_streaming: bool,
}

impl Schema {
    /// The API that this crate was built from.
    pub fn api() -> &'static Schema {
        &SCHEMA
    }

    /// The method of a gRPC path, `/package.Service/Method`.
    pub fn method(&self, path: &str) -> Option<Method> {
        self.methods.get(path).copied()
    }

    /// All methods, by gRPC path.
    pub fn methods(&self) -> impl Iterator<Item = (&str, Method)> {
        self.methods.iter().map(|(path, method)| (path.as_str(), *method))
    }

    /// A message.
    pub fn message(&self, id: MessageId) -> &MessageType {
        &self.messages[id.0]
    }

    /// An enumeration.
    pub fn enumeration(&self, id: EnumId) -> &EnumType {
        &self.enums[id.0]
    }

    fn of(descriptors: &FileDescriptorSet) -> Schema {
        let mut found = Found::default();
        for file in &descriptors.file {
            found.add_all(&format!(".{}", file.package()), &file.message_type, &file.enum_type);
        }
        let messages = found.messages.iter().map(|(name, message)| MessageType {
            name: name.trim_start_matches('.').to_owned(),
            fields: message.field.iter().map(|field| found.field(field)).collect(),
        });
        let enums = found.enums.iter().map(|(name, enumeration)| EnumType {
            name: name.trim_start_matches('.').to_owned(),
            values: enumeration.value.iter().map(|it| (it.name().to_owned(), it.number())).collect(),
        });
        let mut schema =
            Schema { messages: messages.collect(), enums: enums.collect(), methods: HashMap::new() };
        for file in &descriptors.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let method = Method {
                        input: found.message_id(method.input_type()),
                        output: found.message_id(method.output_type()),
                        client_streaming: method.client_streaming(),
                        server_streaming: method.server_streaming(),
                    };
                    schema.methods.insert(path, method);
                }
            }
        }
        schema
    }
}

/// Everything declared in the descriptors, by full name with a leading dot.
#[derive(Default)]
struct Found<'a> {
    messages: Vec<(String, &'a DescriptorProto)>,
    enums: Vec<(String, &'a EnumDescriptorProto)>,
    places: HashMap<String, usize>,
}

impl<'a> Found<'a> {
    fn add_all(&mut self, scope: &str, messages: &'a [DescriptorProto], enums: &'a [EnumDescriptorProto]) {
        for message in messages {
            let name = format!("{scope}.{}", message.name());
            self.add_all(&name, &message.nested_type, &message.enum_type);
            self.places.insert(name.clone(), self.messages.len());
            self.messages.push((name, message));
        }
        for enumeration in enums {
            let name = format!("{scope}.{}", enumeration.name());
            self.places.insert(name.clone(), self.enums.len());
            self.enums.push((name, enumeration));
        }
    }

    fn message_id(&self, name: &str) -> MessageId {
        MessageId(self.places[name])
    }

    fn field(&self, field: &FieldDescriptorProto) -> Field {
        let kind = match field.r#type() {
            Type::Bool => Kind::Bool,
            Type::Int32 => Kind::Int32,
            Type::Uint32 => Kind::Uint32,
            Type::Int64 => Kind::Int64,
            Type::Uint64 => Kind::Uint64,
            Type::String => Kind::String,
            Type::Bytes => Kind::Bytes,
            Type::Enum => Kind::Enum(EnumId(self.places[field.type_name()])),
            Type::Message => Kind::Message(self.message_id(field.type_name())),
            other => unreachable!("{} is a {other:?}: teach the JSON form that type first", field.name()),
        };
        Field {
            name: field.name().to_owned(),
            camel_name: field.json_name().to_owned(),
            number: u32::try_from(field.number()).expect("numbers of fields are positive"),
            repeated: field.label() == Label::Repeated,
            in_oneof: field.oneof_index.is_some(),
            kind,
        }
    }
}

impl EnumType {
    /// The value of that name.
    pub fn number(&self, name: &str) -> Option<i32> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, number)| *number)
    }

    /// The name of that value.
    pub fn name_of(&self, number: i32) -> Option<&str> {
        self.values.iter().find(|(_, known)| *known == number).map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_messages_and_enumerations_are_found() {
        let schema = Schema::api();
        let range = schema.method("/etcdserverpb.KV/Range").unwrap();
        let request = schema.message(range.input);
        assert_eq!(request.name, "etcdserverpb.RangeRequest");
        let names: Vec<_> = request.fields.iter().take(4).map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["key", "range_end", "limit", "revision"]);
        assert_eq!(request.fields[1].camel_name, "rangeEnd");
        let Kind::Enum(order) = request.fields[4].kind else { panic!("sort_order is an enumeration") };
        assert_eq!(schema.enumeration(order).number("DESCEND"), Some(2));
        assert_eq!(schema.enumeration(order).name_of(1), Some("ASCEND"));
        assert_eq!(schema.enumeration(order).name, "etcdserverpb.RangeRequest.SortOrder");
        let watch = schema.method("/etcdserverpb.Watch/Watch").unwrap();
        assert!(watch.client_streaming && watch.server_streaming);
        assert!(schema.message(watch.input).fields.iter().all(|field| field.in_oneof));
        // 48 of etcd and 2 of the health check.
        assert_eq!(schema.methods().count(), 48 + 2, "{:?}", schema.methods().collect::<Vec<_>>());
    }
}
