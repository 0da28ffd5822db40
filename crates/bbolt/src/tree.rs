//! A tree from rows in ascending order: leaves are written as they fill up, and each page written becomes a child one
//! level above, where branches fill up in the same way.

use crate::page::{LeafElement, Node, Pages};

/// A tree that is being written. Holds the unfinished page of each level.
#[derive(Default)]
pub(crate) struct Tree {
    leaf: Node,
    /// Branches from the one above the leaves upwards.
    branches: Vec<Node>,
    last_key: Option<Vec<u8>>,
}

impl Tree {
    pub(crate) fn put<Out, Error>(
        &mut self,
        pages: &mut Pages<Out>,
        row: &LeafElement<'_>,
    ) -> Result<(), Error>
    where
        Out: FnMut(&[u8]) -> Result<(), Error>,
    {
        assert!(self.last_key.as_deref().is_none_or(|last| last < row.key), "keys ascend");
        self.last_key.get_or_insert_default().clear();
        if let Some(last) = &mut self.last_key {
            last.extend_from_slice(row.key);
        }
        if self.leaf.is_full_for(row.key.len() + row.value.len()) {
            self.write_leaf(pages)?;
        }
        self.leaf.push_row(row);
        Ok(())
    }

    fn write_leaf<Out, Error>(&mut self, pages: &mut Pages<Out>) -> Result<(), Error>
    where
        Out: FnMut(&[u8]) -> Result<(), Error>,
    {
        let first_key = self.leaf.first_key().to_vec();
        let page = pages.write(&mut self.leaf)?;
        self.add_child(pages, 0, &first_key, page)
    }

    fn add_child<Out, Error>(
        &mut self,
        pages: &mut Pages<Out>,
        level: usize,
        first_key: &[u8],
        page: u64,
    ) -> Result<(), Error>
    where
        Out: FnMut(&[u8]) -> Result<(), Error>,
    {
        if self.branches.len() == level {
            self.branches.push(Node::default());
        }
        if self.branches[level].is_full_for(first_key.len()) {
            let firsts = self.branches[level].first_key().to_vec();
            let full = pages.write(&mut self.branches[level])?;
            self.add_child(pages, level + 1, &firsts, full)?;
        }
        self.branches[level].push_child(first_key, page);
        Ok(())
    }

    /// Writes what is left; the page at the top.
    pub(crate) fn finish<Out, Error>(mut self, pages: &mut Pages<Out>) -> Result<u64, Error>
    where
        Out: FnMut(&[u8]) -> Result<(), Error>,
    {
        if self.branches.is_empty() {
            return pages.write(&mut self.leaf);
        }
        self.write_leaf(pages)?;
        let mut level = 0;
        loop {
            let firsts = self.branches[level].first_key().to_vec();
            let page = pages.write(&mut self.branches[level])?;
            level += 1;
            if level == self.branches.len() {
                return Ok(page);
            }
            self.add_child(pages, level, &firsts, page)?;
        }
    }
}
