//! Which packs go, and which are written anew: numbers in, a choice out.

use super::super::pack::{ENTRY_LEN, START_LEN, TAIL_LEN};
use super::super::used::PackUse;

/// Bytes of a pack beside its blocks and their entries.
const FRAME: u64 = (START_LEN + TAIL_LEN) as u64;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Choice {
    /// Packs of which nothing is needed.
    pub unused: Vec<PackUse>,
    /// Packs to write anew, in order of id.
    pub repack: Vec<PackUse>,
}

/// Bytes that a pack would have with nothing in it but what is needed.
pub(super) fn kept_bytes(pack: &PackUse) -> u64 {
    match pack.used_blocks {
        0 => 0,
        blocks => FRAME + pack.used_bytes + blocks * ENTRY_LEN as u64,
    }
}

fn waste(pack: &PackUse) -> u64 {
    pack.size.saturating_sub(kept_bytes(pack))
}

/// Chooses from these packs so that at most the given part of what is needed is kept beside it. Those with the largest
/// part of waste are written anew first.
pub(super) fn choose<'a>(packs: impl Iterator<Item = &'a PackUse>, max_waste: f64) -> Choice {
    let mut choice = Choice::default();
    let mut partly = Vec::new();
    let (mut needed, mut wasted) = (0, 0);
    for pack in packs {
        if pack.used_blocks == 0 {
            choice.unused.push(*pack);
            continue;
        }
        needed += kept_bytes(pack);
        wasted += waste(pack);
        if waste(pack) > 0 {
            partly.push(*pack);
        }
    }
    let part = |pack: &PackUse| waste(pack) as f64 / pack.size as f64;
    partly.sort_by(|a, b| part(b).total_cmp(&part(a)).then(a.id.cmp(&b.id)));
    let allowed = (needed as f64 * max_waste) as u64;
    for pack in partly {
        if wasted <= allowed {
            break;
        }
        wasted -= waste(&pack);
        choice.repack.push(pack);
    }
    choice.repack.sort_by_key(|pack| pack.id);
    choice
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::repo::Hex;

    fn pack(id: u8, size: u64, used_blocks: u64, used_bytes: u64) -> PackUse {
        PackUse {
            id: Hex([id; 32]),
            size,
            used_blocks,
            used_bytes,
        }
    }

    #[test]
    fn the_emptiest_packs_are_written_anew_until_little_is_wasted() {
        let packs = [
            pack(1, 100_000, 0, 0),
            pack(2, 100_000, 1, 10_000),
            pack(3, 100_000, 1, 60_000),
            pack(4, 100_000, 1, 99_000),
            pack(5, 100_096, 1, 100_000),
        ];
        let ids = |packs: &[PackUse]| packs.iter().map(|pack| pack.id.0[0]).collect::<Vec<_>>();
        let choice = choose(packs.iter(), 0.05);
        assert_eq!(
            (ids(&choice.unused), ids(&choice.repack)),
            (vec![1], vec![2, 3])
        );
        let choice = choose(packs.iter(), 0.2);
        assert_eq!(ids(&choice.repack), [2]);
        let choice = choose(packs.iter(), 0.0);
        assert_eq!(ids(&choice.repack), [2, 3, 4]);
    }

    proptest! {
        #[test]
        fn what_is_left_is_within_what_may_be_wasted(
            packs in prop::collection::vec((96u64..1 << 30, 0u64..1000, 0.0f64..1.0), 0..200), max_waste in 0.0f64..0.5,
        ) {
            let packs: Vec<PackUse> = (0..).zip(&packs).map(|(id, (size, blocks, part))| {
                let room = size.saturating_sub(FRAME + blocks * ENTRY_LEN as u64);
                pack(id as u8, *size, *blocks, (room as f64 * part) as u64)
            }).collect();
            let choice = choose(packs.iter(), max_waste);
            prop_assert!(choice.unused.iter().all(|pack| pack.used_blocks == 0));
            prop_assert!(choice.repack.iter().all(|pack| pack.used_blocks > 0));
            let needed: u64 = packs.iter().map(kept_bytes).sum();
            let wasted: u64 = packs.iter().filter(|pack| pack.used_blocks > 0).map(waste).sum();
            let gone: u64 = choice.repack.iter().map(waste).sum();
            prop_assert!((wasted - gone) as f64 <= needed as f64 * max_waste + 1.0);
        }
    }
}
