//! What was read when: a check of everything can be spread over many nights.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::repo::ids::{Hex, ObjectId, PackId};
use crate::repo::seal::Keyring;
use crate::repo::{RepoError, Repository, record, session};
use crate::store::Listed;

/// Folder of all records.
pub(in crate::repo) const PREFIX: &str = "checks/";
const KIND: &str = "check";

/// The beginning of a pack's id: long enough to tell packs apart, and short, as there may be many.
type ShortId = Hex<8>;

/// Which packs a check read to the last byte, and what came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckRecord {
    /// When it ended.
    pub time: jiff::Timestamp,
    /// Host it ran on.
    pub host: String,
    /// Version of pgtide.
    pub tool: String,
    /// The first 8 bytes of the ids of those that were sound.
    sound: Vec<ShortId>,
    /// Those that were not.
    damaged: Vec<PackId>,
    /// Whether blocks were compared with their checksums only, as the key could not open them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unopened: bool,
}

/// All records.
#[derive(Debug, Default)]
pub(in crate::repo) struct Passes {
    records: BTreeMap<ObjectId, CheckRecord>,
    last: HashMap<ShortId, jiff::Timestamp>,
}

fn short(pack: &PackId) -> ShortId {
    let mut id = [0; 8];
    id.copy_from_slice(&pack.0[..8]);
    Hex(id)
}

impl Passes {
    /// Reads the records. One that is damaged says nothing: its packs count as not read.
    pub fn load(repository: &Repository) -> Result<Self, RepoError> {
        let store = &*repository.store;
        let mut passes = Self::default();
        for Listed { name, .. } in store.list(PREFIX)? {
            let Some(id) = parse_name(&name) else {
                continue;
            };
            let Some(bytes) = store.get_if_there(&name)? else {
                continue;
            };
            let Ok(record) = decode(&repository.keys, &id, &bytes) else {
                continue;
            };
            // For who can open blocks, those that nobody opened were not read.
            if !(record.unopened && repository.can_read()) {
                for pack in &record.sound {
                    let last = passes.last.entry(*pack).or_insert(record.time);
                    *last = record.time.max(*last);
                }
            }
            passes.records.insert(id, record);
        }
        Ok(passes)
    }

    /// When the pack was last read and sound.
    pub fn last(&self, pack: &PackId) -> Option<jiff::Timestamp> {
        self.last.get(&short(pack)).copied()
    }

    /// Packs that a check found damaged, and none found sound since.
    pub fn damaged(&self) -> HashSet<PackId> {
        let found = self.records.values();
        let damaged =
            found.flat_map(|record| record.damaged.iter().map(move |pack| (pack, record.time)));
        damaged
            .filter(|(pack, time)| self.last(pack).is_none_or(|last| last < *time))
            .map(|(pack, _)| *pack)
            .collect()
    }

    /// So many percent of the bytes of these packs: those that were not read for longest, or never.
    pub fn choose(&self, packs: &[(PackId, u64)], percent: f64) -> HashSet<PackId> {
        let all: u64 = packs.iter().map(|(_, size)| size).sum();
        let wanted = (all as f64 * percent / 100.0).ceil() as u64;
        let mut order: Vec<&(PackId, u64)> = packs.iter().collect();
        order.sort_by_key(|(pack, _)| (self.last(pack), *pack));
        let mut chosen = 0;
        order
            .into_iter()
            .take_while(|(_, size)| {
                let go_on = chosen < wanted;
                chosen += size;
                go_on
            })
            .map(|(pack, _)| *pack)
            .collect()
    }

    /// Stores what a check found, and removes the records that say nothing any more: whose packs are gone or in this one.
    pub fn record(
        &self,
        repository: &Repository,
        listed: &[(PackId, u64)],
        sound: &[PackId],
        damaged: Vec<PackId>,
    ) -> Result<(), RepoError> {
        let new = CheckRecord {
            time: crate::clock::now(),
            host: session::host_name(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            sound: sound.iter().map(short).collect(),
            damaged,
            unopened: !repository.can_read(),
        };
        let bytes = record::encode(&repository.keys, KIND, "", &new)?;
        let store = &*repository.store;
        let id = ObjectId::of(&bytes);
        store.put(&object_name(&id), &bytes)?;
        let now: HashSet<&ShortId> = new.sound.iter().collect();
        let there: HashSet<ShortId> = listed.iter().map(|(pack, _)| short(pack)).collect();
        let says = |pack: &ShortId| there.contains(pack) && !now.contains(pack);
        for (old, record) in self.records.iter().filter(|(old, _)| **old != id) {
            let says_more = new.unopened && !record.unopened;
            if says_more
                || record.sound.iter().any(says)
                || record.damaged.iter().any(|pack| says(&short(pack)))
            {
                continue;
            }
            store.remove(&object_name(old))?;
        }
        Ok(())
    }
}

fn object_name(id: &ObjectId) -> String {
    format!("{PREFIX}{id}")
}

fn parse_name(name: &str) -> Option<ObjectId> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// Reads a record back; the error says what is wrong with it.
pub(in crate::repo) fn decode(
    keys: &Keyring,
    id: &ObjectId,
    bytes: &[u8],
) -> Result<CheckRecord, String> {
    if ObjectId::of(bytes) != *id {
        return Err("its bytes do not have the hash that is its name".into());
    }
    record::decode(keys, KIND, "", bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::LocalStore;

    #[test]
    fn a_part_every_night_reads_everything_in_turn() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repository::init(Arc::new(LocalStore::new(dir.path()))).unwrap();
        let packs: Vec<(PackId, u64)> = (0u8..20)
            .map(|n| (Hex([n; 32]), 100 + u64::from(n)))
            .collect();
        let mut read = HashSet::new();
        for night in 1..=11 {
            let passes = Passes::load(&repo).unwrap();
            let chosen = passes.choose(&packs, 10.0);
            assert!((2..=3).contains(&chosen.len()), "{}", chosen.len());
            let new = chosen.iter().filter(|pack| read.insert(**pack)).count();
            assert!(
                new == chosen.len() || read.len() == 20,
                "night {night}: those not read yet come first"
            );
            let sound: Vec<PackId> = chosen.into_iter().collect();
            passes.record(&repo, &packs, &sound, vec![]).unwrap();
        }
        assert_eq!(read.len(), 20);
        // A check of everything says all there is to say.
        let sound: Vec<PackId> = packs.iter().map(|(pack, _)| *pack).collect();
        Passes::load(&repo)
            .unwrap()
            .record(&repo, &packs, &sound, vec![])
            .unwrap();
        assert_eq!(repo.store.list(PREFIX).unwrap().len(), 1);
    }

    #[test]
    fn damage_is_remembered_until_the_pack_is_sound_or_gone() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repository::init(Arc::new(LocalStore::new(dir.path()))).unwrap();
        let packs: Vec<(PackId, u64)> = (0u8..3).map(|n| (Hex([n; 32]), 100)).collect();
        let [a, b, _] = [0, 1, 2].map(|n: usize| packs[n].0);
        Passes::default()
            .record(&repo, &packs, &[], vec![a, b])
            .unwrap();
        assert_eq!(
            Passes::load(&repo).unwrap().damaged(),
            HashSet::from([a, b])
        );
        Passes::load(&repo)
            .unwrap()
            .record(&repo, &packs, &[a], vec![])
            .unwrap();
        assert_eq!(Passes::load(&repo).unwrap().damaged(), HashSet::from([b]));
        Passes::load(&repo)
            .unwrap()
            .record(&repo, &packs[..1], &[a], vec![])
            .unwrap();
        assert!(Passes::load(&repo).unwrap().damaged().is_empty());
    }
}
