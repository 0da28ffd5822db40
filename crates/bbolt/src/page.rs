//! Pages and what is in them, byte by byte. All numbers are little-endian.

/// Size of a page. bbolt reads it from the meta page; this is the usual one, and etcd checks a snapshot's length
/// against its sectors.
pub const PAGE_BYTES: usize = 4096;

/// Id, flags, count, overflow: what every page begins with.
pub const HEADER_BYTES: usize = 16;

/// What each element takes in front of the keys and values.
const ELEMENT_BYTES: usize = 16;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const META: u16 = 0x04;
const FREE_LIST: u16 = 0x10;

/// Flag of a leaf's element that is a bucket.
const IS_BUCKET: u32 = 1;

/// What a file of bbolt begins with.
const MAGIC: u32 = 0xED0C_DAED;
/// The format's version.
const VERSION: u32 = 2;

/// Where the free list is.
const FREE_LIST_PAGE: u64 = 2;
/// The first page behind the header.
pub(crate) const FIRST_PAGE: u64 = 3;

/// Where things are in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// First page of the tree of buckets.
    pub root: u64,
    /// Pages in all.
    pub pages: u64,
}

/// Numbers pages and gives them out.
pub(crate) struct Pages<Out> {
    out: Out,
    next: u64,
    buffer: Vec<u8>,
}

/// A row of a leaf.
#[derive(Clone, Copy)]
pub(crate) struct LeafElement<'a> {
    pub is_bucket: bool,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

/// A page that is filling up: elements in front, what they point to behind them.
#[derive(Default)]
pub(crate) struct Node {
    /// Flags or page number, length of the key, length of the value.
    elements: Vec<Element>,
    data: Vec<u8>,
    /// Its smallest key.
    first_key: Vec<u8>,
}

struct Element {
    kind: ElementKind,
    key_length: u32,
    value_length: u32,
}

enum ElementKind {
    Row { flags: u32 },
    Child { page: u64 },
}

impl Node {
    pub(crate) fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    pub(crate) fn first_key(&self) -> &[u8] {
        &self.first_key
    }

    /// Whether one more element of this length belongs on another page. An element larger than a page gets pages of its own.
    pub(crate) fn is_full_for(&self, bytes: usize) -> bool {
        let used = HEADER_BYTES + self.elements.len() * ELEMENT_BYTES + self.data.len();
        !self.is_empty() && used + ELEMENT_BYTES + bytes > PAGE_BYTES
    }

    pub(crate) fn push_row(&mut self, row: &LeafElement<'_>) {
        let flags = if row.is_bucket { IS_BUCKET } else { 0 };
        self.push(ElementKind::Row { flags }, row.key, row.value);
    }

    pub(crate) fn push_child(&mut self, first_key: &[u8], page: u64) {
        self.push(ElementKind::Child { page }, first_key, &[]);
    }

    fn push(&mut self, kind: ElementKind, key: &[u8], value: &[u8]) {
        if self.elements.is_empty() {
            self.first_key = key.to_vec();
        }
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a record is smaller than 4 GiB");
        self.elements.push(Element { kind, key_length: length(key), value_length: length(value) });
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    fn flags(&self) -> u16 {
        match self.elements.first() {
            Some(Element { kind: ElementKind::Child { .. }, .. }) => BRANCH,
            // A tree without rows is one empty leaf.
            Some(Element { kind: ElementKind::Row { .. }, .. }) | None => LEAF,
        }
    }

    /// The page without its header.
    fn write_body(&self, buffer: &mut Vec<u8>) {
        let mut position = self.elements.len() * ELEMENT_BYTES;
        for (index, element) in self.elements.iter().enumerate() {
            // Counted from the element itself.
            let offset =
                u32::try_from(position - index * ELEMENT_BYTES).expect("pages are smaller than 4 GiB");
            let (offset, key_length) = (offset.to_le_bytes(), element.key_length.to_le_bytes());
            match element.kind {
                ElementKind::Row { flags } => {
                    buffer.extend(flags.to_le_bytes());
                    buffer.extend(offset);
                    buffer.extend(key_length);
                    buffer.extend(element.value_length.to_le_bytes());
                }
                ElementKind::Child { page } => {
                    buffer.extend(offset);
                    buffer.extend(key_length);
                    buffer.extend(page.to_le_bytes());
                }
            }
            position += element.key_length as usize + element.value_length as usize;
        }
        buffer.extend_from_slice(&self.data);
    }
}

impl<Out, Error> Pages<Out>
where
    Out: FnMut(&[u8]) -> Result<(), Error>,
{
    pub(crate) fn new(out: Out) -> Self {
        Self { out, next: FIRST_PAGE, buffer: Vec::new() }
    }

    /// The number of the next page.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    /// Gives a page out, and empties it; its number.
    pub(crate) fn write(&mut self, node: &mut Node) -> Result<u64, Error> {
        let id = self.next;
        let bytes = HEADER_BYTES + node.elements.len() * ELEMENT_BYTES + node.data.len();
        let pages = bytes.div_ceil(PAGE_BYTES);
        self.buffer.clear();
        write_header(&mut self.buffer, id, node.flags(), node.elements.len(), pages - 1);
        node.write_body(&mut self.buffer);
        assert!(self.buffer.len() == bytes, "a page is as long as was counted");
        self.buffer.resize(pages * PAGE_BYTES, 0);
        (self.out)(&self.buffer)?;
        self.next += pages as u64;
        node.elements.clear();
        node.data.clear();
        Ok(id)
    }
}

fn write_header(buffer: &mut Vec<u8>, id: u64, flags: u16, count: usize, overflow: usize) {
    buffer.extend(id.to_le_bytes());
    buffer.extend(flags.to_le_bytes());
    buffer.extend(u16::try_from(count).expect("a page holds a few hundred elements").to_le_bytes());
    buffer.extend(u32::try_from(overflow).expect("a record is smaller than 4 GiB").to_le_bytes());
}

/// One of the two meta pages. bbolt takes the valid one with the higher transaction number; both say the same here.
pub(crate) fn meta(number: u64, layout: &Layout) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE_BYTES);
    write_header(&mut page, number, META, 0, 0);
    for word in [MAGIC, VERSION, 4096, 0] {
        page.extend(word.to_le_bytes());
    }
    let sequence = 0;
    let transaction = number;
    for word in [layout.root, sequence, FREE_LIST_PAGE, layout.pages, transaction] {
        page.extend(u64::to_le_bytes(word));
    }
    let checksum = fnv_1a(&page[HEADER_BYTES..]);
    page.extend(checksum.to_le_bytes());
    page.resize(PAGE_BYTES, 0);
    page
}

pub(crate) fn empty_free_list() -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE_BYTES);
    write_header(&mut page, FREE_LIST_PAGE, FREE_LIST, 0, 0);
    page.resize(PAGE_BYTES, 0);
    page
}

/// The 64-bit FNV-1a hash.
pub(crate) fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
