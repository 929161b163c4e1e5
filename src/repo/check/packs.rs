//! Packs: there, of the right length, as the index says; and read to the last byte where that is asked for.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::bounded;

use super::problems::{ProblemKind, Problems};
use super::{CheckPhase, CheckProgress, CheckReport, Snapshots, pack_name};
use crate::repo::block::{BlockHeader, HEADER_LEN};
use crate::repo::ids::PackId;
use crate::repo::index::{self, COMPACTED_RECORDS, IndexFile, IndexSet};
use crate::repo::pack::{self, FinishedPack, TocEntry};
use crate::repo::reader::{BlockFault, verify_block};
use crate::repo::{RepoError, Repository};
use crate::rows::Decoder;

/// Threads that read and decode.
const MAX_THREADS: usize = 4;

/// What it costs to look at a pack without reading it, in bytes: for the progress alone.
const LOOK_COST: u64 = 4096;

/// What the walk over the snapshots needs to know of the packs.
#[derive(Debug, Default)]
pub(super) struct PackStates {
    /// Sound packs.
    sound: HashSet<PackId>,
    /// Of a damaged pack, where its sound blocks begin. A pack in neither is missing.
    partly: HashMap<PackId, HashSet<u64>>,
    /// Where blocks lie in packs that no sound index names.
    pub unindexed: IndexSet,
}

/// What is to be read to the last byte.
pub(super) struct Reading {
    /// All packs, in order of id.
    pub listed: Vec<(PackId, u64)>,
    /// Those of them to read.
    pub chosen: HashSet<PackId>,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Packs that were sound.
    pub sound: Vec<PackId>,
    /// Packs that were not.
    pub damaged: Vec<PackId>,
}

impl PackStates {
    /// Keeps the places of blocks in these packs out of memory.
    fn set_aside(&mut self, packs: &mut Vec<FinishedPack>) -> Result<(), RepoError> {
        if !packs.is_empty() {
            let (id, file) = index::keep_aside(&index::build(packs))?;
            self.unindexed.files.insert(id, file);
            packs.clear();
        }
        Ok(())
    }

    /// Whether a block there can be relied on.
    pub fn is_sound(&self, pack: &PackId, offset: u64) -> bool {
        self.sound.contains(pack)
            || self
                .partly
                .get(pack)
                .is_some_and(|sound| sound.contains(&offset))
    }

    /// Whether the pack is there at all.
    pub fn exists(&self, pack: &PackId) -> bool {
        self.sound.contains(pack) || self.partly.contains_key(pack)
    }
}

/// What an index object says of a pack.
struct Claim<'a> {
    file: &'a IndexFile,
    number: u32,
    size: u64,
    records: u64,
}

/// What was found out about one pack.
struct Outcome {
    pack: PackId,
    size: u64,
    toc: Vec<TocEntry>,
    failure: Option<(ProblemKind, String)>,
    /// Its sound blocks, if it was read.
    sound: Vec<TocEntry>,
    /// Whether it was read to the last byte.
    read: bool,
    /// What was wrong with it when it was read first, and not when it was read again.
    at_first: Option<String>,
}

/// Checks all packs.
pub(super) fn check(
    repository: &Repository,
    index: &IndexSet,
    reading: &Reading,
    problems: &mut Problems,
    report: &mut CheckReport,
    progress: &dyn Fn(CheckProgress),
) -> Result<(PackStates, Read), RepoError> {
    let Reading { listed, chosen } = reading;
    let claims = claims(index);
    let there: HashSet<&PackId> = listed.iter().map(|(pack, _)| pack).collect();
    for (pack, claim) in claims.iter().filter(|(pack, _)| !there.contains(pack)) {
        let blocks: u64 = claim.iter().map(|claim| claim.records).max().unwrap_or(0);
        let detail = format!("an index names it, with {blocks} blocks");
        problems.add(
            &pack_name(pack),
            ProblemKind::Missing,
            detail,
            Snapshots::new(),
        );
    }

    let cost = |pack: &PackId, size: u64| {
        if chosen.contains(pack) {
            size
        } else {
            LOOK_COST
        }
    };
    let total = listed.iter().map(|(pack, size)| cost(pack, *size)).sum();
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (send, outcomes) = bounded::<Result<Outcome, RepoError>>(MAX_THREADS);
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_THREADS);
    let mut states = PackStates::default();
    let mut read = Read::default();
    let (mut done, mut orphans, mut orphan_bytes) = (0, 0u64, 0u64);
    let mut unindexed = Vec::new();
    thread::scope(|scope| {
        for _ in 0..threads {
            let send = send.clone();
            let (claims, next, stop) = (&claims, &next, &stop);
            scope.spawn(move || {
                let mut examiner = Examiner::new(repository);
                while let Some((pack, size)) = listed.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let claims = claims.get(pack).map_or(&[][..], Vec::as_slice);
                    let read = chosen.contains(pack);
                    let outcome = examiner.examine(*pack, *size, claims, read).transpose();
                    let Some(outcome) = outcome else { continue };
                    if stop.load(Ordering::Relaxed) || send.send(outcome).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        let mut failure = None;
        for outcome in outcomes {
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    failure = failure.or(Some(error));
                    continue;
                }
            };
            let phase = CheckPhase::Packs;
            progress(CheckProgress { phase, done, total });
            done += cost(&outcome.pack, outcome.size);
            report.packs += 1;
            report.bytes += outcome.size;
            report.blocks += outcome.toc.len() as u64;
            if !claims.contains_key(&outcome.pack) {
                orphans += 1;
                orphan_bytes += outcome.size;
                unindexed.push(FinishedPack {
                    id: outcome.pack,
                    size: outcome.size,
                    toc: outcome.toc,
                });
                if unindexed.iter().map(|pack| pack.toc.len()).sum::<usize>() >= COMPACTED_RECORDS
                    && let Err(error) = states.set_aside(&mut unindexed)
                {
                    stop.store(true, Ordering::Relaxed);
                    failure = failure.or(Some(error));
                }
            }
            if outcome.read {
                match outcome.failure {
                    None => read.sound.push(outcome.pack),
                    Some(_) => read.damaged.push(outcome.pack),
                }
            }
            if let Some(detail) = outcome.at_first {
                report.notes.push(format!(
                    "{}: was damaged when it was read first ({detail}), and sound when it was read again: \
                     look at memory, disk and network of this machine",
                    pack_name(&outcome.pack)
                ));
            }
            match outcome.failure {
                None => drop(states.sound.insert(outcome.pack)),
                Some((kind, detail)) => {
                    problems.add(&pack_name(&outcome.pack), kind, detail, Snapshots::new());
                    let sound = outcome.sound.iter().map(|entry| entry.offset).collect();
                    states.partly.insert(outcome.pack, sound);
                }
            }
        }
        failure.map_or(Ok(()), Err)
    })?;
    states.set_aside(&mut unindexed)?;
    if orphans > 0 {
        report.notes.push(format!(
            "{orphans} packs ({orphan_bytes} bytes) are in no index: an interrupted dump left them; the next dump uses them"
        ));
    }
    Ok((states, read))
}

/// What is left of a pack.
pub(in crate::repo) struct Salvage {
    /// Whether nothing is wrong with it.
    pub sound: bool,
    /// Its sound blocks.
    pub blocks: Vec<TocEntry>,
}

/// Reads a pack to the last byte.
pub(in crate::repo) fn salvage(
    repository: &Repository,
    pack: PackId,
    size: u64,
) -> Result<Salvage, RepoError> {
    let outcome = Examiner::new(repository).examine(pack, size, &[], true)?;
    Ok(match outcome {
        Some(outcome) => Salvage {
            sound: outcome.failure.is_none(),
            blocks: outcome.sound,
        },
        None => Salvage {
            sound: false,
            blocks: Vec::new(),
        },
    })
}

/// By pack, what the index objects say of it.
fn claims(index: &IndexSet) -> HashMap<PackId, Vec<Claim<'_>>> {
    let mut claims: HashMap<PackId, Vec<Claim<'_>>> = HashMap::new();
    for file in index.files.values() {
        let mut records = vec![0; file.pack_count()];
        for record in file.records() {
            if let Some(count) = records.get_mut(record.pack as usize) {
                *count += 1;
            }
        }
        for ((number, (pack, size)), records) in (0..).zip(file.packs()).zip(records) {
            claims.entry(pack).or_default().push(Claim {
                file,
                number,
                size,
                records,
            });
        }
    }
    claims
}

/// Looks at packs one after the other, with buffers of its own.
struct Examiner<'a> {
    repository: &'a Repository,
    decoder: Decoder,
    bytes: Vec<u8>,
    payload: Vec<u8>,
}

impl<'a> Examiner<'a> {
    fn new(repository: &'a Repository) -> Self {
        Self {
            repository,
            decoder: Decoder::new(),
            bytes: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// `None` for a pack that was deleted since the listing and that no index names. What is damaged is read twice: it
    /// may be the reading that is.
    fn examine(
        &mut self,
        pack: PackId,
        size: u64,
        claims: &[Claim<'_>],
        read: bool,
    ) -> Result<Option<Outcome>, RepoError> {
        let first = self.examine_once(pack, size, claims, read)?;
        let detail = match &first {
            Some(Outcome {
                failure: Some((ProblemKind::Damaged, detail)),
                ..
            }) => detail.clone(),
            _ => return Ok(first),
        };
        let mut second = self.examine_once(pack, size, claims, read)?;
        if let Some(second) = &mut second
            && second.failure.is_none()
        {
            second.at_first = Some(detail);
        }
        Ok(second)
    }

    fn examine_once(
        &mut self,
        pack: PackId,
        size: u64,
        claims: &[Claim<'_>],
        read: bool,
    ) -> Result<Option<Outcome>, RepoError> {
        let mut outcome = Outcome {
            pack,
            size,
            toc: Vec::new(),
            failure: None,
            sound: Vec::new(),
            read,
            at_first: None,
        };
        match pack::read_toc(&*self.repository.store, &pack, size) {
            Ok(toc) => {
                outcome.failure =
                    compare(&toc, size, claims).map(|detail| (ProblemKind::Inconsistent, detail));
                outcome.toc = toc;
            }
            Err(RepoError::Damaged { detail, .. }) => {
                outcome.failure = Some((ProblemKind::Damaged, detail))
            }
            Err(error) if error.is_absent() && claims.is_empty() => return Ok(None),
            Err(error) => outcome.failure = Some((ProblemKind::Damaged, unreadable(error)?)),
        }
        if read {
            let failure = self.read(&mut outcome)?;
            outcome.failure = failure.or(outcome.failure);
        }
        Ok(Some(outcome))
    }

    /// Reads every byte: hash and blocks. Without a table of contents the blocks' own headers lead the way.
    fn read(&mut self, outcome: &mut Outcome) -> Result<Option<(ProblemKind, String)>, RepoError> {
        let store = &*self.repository.store;
        let name = pack_name(&outcome.pack);
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        let mut broken = Vec::new();
        let mut entries = outcome.toc.iter();
        let mut length = match outcome.toc.first() {
            Some(first) => first.offset,
            None => {
                let len = outcome.size.min(pack::OLD_START_LEN as u64) as usize;
                if let Err(error) = store.get_range(&name, 0, len, &mut self.bytes) {
                    return Ok(Some((ProblemKind::Damaged, unreadable(error.into())?)));
                }
                let start = pack::start_len(&self.bytes).unwrap_or(pack::START_LEN);
                outcome.size.min(start as u64)
            }
        };
        let mut expected: Option<TocEntry> = None;
        while length > 0 {
            // The length is within the object, whose size was listed.
            let len = usize::try_from(length).unwrap_or(usize::MAX);
            if let Err(error) = store.get_range(&name, offset, len, &mut self.bytes) {
                return Ok(Some((ProblemKind::Damaged, unreadable(error.into())?)));
            }
            hasher.update(&self.bytes);
            if let Some(entry) = expected {
                match verify_block(
                    self.repository,
                    &entry.id,
                    &mut self.bytes,
                    &mut self.decoder,
                    &mut self.payload,
                ) {
                    Ok(_) | Err(BlockFault::NoKey) => outcome.sound.push(entry),
                    Err(BlockFault::Damaged(detail)) => {
                        broken.push(format!("offset {offset}: block {}: {detail}", entry.id))
                    }
                }
            } else if offset == 0 && pack::start_len(&self.bytes) != Some(self.bytes.len()) {
                broken.push("does not begin as a pack of this version does".into());
            }
            offset += length;
            let rest = outcome.size - offset;
            expected = match outcome.toc.is_empty() {
                false => entries.next().copied(),
                true => self.entry_at(&name, offset, rest)?,
            };
            length = expected.map_or(rest.min(pack::READ_LEN), |entry| u64::from(entry.length));
        }
        let broken_blocks = broken.len();
        let hash = PackId::from(hasher.finalize());
        let detail = match broken.into_iter().next() {
            Some(first) if broken_blocks == 1 => first,
            Some(first) => format!("{broken_blocks} blocks are damaged; the first: {first}"),
            None if hash != outcome.pack => {
                "its bytes do not have the hash that is its name".into()
            }
            None => return Ok(None),
        };
        Ok(Some((ProblemKind::Damaged, detail)))
    }

    /// The block that begins there, by its own header, if one does.
    fn entry_at(
        &mut self,
        name: &str,
        offset: u64,
        rest: u64,
    ) -> Result<Option<TocEntry>, RepoError> {
        if rest < HEADER_LEN as u64 {
            return Ok(None);
        }
        if let Err(error) =
            self.repository
                .store
                .get_range(name, offset, HEADER_LEN, &mut self.bytes)
        {
            unreadable(error.into())?;
            return Ok(None);
        }
        let Ok(header) = BlockHeader::parse(&self.bytes) else {
            return Ok(None);
        };
        let Some(length) = header.stored_len.checked_add(HEADER_LEN as u32) else {
            return Ok(None);
        };
        Ok((u64::from(length) <= rest).then_some(TocEntry {
            id: header.id,
            offset,
            length,
            raw_len: header.raw_len,
        }))
    }
}

/// What to say of an object that cannot be read: the disk's failure is the object's damage. Other failures end the
/// check.
fn unreadable(error: RepoError) -> Result<String, RepoError> {
    use crate::store::StoreError;
    match error.store_error() {
        Some(StoreError::Io { .. } | StoreError::Short { .. } | StoreError::Absent { .. }) => {
            Ok(format!("cannot be read: {error}"))
        }
        _ => Err(error),
    }
}

/// In what a table of contents differs from the index objects that name the pack.
fn compare(toc: &[TocEntry], size: u64, claims: &[Claim<'_>]) -> Option<String> {
    for claim in claims {
        if claim.size != size {
            return Some(format!("has {size} bytes, the index says {}", claim.size));
        }
        if claim.records != toc.len() as u64 {
            return Some(format!(
                "has {} blocks, the index says {}",
                toc.len(),
                claim.records
            ));
        }
        for entry in toc {
            let mut records = claim.file.find(entry.id);
            let same = |record: index::Record| {
                (record.pack, record.offset, record.length)
                    == (claim.number, entry.offset, entry.length)
            };
            if !records.any(same) {
                return Some(format!(
                    "holds block {} at {}, the index says otherwise",
                    entry.id, entry.offset
                ));
            }
        }
    }
    None
}
