//! Writing packs anew without what nobody needs.

use super::super::RepoError;
use super::super::ids::{ObjectId, PackId};
use super::super::index;
use super::super::moved::MovedBlocks;
use super::super::pack::{self, TocEntry};
use super::super::session;
use super::super::used::PackUse;
use super::view::View;
use super::{PrunePhase, PruneProgress, Run};

/// Bytes of packs after which what was written is indexed and what it replaces is marked: a prune that is killed loses
/// no more.
const BATCH_BYTES: u64 = 1 << 30;

impl Run<'_> {
    /// Writes what is needed of these packs into new ones; returns the tombstones of the old ones.
    pub(super) fn repack(
        &mut self,
        view: &View,
        packs: &[PackUse],
    ) -> Result<Vec<(ObjectId, Vec<PackId>)>, RepoError> {
        let total = packs.iter().map(|pack| pack.size).sum();
        let (mut done, mut tombstones) = (0, Vec::new());
        let mut batch = Vec::new();
        let mut new = MovedBlocks::new(self.repository, self.options.pack_size);
        let mut pending = 0;
        let mut packs = packs.iter().peekable();
        while let Some(victim) = packs.next() {
            let phase = PrunePhase::Repack;
            (self.progress)(PruneProgress { phase, done, total });
            done += victim.size;
            match self.copy_needed(view, victim, &mut new) {
                Ok(()) => {
                    batch.push(victim.id);
                    pending += victim.size;
                }
                Err(error) if error.is_full() => {
                    self.report.notes.push(
                        "there is no space to write packs anew: run prune again when what is marked has been deleted".into(),
                    );
                    return Ok(tombstones);
                }
                Err(RepoError::Damaged { object, detail }) => {
                    self.report.notes.push(format!(
                        "{object} was left as it is: {detail}; run check and repair"
                    ));
                }
                Err(error) => return Err(error),
            }
            if pending >= BATCH_BYTES || packs.peek().is_none() {
                let finished = new.finish()?;
                if !finished.is_empty() {
                    index::put(self.repository, &index::build(&finished))?;
                    self.report.rewritten_bytes +=
                        finished.iter().map(|pack| pack.size).sum::<u64>();
                }
                if !batch.is_empty() {
                    let id = session::mark(self.repository, batch.clone())?;
                    tombstones.push((id, std::mem::take(&mut batch)));
                }
                pending = 0;
            }
        }
        Ok(tombstones)
    }

    /// Copies what is needed of one pack.
    fn copy_needed(
        &self,
        view: &View,
        victim: &PackUse,
        new: &mut MovedBlocks<'_>,
    ) -> Result<(), RepoError> {
        let store = &*self.repository.store;
        let mut toc = pack::read_toc(store, &victim.id, victim.size)?;
        toc.retain(|entry| view.used.is_needed_in(&entry.id, &victim.id));
        let mut bytes = Vec::new();
        let mut rest = &toc[..];
        while !rest.is_empty() {
            let run = neighbours(rest);
            let (now, later) = rest.split_at(run);
            rest = later;
            let start = now[0].offset;
            let len = now.iter().map(|entry| entry.length as usize).sum();
            store.get_range(&pack::object_name(&victim.id), start, len, &mut bytes)?;
            for entry in now {
                let at = (entry.offset - start) as usize;
                let block = &bytes[at..at + entry.length as usize];
                new.append(victim.id, entry, block)?;
            }
        }
        Ok(())
    }
}

/// How many of the first entries lie back to back and are read at once.
fn neighbours(entries: &[TocEntry]) -> usize {
    let mut len = u64::from(entries[0].length);
    let pairs = entries.windows(2).take_while(|pair| {
        len += u64::from(pair[1].length);
        pair[0].offset + u64::from(pair[0].length) == pair[1].offset && len <= pack::READ_LEN
    });
    1 + pairs.count()
}
