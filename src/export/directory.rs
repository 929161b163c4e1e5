//! An archive in the directory format, as `pg_dump -Fd` writes one: `pg_restore -j` restores it.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::pg::archive::{Archive, Section, SqlText, TocEntry};
use crate::pg::catalog::Name;
use crate::repo::model::{TableRecord, TableRole};
use crate::rows::text::RowStyle;
use crate::schema::ident::push_qualified;
use crate::schema::statements::{is_privilege, is_setting};

use super::ExportError;
use super::large_objects::{self, Object};
use super::output::{Output, new_directory, sync_directory};
use super::source::Source;
use super::tables::{self, Form};

/// Large objects in one entry, from archive version 1.16 on.
const GROUP: usize = 1000;

/// Writes the archive into a new directory.
pub fn write(source: &Source<'_>, directory: &Path) -> Result<(), ExportError> {
    let mut tables = Vec::new();
    for table in source.tables()? {
        tables.push((table, tables::form(source, table)?));
    }
    source.notes();
    new_directory(directory)?;
    let facts = &source.opened.snapshot.source;
    let ids = source.opened.entries.iter().map(|entry| entry.dump_id);
    let mut archive = Writer {
        source,
        directory,
        minor: Archive::minor_version(facts.server_version_num / 10_000),
        next: ids.max().unwrap_or(0) + 1,
        before: Vec::new(),
        data: Vec::new(),
        files: BTreeMap::new(),
    };
    archive.tables(&tables)?;
    archive.sequences();
    archive.large_objects()?;
    archive.finish()
}

struct Writer<'a> {
    source: &'a Source<'a>,
    directory: &'a Path,
    /// Of the archive's version.
    minor: u8,
    /// The next entry's number.
    next: i32,
    /// Entries that come before those with data.
    before: Vec<TocEntry>,
    /// Entries with data.
    data: Vec<TocEntry>,
    files: BTreeMap<i32, String>,
}

impl Writer<'_> {
    fn number(&mut self) -> i32 {
        self.next += 1;
        self.next - 1
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn tables(&mut self, tables: &[(&TableRecord, Form)]) -> Result<(), ExportError> {
        let references = self.source.config_references()?;
        // What stands for a table that comes with its extension: no entry has this number.
        let elsewhere = self.number();
        let mut written: HashMap<Name, i32> = HashMap::new();
        for (table, form) in tables {
            let number = self.number();
            let entry = self.source.relation(&table.key());
            // pg_restore takes the first for the table itself.
            let mut dependencies = vec![entry.map_or(elsewhere, |entry| entry.dump_id)];
            if matches!(table.role, TableRole::ExtensionConfig { .. }) {
                let of = references.iter().filter(|(from, _)| *from == table.key());
                dependencies.extend(of.filter_map(|(_, to)| written.get(to)));
            }
            written.insert(table.key(), number);
            let mut copy = Vec::new();
            if matches!(form, Form::Text(types) if tables::has_money(types)) {
                // Together with COPY this is one transaction.
                copy.extend_from_slice(b"SET LOCAL lc_monetary = 'C'; ");
            }
            copy.extend(tables::copy_statement(self.source, table, form));
            self.data.push(TocEntry {
                dump_id: number,
                oid: entry.map_or(0, |entry| entry.oid),
                tag: table.name.as_str().into(),
                desc: "TABLE DATA".to_owned(),
                section: Section::Data,
                defn: load_through(table),
                copy_stmt: copy.into(),
                namespace: Some(table.schema.as_str().into()),
                owner: entry.map(|entry| entry.owner.clone()).unwrap_or_default(),
                dependencies,
                had_dumper: true,
                ..TocEntry::default()
            });
            let name = format!("{number}.dat");
            self.rows(table, form, &name)?;
            self.files.insert(number, name);
        }
        Ok(())
    }

    fn rows(&self, table: &TableRecord, form: &Form, name: &str) -> Result<(), ExportError> {
        let mut sink = Output::File(self.file(name)).open()?;
        match form {
            Form::Text(types) => {
                tables::write_lines(self.source, table, types, RowStyle::Text, &mut |text| {
                    sink.write(text)
                })?;
                sink.write(b"\\.\n\n\n")?;
            }
            Form::Binary => {
                tables::write_binary(self.source, table, &mut |bytes| sink.write(bytes))?;
            }
        }
        sink.finish()
    }

    fn sequences(&mut self) {
        for (sequence, statement) in self.source.sequences() {
            let name = (sequence.schema.clone(), sequence.name.clone());
            let entry = self.source.relation(&name);
            let dump_id = self.number();
            self.data.push(TocEntry {
                dump_id,
                tag: sequence.name.as_str().into(),
                desc: "SEQUENCE SET".to_owned(),
                section: Section::Data,
                defn: statement,
                namespace: Some(sequence.schema.as_str().into()),
                owner: entry.map(|entry| entry.owner.clone()).unwrap_or_default(),
                dependencies: entry.map(|entry| entry.dump_id).into_iter().collect(),
                ..TocEntry::default()
            });
        }
    }

    /// Entries for the large objects, a file for each, and lists of these files.
    fn large_objects(&mut self) -> Result<(), ExportError> {
        let source = self.source;
        if self.minor >= 16 {
            // By owner and privileges, as many as go into one entry.
            let mut groups: BTreeMap<_, Vec<Object>> = BTreeMap::new();
            large_objects::objects(source, &mut |object| {
                self.create(object.oid)?;
                let key = (object.owner.clone(), object.acl.clone());
                let group = groups.entry(key).or_default();
                group.push(object);
                if group.len() == GROUP {
                    let group = std::mem::take(group);
                    self.group(&group)?;
                }
                Ok(())
            })?;
            for group in groups.values().filter(|group| !group.is_empty()) {
                self.group(group)?;
            }
        } else {
            let mut list = String::new();
            large_objects::objects(source, &mut |object| {
                self.create(object.oid)?;
                list.push_str(&line(object.oid));
                self.object(&object);
                Ok(())
            })?;
            if !list.is_empty() {
                self.contents("BLOBS".into(), Vec::new(), "blobs.toc".to_owned(), &list)?;
            }
        }
        self.fill()
    }

    /// An entry of several large objects, with a list of their files.
    fn group(&mut self, objects: &[Object]) -> Result<(), ExportError> {
        let [first, ..] = objects else { return Ok(()) };
        let oids: String = objects.iter().map(|o| format!("{}\n", o.oid)).collect();
        let tag = match objects {
            [one] => one.oid.to_string(),
            [.., last] => format!("{}..{}", first.oid, last.oid),
            [] => String::new(),
        };
        let number = self.number();
        self.data.push(TocEntry {
            dump_id: number,
            tableoid: LARGE_OBJECT_METADATA,
            oid: first.oid,
            tag: tag.as_str().into(),
            desc: "BLOB METADATA".to_owned(),
            section: Section::Data,
            defn: oids.into(),
            drop_stmt: "-- dummy".into(),
            owner: self.owner(first),
            ..TocEntry::default()
        });
        // One entry of privileges holds for all of them, if it is simple enough for pg_restore.
        let shared = large_objects::privileges(self.source, first).filter(|found| found.simple());
        if let (Some(found), true) = (&shared, objects.len() > 1) {
            let tag = format!("LARGE OBJECTS {tag}");
            self.belongs("ACL", tag, found.statements.clone(), first, number);
        }
        for object in objects {
            self.comment(object, number);
            if shared.is_none() || objects.len() == 1 {
                self.privileges(object, number);
            }
        }
        let list: String = objects.iter().map(|object| line(object.oid)).collect();
        let name = format!("blobs_{}.toc", self.next);
        self.contents(tag.as_str().into(), vec![number], name, &list)
    }

    /// Entries of one large object, before version 1.16.
    fn object(&mut self, object: &Object) {
        let number = self.number();
        let entry = TocEntry {
            dump_id: number,
            tableoid: LARGE_OBJECT_METADATA,
            oid: object.oid,
            tag: object.oid.to_string().into(),
            desc: "BLOB".to_owned(),
            section: Section::PreData,
            defn: format!("SELECT pg_catalog.lo_create('{}');\n", object.oid).into(),
            drop_stmt: format!("SELECT pg_catalog.lo_unlink('{}');\n", object.oid).into(),
            owner: self.owner(object),
            ..TocEntry::default()
        };
        self.before.push(entry);
        let data = self.data.len();
        self.comment(object, number);
        self.privileges(object, number);
        self.before.extend(self.data.drain(data..));
    }

    fn comment(&mut self, object: &Object, of: i32) {
        if let Some(statement) = large_objects::comment_statement(self.source, object) {
            let tag = format!("LARGE OBJECT {}", object.oid);
            self.belongs("COMMENT", tag, statement, object, of);
        }
    }

    fn privileges(&mut self, object: &Object, of: i32) {
        if let Some(found) = large_objects::privileges(self.source, object) {
            let tag = format!("LARGE OBJECT {}", object.oid);
            self.belongs("ACL", tag, found.statements, object, of);
        }
    }

    /// An entry that belongs to another.
    fn belongs(&mut self, desc: &str, tag: String, defn: Vec<u8>, object: &Object, of: i32) {
        let entry = TocEntry {
            dump_id: self.number(),
            tag: tag.into(),
            desc: desc.to_owned(),
            section: Section::None,
            defn: defn.into(),
            owner: self.owner(object),
            dependencies: vec![of],
            ..TocEntry::default()
        };
        if !(self.source.render.no_privileges && is_privilege(&entry)) {
            self.data.push(entry);
        }
    }

    /// An entry of the contents of large objects, and the list of their files.
    fn contents(
        &mut self,
        tag: SqlText,
        dependencies: Vec<i32>,
        name: String,
        list: &str,
    ) -> Result<(), ExportError> {
        let dump_id = self.number();
        let mut sink = Output::File(self.file(&name)).open()?;
        sink.write(list.as_bytes())?;
        sink.finish()?;
        self.files.insert(dump_id, name);
        self.data.push(TocEntry {
            dump_id,
            tag,
            desc: "BLOBS".to_owned(),
            section: Section::Data,
            dependencies,
            had_dumper: true,
            ..TocEntry::default()
        });
        Ok(())
    }

    /// The owner as the archive's entries name it. A name in another encoding cannot be said there.
    fn owner(&self, object: &Object) -> SqlText {
        if self.source.encoding().is_some() && !object.owner.is_ascii() {
            self.source.progress.note(&format!(
                "large object {} will belong to whoever restores it: the name of its owner is not in UTF-8; --format sql has it",
                object.oid
            ));
            return SqlText::default();
        }
        object.owner.clone().into()
    }

    fn create(&self, oid: u32) -> Result<(), ExportError> {
        let path = self.file(&data_file(oid));
        File::create(&path).map(drop).map_err(ExportError::io(path))
    }

    /// Writes pages where they belong. What no page covers reads as zeros, in a file as in a large object.
    fn fill(&self) -> Result<(), ExportError> {
        let mut open: Option<(u32, File)> = None;
        large_objects::pages(self.source, &mut |page| {
            let Some(page) = page else { return Ok(()) };
            let path = self.file(&data_file(page.oid));
            if open.as_ref().is_none_or(|(oid, _)| *oid != page.oid) {
                let file = OpenOptions::new().write(true).open(&path);
                open = Some((page.oid, file.map_err(ExportError::io(&path))?));
            }
            let Some((_, file)) = &open else {
                return Ok(());
            };
            let written = if page.data.is_empty() {
                file.metadata()
                    .and_then(|found| match found.len() < page.offset {
                        true => file.set_len(page.offset),
                        false => Ok(()),
                    })
            } else {
                file.write_all_at(page.data, page.offset)
            };
            written.map_err(ExportError::io(path))
        })?;
        if open.is_some() {
            // All at once: there may be millions.
            let directory = File::open(self.directory);
            directory
                .and_then(|directory| Ok(rustix::fs::syncfs(directory)?))
                .map_err(ExportError::io(self.directory))?;
        }
        Ok(())
    }

    /// Writes the table of contents, which makes an archive of the directory.
    fn finish(self) -> Result<(), ExportError> {
        let source = self.source;
        let snapshot = &source.opened.snapshot;
        let chosen = source.opened.entries.iter().enumerate();
        let chosen = chosen.filter(|(n, entry)| {
            is_setting(entry)
                || source.chosen.entries[*n]
                || source.opened.graph.database.contains(n)
        });
        let chosen = chosen.filter(|(_, e)| !(source.render.no_privileges && is_privilege(e)));
        // What an entry locks without pg_dump saying so, partitions of its tables above all: pg_restore -j runs beside each
        // other what it does not know to be in each other's way, and the server ends one of them for a deadlock.
        let tasks = source.opened.graph.tasks.iter();
        let locks: HashMap<usize, &[i32]> = tasks.map(|t| (t.entry, &*t.locks)).collect();
        let mut entries: Vec<TocEntry> = chosen
            .map(|(n, entry)| {
                let mut entry = entry.clone();
                let more = locks.get(&n).into_iter().copied().flatten();
                let more: Vec<i32> = more
                    .copied()
                    .filter(|id| !entry.dependencies.contains(id))
                    .collect();
                entry.dependencies.extend(more);
                entry
            })
            .collect();
        let later = |entry: &TocEntry| entry.section == Section::PostData;
        let at = entries.iter().position(later).unwrap_or(entries.len());
        entries.splice(at..at, self.before.into_iter().chain(self.data));
        for entry in &mut entries {
            entry.had_dumper = self.files.contains_key(&entry.dump_id);
            if source.render.no_owner {
                entry.owner = SqlText::default();
            }
            if source.render.no_tablespaces {
                entry.tablespace = entry.tablespace.as_ref().map(|_| SqlText::default());
            }
            if source.render.no_table_access_method {
                entry.tableam = None;
            }
        }
        let archive = Archive {
            version: (1, self.minor, 0),
            dbname: snapshot.source.database.as_str().into(),
            server_version: snapshot.source.server_version.as_str().into(),
            dump_version: snapshot.source.pg_dump_version.as_str().into(),
            entries,
            files: self.files,
        };
        let time = snapshot.time.to_zoned(jiff::tz::TimeZone::UTC);
        let time = [
            i32::from(time.second()),
            i32::from(time.minute()),
            i32::from(time.hour()),
            i32::from(time.day()),
            i32::from(time.month()) - 1,
            i32::from(time.year()) - 1900,
        ];
        let mut bytes = Vec::new();
        archive
            .write(time, &mut bytes)
            .map_err(ExportError::io(self.directory))?;
        let mut sink = Output::File(self.directory.join("toc.dat")).open()?;
        sink.write(&bytes)?;
        sink.finish()?;
        sync_directory(self.directory)
    }
}

/// OID of `pg_largeobject_metadata`, to which entries of large objects refer.
const LARGE_OBJECT_METADATA: u32 = crate::pg::catalog::LARGE_OBJECT_METADATA_OID;

fn data_file(oid: u32) -> String {
    format!("blob_{oid}.dat")
}

/// A line of a list of files.
fn line(oid: u32) -> String {
    format!("{oid} {}\n", data_file(oid))
}

/// What tells `pg_restore` that rows go to a partitioned table's other partitions, too.
fn load_through(table: &TableRecord) -> SqlText {
    let Some((schema, name)) = &table.load_through else {
        return SqlText::default();
    };
    let mut out = b"-- load via partition root ".to_vec();
    push_qualified(
        &mut out,
        Some(&schema.as_str().into()),
        &name.as_str().into(),
    );
    out.into()
}
