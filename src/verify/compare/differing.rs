//! Which rows differ: passes over a table of both sides, until few enough rows are left to be held and printed.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use crate::dump::origin::Origin;
use crate::dump::plan::PlannedTable;
use crate::pg::Error;
use crate::pg::catalog;
use crate::progress::Progress;
use crate::repo::model::TableRole;
use crate::rows::text::{TextType, Types};
use crate::rows::{Format, Shape};

use super::CompareError;
use super::pairing::{Group, Kind};
use super::print::{COLUMN_BYTES, ColumnText, Printer};
use super::reading::{self, Cut, Seen};
use super::search::{Buckets, Found, Next, Search};

/// Memory for rows that may differ, about.
const HELD_BYTES: usize = 16 << 20;
/// Rows of a piece that are kept until it was read to its end.
const JOURNAL: usize = 1 << 18;

/// Rows in which a table differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Differing {
    /// The columns of the primary key, where both sides have the same.
    pub key: Vec<String>,
    /// The rows, by key, those of the source first.
    pub rows: Vec<RowDifference>,
    /// Whether these are all.
    pub complete: bool,
    /// How many keys, or rows where there is no key, differ at least.
    pub at_least: u64,
}

/// A row that only one side has, or has more often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowDifference {
    /// `source` or `target`.
    pub side: &'static str,
    /// How many more of it that side has.
    pub times: u64,
    /// The values, those of the key first; none is NULL. Long ones are shortened.
    pub values: Vec<(String, Option<String>)>,
}

/// What is known of types at both sides.
pub struct Printers([Types; 2]);

impl Printers {
    /// Asks both sides what the types of columns are made of.
    pub fn new(sides: [&Origin<'_>; 2], progress: &dyn Progress) -> Result<Self, CompareError> {
        let wanted = sides.map(|side| {
            let tables = side.plan.tables.iter();
            tables
                .map(|t| t.role == TableRole::Types)
                .collect::<Vec<_>>()
        });
        let [a, b] = reading::whole(sides, [&wanted[0], &wanted[1]], progress)?;
        let types = |rows: &[u8], n: usize| Types::new(rows, sides[n].server_version.0);
        Ok(Self([types(&a, 0), types(&b, 1)]))
    }

    /// How the columns of a table are printed.
    fn columns(&self, side: usize, table: &PlannedTable) -> Vec<ColumnText> {
        let columns = table.columns.iter();
        columns
            .map(|column| ColumnText {
                text: match table.format {
                    Format::Text => Some(TextType::Text),
                    _ => self.0[side].find(&column.type_name),
                },
                plain: column.shape == Shape::Plain,
            })
            .collect()
    }
}

/// Finds rows of a group that differ, of at least `limit` keys if there are as many.
pub fn find(
    sides: [&Origin<'_>; 2],
    group: &Group,
    limit: usize,
    printers: &Printers,
    progress: &dyn Progress,
) -> Result<Differing, CompareError> {
    let wanted = [0, 1].map(|n| {
        let mut wanted = vec![false; sides[n].plan.tables.len()];
        group.tables[n]
            .iter()
            .for_each(|&table| wanted[table] = true);
        wanted
    });
    let wanted = [&wanted[0][..], &wanted[1]];
    let key = key(sides, group)?;
    let views = [0, 1].map(|n| {
        let tables = group.tables[n].iter().map(|&number| {
            let table = &sides[n].plan.tables[number];
            let view = View {
                format: table.format,
                key: positions(&key, table),
                columns: printers.columns(n, table),
            };
            (number, view)
        });
        tables.collect::<HashMap<usize, View>>()
    });
    let columns = views.iter().flat_map(HashMap::values);
    let columns = columns.map(|view| view.columns.len()).max().unwrap_or(0);
    let most = HELD_BYTES / (COLUMN_BYTES * columns.max(1));
    let mut search = Search::new(limit, most as u64);
    loop {
        let filled = reading::read(sides, wanted, Cut::Segments, progress, &|n| {
            Filling::new(&search, &views[n])
        })?;
        let [a, b] = filled.map(|all| {
            let mut sum = Buckets::default();
            all.iter().for_each(|one| sum += &one.buckets);
            sum
        });
        if search.choose(&a, &b) == Next::Take {
            break;
        }
    }
    let found = Mutex::new(Found::default());
    reading::read(sides, wanted, Cut::Segments, progress, &|n| Taking {
        search: &search,
        views: &views[n],
        side: n,
        place: Place::default(),
        table: 0,
        piece: HashMap::new(),
        printer: None,
        found: &found,
    })?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Columns in the order of the source.
    let names = group.tables[0].first().map(|&table| {
        let columns = sides[0].plan.tables[table].columns.iter();
        columns.map(|c| c.name.clone()).collect::<Vec<_>>()
    });
    let names = names.unwrap_or_default();
    let rest = names.iter().filter(|name| !key.contains(name));
    let order: Vec<&String> = key.iter().chain(rest).collect();
    let mut rows: Vec<RowDifference> = found
        .into_rows()
        .map(|(times, (side, table, values))| {
            let columns = &sides[side].plan.tables[table].columns;
            let mut values: HashMap<&String, Option<String>> =
                columns.iter().map(|c| &c.name).zip(values).collect();
            RowDifference {
                side: super::SIDES[usize::from(times < 0)],
                times: times.unsigned_abs(),
                values: order
                    .iter()
                    .map(|&name| (name.clone(), values.remove(name).flatten()))
                    .collect(),
            }
        })
        .collect();
    rows.sort_by(|a, b| by_values(a, b, key.len()));
    let complete = search.is_complete() && rows.len() <= limit;
    let at_least = search.at_least();
    rows.truncate(limit);
    Ok(Differing {
        key,
        rows,
        complete,
        at_least,
    })
}

/// The columns of the primary key, if all tables of the group have the same, whose bytes are the same for equal values.
fn key(sides: [&Origin<'_>; 2], group: &Group) -> Result<Vec<String>, CompareError> {
    let own = |names: &[&str]| Ok(names.iter().map(|&name| name.to_owned()).collect());
    match group.kind {
        Kind::LargeObjects => return own(&["loid", "pageno"]),
        Kind::LargeObjectProperties => return own(&["oid"]),
        Kind::Table | Kind::ExtensionConfiguration => {}
    }
    let mut common: Option<Vec<String>> = None;
    for (n, side) in sides.into_iter().enumerate() {
        let tables = group.tables[n].iter();
        let tables: Vec<&PlannedTable> = tables.map(|&t| &side.plan.tables[t]).collect();
        let oids: Vec<u32> = tables.iter().map(|t| t.relation.oid).collect();
        let mut keys = {
            let holder = &side.holding.holders[0];
            let mut conn = holder.lock().unwrap_or_else(PoisonError::into_inner);
            catalog::primary_keys(&mut conn, &oids).map_err(|error: Error| {
                CompareError::server(n, "could not ask for primary keys")(error)
            })?
        };
        for table in tables {
            let key = keys.remove(&table.relation.oid).unwrap_or_default();
            let plain = |name: &String| {
                let mut columns = table.columns.iter();
                columns.any(|c| c.name == *name && c.shape == Shape::Plain)
            };
            let same = common.as_ref().is_none_or(|common| *common == key);
            if key.is_empty() || !same || !key.iter().all(plain) {
                return Ok(Vec::new());
            }
            common = Some(key);
        }
    }
    Ok(common.unwrap_or_default())
}

/// Where the columns of the key stand in a table.
fn positions(key: &[String], table: &PlannedTable) -> Vec<usize> {
    let at = |name: &String| table.columns.iter().position(|c| c.name == *name);
    key.iter().filter_map(at).collect()
}

/// By key, as numbers where they are; what the source has first.
fn by_values(a: &RowDifference, b: &RowDifference, key: usize) -> Ordering {
    let value = |a: &Option<String>, b: &Option<String>| match (a, b) {
        (Some(a), Some(b)) => match (a.parse::<i128>(), b.parse::<i128>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => a.cmp(b),
        },
        _ => a.is_none().cmp(&b.is_none()),
    };
    let order = |range: std::ops::Range<usize>| {
        let pairs = a.values[range.clone()].iter().zip(&b.values[range]);
        let mut orders = pairs.map(|((_, a), (_, b))| value(a, b));
        orders
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    };
    order(0..key)
        .then_with(|| a.side.cmp(b.side))
        .then_with(|| order(key..a.values.len()))
}

/// How the rows of a table are looked at.
struct View {
    format: Format,
    /// Where the columns of the key stand.
    key: Vec<usize>,
    columns: Vec<ColumnText>,
}

/// Finds where rows fall.
#[derive(Default)]
struct Place {
    fields: Vec<(usize, usize)>,
    key: Vec<u8>,
}

impl Place {
    /// The hash of the row's key, or of the row where there is none.
    fn of(&mut self, view: &View, hash: u128, row: &[u8]) -> u128 {
        let Some(&last) = view.key.iter().max() else {
            return hash;
        };
        self.fields.clear();
        let mut at = 0;
        match view.format {
            Format::Text => {
                for field in row.split(|b| matches!(b, b'\t' | b'\n')).take(last + 1) {
                    self.fields.push((at, at + field.len()));
                    at += field.len() + 1;
                }
            }
            _ => {
                at = 2;
                for _ in 0..=last {
                    let Some(word) = row.get(at..).and_then(|rest| rest.first_chunk()) else {
                        return hash;
                    };
                    let len = usize::try_from(i32::from_be_bytes(*word)).unwrap_or(0);
                    self.fields.push((at, at + 4 + len));
                    at += 4 + len;
                }
            }
        }
        self.key.clear();
        for &column in &view.key {
            let field = self.fields.get(column).and_then(|&(a, b)| row.get(a..b));
            let Some(field) = field else {
                return hash;
            };
            self.key.extend_from_slice(field);
            self.key.push(b'\t');
        }
        xxh3_128(&self.key)
    }
}

/// Fills buckets.
struct Filling<'s> {
    search: &'s Search,
    views: &'s HashMap<usize, View>,
    view: Option<&'s View>,
    place: Place,
    buckets: Buckets,
    /// The rows of the piece.
    journal: Vec<(u128, u16)>,
    /// Whether some of them are in the buckets already.
    written: bool,
}

impl<'s> Filling<'s> {
    fn new(search: &'s Search, views: &'s HashMap<usize, View>) -> Self {
        Self {
            search,
            views,
            view: None,
            place: Place::default(),
            buckets: Buckets::default(),
            journal: Vec::new(),
            written: false,
        }
    }

    fn fall(&mut self, place: u128, hash: u128) {
        let Some(bucket) = self.search.bucket(place) else {
            return;
        };
        if self.journal.len() == JOURNAL {
            self.write();
            self.written = true;
        }
        self.journal.push((hash, bucket));
    }

    fn write(&mut self) {
        for (hash, bucket) in self.journal.drain(..) {
            self.buckets.add(bucket, hash);
        }
    }
}

impl Seen for Filling<'_> {
    fn begin(&mut self, table: usize) {
        self.view = self.views.get(&table);
        self.journal.clear();
        self.written = false;
    }

    fn row(&mut self, hash: u128, row: &[u8]) {
        let place = match self.view {
            Some(view) => self.place.of(view, hash, row),
            None => hash,
        };
        self.fall(place, hash);
    }

    fn parted(&mut self, hash: u128, _len: u64) {
        self.fall(hash, hash);
    }

    fn end(&mut self) {
        self.write();
    }

    /// What is in the buckets cannot be taken out again.
    fn may_repeat(&self) -> bool {
        !self.written
    }
}

/// A row: its side, its table, its values.
type Printed = (usize, usize, Vec<Option<String>>);

/// Takes the rows that may differ.
struct Taking<'s> {
    search: &'s Search,
    views: &'s HashMap<usize, View>,
    side: usize,
    place: Place,
    table: usize,
    /// The rows of the piece, with how many there are of each.
    piece: HashMap<u128, (i64, Printed)>,
    /// What prints the row that comes in parts.
    printer: Option<Printer<'s>>,
    found: &'s Mutex<Found<Printed>>,
}

impl<'s> Taking<'s> {
    fn take(&mut self, hash: u128, print: impl FnOnce() -> Vec<Option<String>>) {
        match self.piece.entry(hash) {
            Entry::Occupied(mut entry) => entry.get_mut().0 += 1,
            Entry::Vacant(entry) => {
                entry.insert((1, (self.side, self.table, print())));
            }
        }
    }

    fn view(&self) -> Option<&'s View> {
        self.views.get(&self.table)
    }
}

impl Seen for Taking<'_> {
    fn begin(&mut self, table: usize) {
        self.table = table;
        self.piece.clear();
        self.printer = None;
    }

    fn row(&mut self, hash: u128, row: &[u8]) {
        let Some(view) = self.view() else {
            return;
        };
        let place = self.place.of(view, hash, row);
        if self.search.bucket(place).is_some() {
            self.take(hash, || {
                let mut printer = Printer::new(&view.columns, view.format);
                printer.push(row);
                printer.finish()
            });
        }
    }

    fn part(&mut self, part: &[u8], offset: u64) {
        if offset == 0 {
            self.printer = self.view().map(|v| Printer::new(&v.columns, v.format));
        }
        if let Some(printer) = &mut self.printer {
            printer.push(part);
        }
    }

    fn parted(&mut self, hash: u128, _len: u64) {
        if let Some(printer) = self.printer.take()
            && self.search.bucket(hash).is_some()
        {
            self.take(hash, || printer.finish());
        }
    }

    fn end(&mut self) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let sign = if self.side == 0 { 1 } else { -1 };
        for (hash, (times, row)) in self.piece.drain() {
            found.add(hash, sign * times, row);
        }
    }
}
