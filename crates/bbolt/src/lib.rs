//! Writes files of [bbolt](https://github.com/etcd-io/bbolt), the database that etcd keeps its data in and whose file is
//! what a snapshot of etcd is.
//!
//! Only writing, once, from rows that come in order: [`Writer`] puts them into pages from front to back and keeps one
//! page of each level of a tree in memory. What comes first in the file - the meta pages - is known last, so the rows
//! are gone through twice: once to learn the [`Layout`], once to write.
//!
//! ```text
//! page 0, 1   meta: where the tree of buckets begins, where the free list is, how many pages there are
//! page 2      free list: empty
//! page 3 ...  each bucket's leaves and branches as they fill up, last the tree of buckets
//! ```
//!
//! Invariant: every page is reached from the meta pages exactly once, which is what bbolt's own check asks for.

mod page;
mod tree;

pub use page::{HEADER_BYTES, Layout, PAGE_BYTES};

use page::{FIRST_PAGE, LeafElement, Pages};
use tree::Tree;

/// Writes the pages behind the [`Layout::header`], bucket after bucket. `out` gets every page once, in order.
pub struct Writer<Out> {
    pages: Pages<Out>,
    /// Finished buckets with the first page of their tree.
    buckets: Vec<(Vec<u8>, u64)>,
}

impl<Out, Error> Writer<Out>
where
    Out: FnMut(&[u8]) -> Result<(), Error>,
{
    /// Begins behind the header.
    pub fn new(out: Out) -> Self {
        Self { pages: Pages::new(out), buckets: Vec::new() }
    }

    /// Begins a bucket; it has to be finished before the next.
    pub fn bucket(&mut self, name: &[u8]) -> Bucket<'_, Out> {
        Bucket { name: name.to_vec(), tree: Tree::default(), writer: self }
    }

    /// Writes the tree of buckets and ends.
    ///
    /// # Errors
    /// Of `out`.
    pub fn finish(mut self) -> Result<Layout, Error> {
        self.buckets.sort();
        let mut tree = Tree::default();
        for (name, root) in &self.buckets {
            // What bbolt keeps of a bucket: its first page, and a counter that etcd does not use.
            let mut value = [0; 16];
            value[..8].copy_from_slice(&root.to_le_bytes());
            tree.put(&mut self.pages, &LeafElement { is_bucket: true, key: name, value: &value })?;
        }
        let root = tree.finish(&mut self.pages)?;
        Ok(Layout { root, pages: self.pages.next() })
    }
}

/// A bucket that is being written.
pub struct Bucket<'a, Out> {
    name: Vec<u8>,
    tree: Tree,
    writer: &'a mut Writer<Out>,
}

impl<Out, Error> Bucket<'_, Out>
where
    Out: FnMut(&[u8]) -> Result<(), Error>,
{
    /// Writes the next row; keys must ascend.
    ///
    /// # Errors
    /// Of `out`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.tree.put(&mut self.writer.pages, &LeafElement { is_bucket: false, key, value })
    }

    /// Ends the bucket.
    ///
    /// # Errors
    /// Of `out`.
    pub fn finish(self) -> Result<(), Error> {
        let root = self.tree.finish(&mut self.writer.pages)?;
        self.writer.buckets.push((self.name, root));
        Ok(())
    }
}

impl Layout {
    /// The pages in front of what [`Writer`] writes.
    pub fn header(&self) -> Vec<u8> {
        let mut header = page::meta(0, self);
        header.extend(page::meta(1, self));
        header.extend(page::empty_free_list());
        assert!(header.len() as u64 == FIRST_PAGE * PAGE_BYTES as u64, "the header fills its pages");
        header
    }

    /// Length of the whole file in bytes.
    pub const fn bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

#[cfg(test)]
mod tests;
