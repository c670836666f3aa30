//! Packing objects that our own refs reach, beside whatever the user's git does about its own.
//!
//! Deletes no object that is not in a pack, and no pack that somebody else made. Safe beside a `git gc` at any moment:
//! what one of the two deletes the other has, or had before.

use super::{Error, Repository};
use crate::model::ObjectId;
use bstr::ByteSlice;
use std::path::PathBuf;

impl Repository {
    /// Packs the loose objects that `tips` reach, on disk for good when this returns. Returns the pack's name; `None`
    /// if there was nothing to pack.
    pub fn pack_reachable(&self, tips: &[ObjectId]) -> Result<Option<String>, Error> {
        let input = tips.iter().map(ObjectId::as_str).collect::<Vec<_>>().join("\n");
        let options = ["--revs", "--unpacked", "--incremental", "--local"];
        self.pack_objects(&options, input.into_bytes())
    }

    /// Makes one pack of several. The old ones stay.
    pub fn combine_packs(&self, names: &[String]) -> Result<Option<String>, Error> {
        let input: Vec<String> = names.iter().map(|name| format!("pack-{name}.pack\n")).collect();
        self.pack_objects(&["--stdin-packs"], input.concat().into_bytes())
    }

    fn pack_objects(&self, options: &[&str], input: Vec<u8>) -> Result<Option<String>, Error> {
        let start = ["-c", "core.fsync=all", "pack-objects", "--quiet", "--non-empty", "--delta-base-offset"];
        let command = self.git(start).args(options).arg(self.pack_dir().join("pack")).stdin(input);
        let out = command.read()?;
        let Some(name) = out.lines().next().and_then(|line| line.to_str().ok()).filter(|n| !n.is_empty())
        else {
            return Ok(None);
        };
        // git syncs the pack; that its name is in the directory is ours to see to before anything is deleted.
        let dir = self.pack_dir();
        let synced = std::fs::File::open(&dir).and_then(|dir| dir.sync_all());
        synced.map_err(|e| Error::file("sync", &dir, e))?;
        if !self.has_pack(name) {
            let detail = format!("there is no pack {name}, which it said that it made");
            return Err(Error::Output { command: "pack-objects", detail });
        }
        Ok(Some(name.to_owned()))
    }

    fn pack_dir(&self) -> PathBuf {
        self.common_dir().join("objects/pack")
    }

    /// Whether a pack of this name is there, with its index.
    pub fn has_pack(&self, name: &str) -> bool {
        ["pack", "idx"].iter().all(|end| self.pack_dir().join(format!("pack-{name}.{end}")).is_file())
    }

    /// Whether git keeps an index of several packs, in which every one of them must stay.
    pub fn has_multi_pack_index(&self) -> bool {
        self.pack_dir().join("multi-pack-index").exists()
            || self.pack_dir().join("multi-pack-index.d").exists()
    }

    /// Deletes packs whose objects are in another one. One that is kept (`.keep`) stays.
    pub fn remove_packs(&self, names: &[String]) -> Result<(), Error> {
        for name in names {
            if self.pack_dir().join(format!("pack-{name}.keep")).exists() {
                continue;
            }
            // The index first: a pack without one is no pack for anybody who looks now.
            for end in ["idx", "rev", "bitmap", "pack"] {
                let path = self.pack_dir().join(format!("pack-{name}.{end}"));
                match std::fs::remove_file(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::file("remove", path, e));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Deletes the files of loose objects that are in packs too.
    pub fn prune_packed(&self) -> Result<(), Error> {
        self.git(["prune-packed", "--quiet"]).read()?;
        Ok(())
    }

    /// About a 256th of the loose objects: those of one directory, as `git gc --auto` counts them.
    pub fn sample_loose(&self) -> usize {
        std::fs::read_dir(self.common_dir().join("objects/17")).map_or(0, Iterator::count)
    }
}
