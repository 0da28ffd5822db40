//! What was written, read back by following bbolt's description of its format.

use std::convert::Infallible;

use super::*;
use page::fnv_1a;

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn half(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn quarter(bytes: &[u8], at: usize) -> usize {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()).into()
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads a file, and counts how often each page is reached.
struct Reader<'a> {
    file: &'a [u8],
    reached: Vec<u32>,
    depth: usize,
}

impl Reader<'_> {
    fn rows(&mut self, page: u64, depth: usize) -> Rows {
        self.depth = self.depth.max(depth);
        let start = usize::try_from(page).unwrap() * PAGE_BYTES;
        let file = &self.file[start..];
        assert_eq!(word(file, 0), page, "a page knows its number");
        let (flags, count, overflow) = (quarter(file, 8), quarter(file, 10), half(file, 12));
        for reached in &mut self.reached[start / PAGE_BYTES..=start / PAGE_BYTES + overflow] {
            *reached += 1;
        }
        let mut rows = Rows::new();
        for index in 0..count {
            let at = HEADER_BYTES + index * 16;
            if flags == 1 {
                let key = &file[at + half(file, at)..][..half(file, at + 4)];
                let below = self.rows(word(file, at + 8), depth + 1);
                assert_eq!(below[0].0, key, "a branch knows the first key of its child");
                rows.extend(below);
            } else {
                assert_eq!(flags, 2);
                let key_at = at + half(file, at + 4);
                let (key_length, value_length) = (half(file, at + 8), half(file, at + 12));
                let (key, value) = file[key_at..].split_at(key_length);
                rows.push((key.to_vec(), value[..value_length].to_vec()));
            }
        }
        rows
    }
}

fn write(buckets: &[(&str, Rows)], mut out: impl FnMut(&[u8])) -> Layout {
    let mut writer = Writer::new(|page: &[u8]| {
        assert_eq!(page.len() % PAGE_BYTES, 0);
        out(page);
        Ok::<_, Infallible>(())
    });
    for (name, rows) in buckets {
        let mut bucket = writer.bucket(name.as_bytes());
        for (key, value) in rows {
            bucket.put(key, value).unwrap();
        }
        bucket.finish().unwrap();
    }
    writer.finish().unwrap()
}

/// Writes and reads; how deep the deepest tree is.
fn check(buckets: &[(&str, Rows)]) -> usize {
    let layout = write(buckets, |_| ());
    let mut file = layout.header();
    assert_eq!(write(buckets, |page| file.extend_from_slice(page)), layout, "both passes are the same");
    assert_eq!(file.len() as u64, layout.bytes());
    for number in [0, 1] {
        let meta = &file[number * PAGE_BYTES..][..PAGE_BYTES];
        assert_eq!((half(meta, 16), half(meta, 20), half(meta, 24)), (0xED0C_DAED, 2, 4096));
        assert_eq!([word(meta, 32), word(meta, 48), word(meta, 56)], [layout.root, 2, layout.pages]);
        assert_eq!(word(meta, 72), fnv_1a(&meta[16..72]));
    }
    let pages = file.len() / PAGE_BYTES;
    let mut reader = Reader { file: &file, reached: vec![0; pages], depth: 0 };
    let found = reader.rows(layout.root, 0);
    let mut expected: Vec<_> = buckets.iter().collect();
    expected.sort_by_key(|(name, _)| *name);
    assert_eq!(found.len(), expected.len());
    for ((name, value), (expected_name, expected_rows)) in found.iter().zip(expected) {
        assert_eq!(name, expected_name.as_bytes());
        assert_eq!(reader.rows(word(value, 0), 0), *expected_rows);
    }
    assert_eq!(&reader.reached[..3], [0, 0, 0]);
    assert!(reader.reached[3..].iter().all(|reached| *reached == 1), "no page twice, none lost");
    reader.depth
}

fn rows(count: u64, value: impl Fn(u64) -> usize) -> Rows {
    (0..count).map(|n| (n.to_be_bytes().to_vec(), vec![u8::try_from(n % 251).unwrap(); value(n)])).collect()
}

#[test]
fn small_and_empty_buckets() {
    check(&[]);
    assert_eq!(check(&[("key", rows(3, |_| 10)), ("alarm", Rows::new()), ("lease", rows(1, |_| 0))]), 0);
}

#[test]
fn trees_of_several_levels() {
    assert_eq!(check(&[("a", rows(200, |_| 30))]), 1);
    assert_eq!(
        check(&[("a", rows(60_000, |_| 100)), ("b", rows(40_000, |n| usize::try_from(n % 300).unwrap()))]),
        2
    );
}

#[test]
fn large_values_have_pages_of_their_own() {
    check(&[("a", rows(40, |n| if n % 3 == 0 { 1_500_000 } else { 20 }))]);
    // Around the edge of a page.
    for value in 4_040..4_100 {
        check(&[("a", rows(3, |_| value))]);
    }
}

#[test]
fn every_number_of_rows() {
    for count in 0..700 {
        check(&[("a", rows(count, |_| 1_000))]);
    }
}

#[test]
fn an_error_of_the_output_ends_it() {
    let mut left = 3;
    let mut writer = Writer::new(|_: &[u8]| {
        left -= 1;
        if left == 0 { Err("full") } else { Ok(()) }
    });
    let mut bucket = writer.bucket(b"a");
    let written = rows(100, |_| 500).iter().try_for_each(|(key, value)| bucket.put(key, value));
    assert_eq!(written, Err("full"));
}

#[test]
#[should_panic(expected = "keys ascend")]
fn rows_out_of_order_are_a_bug() {
    write(&[("a", vec![(vec![2], vec![]), (vec![1], vec![])])], |_| ());
}

#[test]
fn the_checksum_is_fnv_1a() {
    assert_eq!(fnv_1a(b"a"), 0xaf63_dc4c_8601_ec8c);
}
