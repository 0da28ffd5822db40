//! The JSON form of the API's messages, as etcd's HTTP gateway has it.
//!
//! Numbers of 64 bits are strings, bytes are base64, enumerations are names, what has its default value is left out,
//! fields have the names of the `.proto` files. Read is more: camel case too, numbers as numbers, unknown fields are
//! skipped. There is no tree in between: JSON becomes the message's bytes and the reverse, so a small text cannot
//! become a large structure. Mistakes are told in the words of Go's JSON library, because clients may know them.

mod from_json;
mod scanner;
mod text;
mod to_json;

#[cfg(test)]
mod tests;

pub use from_json::from_json;
pub use scanner::Scanner;
pub use text::quote;
pub use to_json::to_json;

/// Messages that may stand in each other. Only transactions can, and the decoder of the services has the same limit.
pub const MESSAGE_LEVELS: usize = 100;

/// A text that is not the JSON form of the message, or bytes that are not the message: says why, in Go's words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

impl Malformed {
    fn new(text: impl Into<String>) -> Malformed {
        Malformed(text.into())
    }
}
