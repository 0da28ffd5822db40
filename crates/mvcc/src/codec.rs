//! Reading and writing of the crate's own binary formats (commands, records, checkpoint meta).
//!
//! Owns the primitives: variable-length integers and length-prefixed bytes. The reader is bounds-checked and takes
//! zero-copy slices of its input; it never panics and never allocates what the input does not contain.

use bytes::Bytes;

/// Longest variable-length integer: ten groups of seven bits hold 64 bits.
const MAX_INTEGER_BYTES: u32 = 10;

/// Bytes that are no valid encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends inside a field.
    #[error("the encoding is cut off")]
    Truncated,
    /// The first byte names a format that this version does not know.
    #[error("unknown format {0}")]
    UnknownFormat(u8),
    /// A tag inside is none that this version knows.
    #[error("unknown tag {0}")]
    UnknownTag(u8),
    /// An integer has more bits than its field, or more bytes than it needs.
    #[error("an integer is malformed")]
    MalformedInteger,
    /// Transactions are nested more deeply than [`MAX_TXN_DEPTH`](crate::MAX_TXN_DEPTH).
    #[error("transactions are nested too deeply")]
    TooDeep,
    /// A name is not UTF-8.
    #[error("a name is no text")]
    NotText,
    /// Parts of the encoding contradict each other, or are not in their order.
    #[error("the parts contradict each other")]
    Contradiction,
    /// Bytes follow the end of the encoding.
    #[error("bytes follow the end of the encoding")]
    TrailingBytes,
}

/// Appends an unsigned integer, seven bits a byte, lowest first.
pub(crate) fn write_unsigned(output: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        output.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    output.push((value & 0x7f) as u8);
}

/// Appends a signed integer so that small ones of either sign are short.
pub(crate) fn write_signed(output: &mut Vec<u8>, value: i64) {
    write_unsigned(output, (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned());
}

/// Appends bytes behind their length.
pub(crate) fn write_bytes(output: &mut Vec<u8>, value: &[u8]) {
    write_unsigned(output, value.len() as u64);
    output.extend_from_slice(value);
}

/// Reads an encoding from front to back, by borrowing from it.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'input> {
    rest: &'input [u8],
}

impl<'input> Cursor<'input> {
    pub(crate) fn new(input: &'input [u8]) -> Cursor<'input> {
        Cursor { rest: input }
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (byte, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*byte)
    }

    /// The next unsigned integer, which must be in its shortest form: one value has one encoding.
    pub(crate) fn unsigned(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for group in 0..MAX_INTEGER_BYTES {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if group == MAX_INTEGER_BYTES - 1 && bits > 1 {
                return Err(DecodeError::MalformedInteger);
            }
            value |= bits << (7 * group);
            if byte & 0x80 == 0 {
                if byte == 0 && group > 0 {
                    return Err(DecodeError::MalformedInteger);
                }
                return Ok(value);
            }
        }
        Err(DecodeError::MalformedInteger)
    }

    /// The next signed integer.
    pub(crate) fn signed(&mut self) -> Result<i64, DecodeError> {
        let value = self.unsigned()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// The next length or count; never more than the bytes that are left, so that it is safe to reserve for.
    pub(crate) fn length(&mut self) -> Result<usize, DecodeError> {
        let length = usize::try_from(self.unsigned()?).map_err(|_| DecodeError::Truncated)?;
        if length > self.rest.len() { Err(DecodeError::Truncated) } else { Ok(length) }
    }

    /// The next length-prefixed bytes.
    pub(crate) fn bytes(&mut self) -> Result<&'input [u8], DecodeError> {
        let length = self.length()?;
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(bytes)
    }

    /// All that is left.
    pub(crate) fn remainder(self) -> &'input [u8] {
        self.rest
    }
}

/// Reads an encoding from front to back; what it takes out of it shares the input's memory.
pub(crate) struct Reader {
    rest: Bytes,
}

#[allow(clippy::redundant_closure_for_method_calls)] // the methods themselves are not general enough
impl Reader {
    /// A reader over the whole of `input`, which it shares.
    pub(crate) fn new(input: Bytes) -> Reader {
        Reader { rest: input }
    }

    fn read<T>(
        &mut self,
        read: impl FnOnce(&mut Cursor<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let mut cursor = Cursor::new(&self.rest);
        let value = read(&mut cursor)?;
        let taken = self.rest.len() - cursor.rest.len();
        bytes::Buf::advance(&mut self.rest, taken);
        Ok(value)
    }

    /// See [`Cursor::byte`].
    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.read(|cursor| cursor.byte())
    }

    /// See [`Cursor::unsigned`].
    pub(crate) fn unsigned(&mut self) -> Result<u64, DecodeError> {
        self.read(|cursor| cursor.unsigned())
    }

    /// See [`Cursor::signed`].
    pub(crate) fn signed(&mut self) -> Result<i64, DecodeError> {
        self.read(|cursor| cursor.signed())
    }

    /// See [`Cursor::length`].
    pub(crate) fn length(&mut self) -> Result<usize, DecodeError> {
        self.read(|cursor| cursor.length())
    }

    /// The next length-prefixed bytes, as a slice of the input.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.length()?;
        Ok(self.rest.split_to(length))
    }

    /// The next length-prefixed text.
    pub(crate) fn text(&mut self) -> Result<String, DecodeError> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| DecodeError::NotText)
    }

    /// Whether nothing is left.
    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ends the reading; nothing may be left.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_at_their_edges() {
        for value in [0, 1, -1, 63, 64, -64, -65, i64::MAX, i64::MIN] {
            let mut output = Vec::new();
            write_signed(&mut output, value);
            let mut reader = Reader::new(Bytes::from(output));
            assert_eq!(reader.signed(), Ok(value));
            assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn integers_have_one_encoding() {
        let read = |bytes: &'static [u8]| Reader::new(Bytes::from_static(bytes)).unsigned();
        assert_eq!(read(&[0x80, 0x00]), Err(DecodeError::MalformedInteger));
        assert_eq!(read(&[0xff; 10]), Err(DecodeError::MalformedInteger));
        assert_eq!(read(&[0xff; 3]), Err(DecodeError::Truncated));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Ok(u64::MAX));
    }

    #[test]
    fn a_length_beyond_the_input_is_refused() {
        let mut output = Vec::new();
        write_unsigned(&mut output, u64::MAX);
        assert_eq!(Reader::new(Bytes::from(output)).bytes(), Err(DecodeError::Truncated));
    }
}
