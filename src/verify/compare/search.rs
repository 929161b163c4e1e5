//! The search for the rows that only one side has, in memory that does not grow with the table: rows fall into buckets,
//! whose digests are compared; only the rows of some buckets that differ are looked at one by one.
//!
//! A row is known by its hash, and falls where its place says: a number that equal rows have in common, and that all rows
//! of one key should, so that the old and the new version of a row are found together.

use std::collections::HashMap;
use std::ops::AddAssign;

use crate::rows::RowDigest;

/// Buckets of one level.
const BUCKETS: usize = 1 << 16;
/// A place has so many parts of 16 bits.
const LEVELS: usize = 8;

/// The digests of the rows in each bucket of a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets(Vec<RowDigest>);

impl Default for Buckets {
    fn default() -> Self {
        Self(vec![RowDigest::default(); BUCKETS])
    }
}

impl Buckets {
    /// Adds a row.
    pub fn add(&mut self, bucket: u16, hash: u128) {
        self.0[usize::from(bucket)] += RowDigest { rows: 1, sum: hash };
    }
}

impl AddAssign<&Buckets> for Buckets {
    fn add_assign(&mut self, other: &Buckets) {
        for (to, from) in self.0.iter_mut().zip(&other.0) {
            *to += *from;
        }
    }
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The buckets that are left hold too many rows: fill the buckets of the next level.
    Narrow,
    /// Take the rows that are [wanted](Search::bucket).
    Take,
}

/// Which rows are still looked for.
#[derive(Debug)]
pub struct Search {
    /// Of each level that was decided: which buckets stay.
    levels: Vec<Vec<bool>>,
    /// Buckets that are looked into, at most.
    limit: usize,
    /// Rows that may be held at a time.
    most: u64,
    /// Rows in the buckets that stay.
    held: u64,
    /// Whether no bucket that differs was passed over.
    complete: bool,
    /// Buckets of the first level that differ.
    differing: u64,
}

impl Search {
    /// A search that finds at least `limit` rows, if there are as many, and holds no more than `most` different ones.
    pub fn new(limit: usize, most: u64) -> Self {
        Self {
            levels: Vec::new(),
            limit: limit.max(1),
            most,
            held: u64::MAX,
            complete: true,
            differing: 0,
        }
    }

    /// The bucket of a place in the level that is to be filled; nothing if its rows are not looked for any more.
    #[inline]
    pub fn bucket(&self, place: u128) -> Option<u16> {
        let part = |level: usize| (place >> (16 * level)) as u16;
        let mut levels = self.levels.iter().enumerate();
        let wanted = levels.all(|(level, stays)| stays[usize::from(part(level))]);
        wanted.then(|| part(self.levels.len().min(LEVELS - 1)))
    }

    /// Decides which buckets stay, from those that both sides have filled.
    pub fn choose(&mut self, a: &Buckets, b: &Buckets) -> Next {
        let rows = |n: usize| a.0[n].rows + b.0[n].rows;
        let mut differing: Vec<usize> = (0..BUCKETS).filter(|&n| a.0[n] != b.0[n]).collect();
        if self.levels.is_empty() {
            self.differing = differing.len() as u64;
        }
        differing.sort_by_key(|&n| rows(n));
        let mut stays = vec![false; BUCKETS];
        let (mut chosen, mut held) = (0, 0);
        for &n in &differing {
            if chosen == self.limit || (chosen > 0 && held + rows(n) > self.most) {
                self.complete = false;
                break;
            }
            stays[n] = true;
            chosen += 1;
            held += rows(n);
        }
        // Rows that are the same again and again are in one bucket on every level; there is little to hold of them.
        let narrower = held < self.held;
        self.held = held;
        self.levels.push(stays);
        if held > self.most && narrower && self.levels.len() < LEVELS {
            Next::Narrow
        } else {
            Next::Take
        }
    }

    /// Whether all rows that differ are among those that are taken.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// How many keys or rows differ at least.
    pub fn at_least(&self) -> u64 {
        self.differing
    }
}

/// Rows that were taken, by their hashes: how many more of each the first side has than the second, and what `T` tells of
/// it. Rows of which both have as many are gone.
#[derive(Debug)]
pub struct Found<T>(HashMap<u128, (i64, T)>);

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Found<T> {
    /// Adds so many rows of one hash, which are negative on the second side.
    pub fn add(&mut self, hash: u128, rows: i64, row: T) {
        let entry = self.0.entry(hash).or_insert((0, row));
        entry.0 += rows;
        if entry.0 == 0 {
            self.0.remove(&hash);
        }
    }

    /// The rows, each with how many more the first side has.
    pub fn into_rows(self) -> impl Iterator<Item = (i64, T)> {
        self.0.into_values()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Place and hash.
    type Row = (u128, u128);

    /// The rows that only one side has, as the search finds them, and whether they are all.
    fn search(sides: [&[Row]; 2], limit: usize, most: u64) -> (BTreeMap<u128, i64>, Search) {
        let mut search = Search::new(limit, most);
        loop {
            let [a, b] = sides.map(|rows| {
                let mut buckets = Buckets::default();
                for &(place, hash) in rows {
                    if let Some(bucket) = search.bucket(place) {
                        buckets.add(bucket, hash);
                    }
                }
                buckets
            });
            if search.choose(&a, &b) == Next::Take {
                break;
            }
        }
        let mut found = Found::default();
        for (rows, sign) in sides.into_iter().zip([1, -1]) {
            for &(place, hash) in rows {
                if search.bucket(place).is_some() {
                    found.add(hash, sign, hash);
                }
            }
        }
        let found = found.into_rows().map(|(rows, hash)| (hash, rows));
        (found.collect(), search)
    }

    /// The difference of two multisets.
    fn difference(sides: [&[Row]; 2]) -> BTreeMap<u128, i64> {
        let mut counts = BTreeMap::new();
        for (rows, sign) in sides.into_iter().zip([1, -1]) {
            for (_, hash) in rows {
                *counts.entry(*hash).or_default() += sign;
            }
        }
        counts.retain(|_, rows| *rows != 0);
        counts
    }

    /// Rows of few keys and few values; keys that share their first parts, or all of them.
    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let key = prop_oneof![0u32..6, (0u32..4).prop_map(|n| n << 16), 0u32..200_000];
        let row = (key, 0u8..4).prop_map(|(key, value)| {
            let name = format!("{key} {value}");
            (
                u128::from(key),
                xxhash_rust::xxh3::xxh3_128(name.as_bytes()),
            )
        });
        prop::collection::vec(row, 0..60)
    }

    proptest! {
        #[test]
        fn what_is_found_is_the_difference_or_as_much_of_it_as_was_asked_for(
            common in rows(), left in rows(), right in rows(), limit in 1usize..8, most in 1u64..40,
        ) {
            let a = [common.clone(), left].concat();
            let mut b = [right, common].concat();
            b.reverse();
            let expected = difference([&a, &b]);
            let (found, search) = search([&a, &b], limit, most);
            for (hash, rows) in &found {
                prop_assert_eq!(expected.get(hash), Some(rows));
            }
            if search.is_complete() {
                prop_assert_eq!(&found, &expected);
            }
            prop_assert_eq!(found.is_empty(), expected.is_empty());
            prop_assert!(search.at_least() <= expected.len() as u64);
        }

        #[test]
        fn a_single_difference_is_found_among_any_number_of_rows(
            common in rows(), at in any::<u128>(), hash in any::<u128>(), most in 1u64..10,
        ) {
            let a = [common.clone(), vec![(at, hash)]].concat();
            let (found, search) = search([&a, &common], 1, most);
            prop_assert!(search.is_complete());
            prop_assert_eq!(found, BTreeMap::from([(hash, 1)]));
        }
    }

    #[test]
    fn a_bucket_of_too_many_rows_is_divided_before_its_rows_are_held() {
        let a: Vec<Row> = (0..1000).map(|n| (n << 16, n + 1)).collect();
        let mut b = a.clone();
        b[77].1 = 0;
        let (found, search) = search([&a, &b], 20, 10);
        assert_eq!(found, BTreeMap::from([(0, -1), (78, 1)]));
        assert_eq!((search.levels.len(), search.held), (2, 2));
    }

    #[test]
    fn rows_that_are_the_same_again_and_again_are_no_reason_to_go_on_dividing() {
        let a: Vec<Row> = vec![(7, 7); 1000];
        let (found, search) = search([&a, &a[1..]], 20, 10);
        assert_eq!(found, BTreeMap::from([(7, 1)]));
        assert_eq!(search.levels.len(), 2);
    }
}
