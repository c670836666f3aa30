//! Where two trees both differ from a third: all that a merge of the two has to decide. Reads only, by gix.
//!
//! Directories that only one side changed are not entered, so that the price is that of what both touched.

use super::object::{from_gix, to_gix};
use super::{EntryMode, Error, Repository};
use crate::model::ObjectId;
use bstr::{BStr, BString, ByteSlice, ByteVec};
use gix::objs::TreeRefIter;
use std::collections::HashMap;
use std::rc::Rc;

/// A path that both sides changed, with what it is in each of the three trees; `None` where it is not there.
///
/// Whoever moved something is seen where it was and where it is. A directory stands for all that is in it where one side
/// has none of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreeWay {
    /// The path, with `/`.
    pub path: BString,
    /// In the common ancestor.
    pub base: Option<(EntryMode, ObjectId)>,
    /// In the one side.
    pub ours: Option<(EntryMode, ObjectId)>,
    /// In the other side.
    pub theirs: Option<(EntryMode, ObjectId)>,
}

/// Compares trees, and remembers those it has read.
#[derive(Debug)]
pub struct ThreeWays<'a> {
    repo: &'a Repository,
    trees: HashMap<gix::ObjectId, Rc<[Row]>>,
    buffer: Vec<u8>,
}

/// An entry of a tree. Those of a tree are in the order of their names' bytes, which is not quite git's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    name: BString,
    mode: EntryMode,
    id: gix::ObjectId,
}

impl Row {
    fn entry(&self) -> (EntryMode, ObjectId) {
        (self.mode, from_gix(&self.id))
    }

    fn same(one: Option<&Self>, other: Option<&Self>) -> bool {
        one.map(|row| (row.mode, row.id)) == other.map(|row| (row.mode, row.id))
    }
}

impl Repository {
    /// Compares trees of this repository.
    pub fn three_ways(&self) -> ThreeWays<'_> {
        ThreeWays { repo: self, trees: HashMap::new(), buffer: Vec::new() }
    }
}

impl ThreeWays<'_> {
    /// The paths at which `ours` and `theirs` both differ from `base` (trees), also where they changed it alike; by name.
    pub fn between(
        &mut self,
        base: &ObjectId,
        ours: &ObjectId,
        theirs: &ObjectId,
    ) -> Result<Vec<ThreeWay>, Error> {
        let mut found = Vec::new();
        self.walk(&mut BString::default(), [to_gix(base), to_gix(ours), to_gix(theirs)], &mut found)?;
        Ok(found)
    }

    fn walk(
        &mut self,
        at: &mut BString,
        trees: [gix::ObjectId; 3],
        found: &mut Vec<ThreeWay>,
    ) -> Result<(), Error> {
        let [base, ours, theirs] = trees;
        if base == ours || base == theirs {
            return Ok(());
        }
        let (base, ours, theirs) = (self.read(base)?, self.read(ours)?, self.read(theirs)?);
        let mut rests = [&base[..], &ours[..], &theirs[..]];
        while let Some(name) =
            rests.iter().filter_map(|rest| rest.first()).map(|row| row.name.as_bstr()).min()
        {
            let [base, ours, theirs] = rests.each_mut().map(|rest| take(rest, name));
            if Row::same(base, ours) || Row::same(base, theirs) {
                continue;
            }
            let parent = at.len();
            if parent > 0 {
                at.push_byte(b'/');
            }
            at.push_str(name);
            match (base, ours, theirs) {
                (Some(base), Some(ours), Some(theirs))
                    if [base, ours, theirs].iter().all(|row| row.mode == EntryMode::Tree) =>
                {
                    self.walk(at, [base.id, ours.id, theirs.id], found)?;
                }
                _ => {
                    let [base, ours, theirs] = [base, ours, theirs].map(|row| row.map(Row::entry));
                    found.push(ThreeWay { path: at.clone(), base, ours, theirs });
                }
            }
            at.truncate(parent);
        }
        Ok(())
    }

    fn read(&mut self, id: gix::ObjectId) -> Result<Rc<[Row]>, Error> {
        if let Some(rows) = self.trees.get(&id) {
            return Ok(rows.clone());
        }
        let failed = |e: gix::Error| Error::read("tree", &from_gix(&id), e);
        self.repo.find_raw_tree(id, &mut self.buffer)?;
        let row = |entry: gix::objs::tree::EntryRef<'_>| Row {
            name: entry.filename.to_owned(),
            mode: EntryMode::from_kind(entry.mode.kind()),
            id: entry.oid.to_owned(),
        };
        let mut rows = TreeRefIter::from_bytes(&self.buffer, id.kind())
            .map(|entry| entry.map(row))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        let rows: Rc<[Row]> = rows.into();
        self.trees.insert(id, rows.clone());
        Ok(rows)
    }
}

/// Takes the first row if it has that name.
fn take<'a>(rest: &mut &'a [Row], name: &BStr) -> Option<&'a Row> {
    let (first, others) = rest.split_first()?;
    (first.name == name).then(|| {
        *rest = others;
        first
    })
}
