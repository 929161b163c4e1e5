//! Columns whose values repeat: each distinct value once, and for every row its number.

use xxhash_rust::xxh3::xxh3_64;

/// Most entries of a dictionary; the numbers must fit two bytes.
pub(super) const MAX_ENTRIES: usize = 1 << 16;
/// A dictionary must save at least this: values for each entry.
const VALUES_PER_ENTRY: usize = 8;
/// Values after which a column that does not repeat is given up early.
const SAMPLE: usize = 1024;

/// Finds distinct values.
struct Finder<'a> {
    /// Open addressing; 0 is free, else the number of an entry plus one.
    slots: Vec<u32>,
    /// The distinct values in order of appearance.
    entries: Vec<&'a [u8]>,
}

/// The distinct values in order of appearance, and for every value its number; `None` where a dictionary does not
/// pay. `count` is the number of values.
pub(super) fn find<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    count: usize,
) -> Option<(Vec<&'a [u8]>, Vec<u16>)> {
    let limit = MAX_ENTRIES.min(count / VALUES_PER_ENTRY);
    let mut finder = Finder {
        slots: vec![0; 256],
        entries: Vec::new(),
    };
    let mut numbers = Vec::new();
    let mut last: Option<(&[u8], u16)> = None;
    for (i, value) in values.enumerate() {
        let number = match last {
            Some((last, number)) if last == value => number,
            _ => finder.number(value),
        };
        last = Some((value, number));
        let entries = finder.entries.len();
        if entries > limit || (i == SAMPLE && entries > SAMPLE / 2) {
            return None;
        }
        if i == SAMPLE {
            numbers.reserve_exact(count - i);
        }
        numbers.push(number);
    }
    Some((finder.entries, numbers))
}

impl<'a> Finder<'a> {
    fn number(&mut self, value: &'a [u8]) -> u16 {
        let mask = self.slots.len() - 1;
        let mut slot = xxh3_64(value) as usize & mask;
        while self.slots[slot] != 0 {
            let number = self.slots[slot] as usize - 1;
            if self.entries[number] == value {
                return number as u16;
            }
            slot = (slot + 1) & mask;
        }
        self.entries.push(value);
        self.slots[slot] = self.entries.len() as u32;
        let number = (self.entries.len() - 1) as u16;
        if self.entries.len() * 2 > self.slots.len() {
            self.grow();
        }
        number
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        self.slots.clear();
        self.slots.resize(mask + 1, 0);
        for (number, value) in self.entries.iter().enumerate() {
            let mut slot = xxh3_64(value) as usize & mask;
            while self.slots[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = number as u32 + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_values_get_the_numbers_of_their_first_appearance() {
        let values: Vec<&[u8]> = [&b"ok"[..], b"warn", b"ok", b"", b"warn"]
            .into_iter()
            .cycle()
            .take(100)
            .collect();
        let (entries, numbers) = find(values.iter().copied(), 100).unwrap();
        assert_eq!(entries, [&b"ok"[..], b"warn", b""]);
        assert_eq!(numbers[..5], [0, 1, 0, 2, 1]);
    }

    #[test]
    fn distinct_values_have_no_dictionary() {
        let values: Vec<String> = (0..5000).map(|i| i.to_string()).collect();
        let values = values.iter().map(String::as_bytes);
        assert!(find(values, 5000).is_none());
    }

    #[test]
    fn a_large_dictionary_grows() {
        let values: Vec<String> = (0..200_000).map(|i| (i / 10).to_string()).collect();
        let (entries, numbers) = find(values.iter().map(String::as_bytes), 200_000).unwrap();
        assert_eq!(entries.len(), 20_000);
        assert!(
            numbers
                .iter()
                .enumerate()
                .all(|(i, n)| usize::from(*n) == i / 10)
        );
    }
}
