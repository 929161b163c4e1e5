//! Writes the table of contents of an archive in the directory format (`toc.dat`), as `pg_dump -Fd` does: the layout is
//! that of `WriteHead` and `WriteToc` in PostgreSQL's `src/bin/pg_dump/pg_backup_archiver.c`.

use std::io::{self, Write};

use super::{Archive, Section, SqlText, TocEntry};

impl Archive {
    /// The minor version of the format that `pg_dump` of that major version of PostgreSQL writes.
    pub fn minor_version(server: i32) -> u8 {
        match server {
            ..16 => 14,
            16 => 15,
            _ => 16,
        }
    }

    /// Writes the archive's `toc.dat`. `time` is when it was made, as in C: seconds, minutes, hours, day, month from 0 on,
    /// year from 1900 on. The data it names is not compressed.
    pub fn write(&self, time: [i32; 6], out: &mut impl Write) -> io::Result<()> {
        let mut writer = Writer {
            out,
            minor: self.version.1,
        };
        writer.out.write_all(b"PGDMP")?;
        // Sizes of integers and positions; the format tar, whose table of contents a directory has.
        let (major, minor, revision) = self.version;
        writer.out.write_all(&[major, minor, revision, 4, 8, 3])?;
        if minor >= 15 {
            writer.out.write_all(&[0])?;
        } else {
            writer.int(0)?;
        }
        for part in time {
            writer.int(part)?;
        }
        // No summer time.
        writer.int(0)?;
        writer.text(Some(&self.dbname))?;
        writer.text(Some(&self.server_version))?;
        writer.text(Some(&self.dump_version))?;
        writer.int(i32::try_from(self.entries.len()).map_err(io::Error::other)?)?;
        for entry in &self.entries {
            let file = self.files.get(&entry.dump_id);
            writer.entry(entry, file.map_or("", String::as_str))?;
        }
        Ok(())
    }
}

struct Writer<'w, W> {
    out: &'w mut W,
    minor: u8,
}

impl<W: Write> Writer<'_, W> {
    fn entry(&mut self, entry: &TocEntry, file: &str) -> io::Result<()> {
        self.int(entry.dump_id)?;
        self.int(i32::from(entry.had_dumper))?;
        self.words(&entry.tableoid.to_string())?;
        self.words(&entry.oid.to_string())?;
        self.text(Some(&entry.tag))?;
        self.words(&entry.desc)?;
        self.int(match entry.section {
            Section::None => 1,
            Section::PreData => 2,
            Section::Data => 3,
            Section::PostData => 4,
        })?;
        for statement in [&entry.defn, &entry.drop_stmt, &entry.copy_stmt] {
            self.text(Some(statement).filter(|statement| !statement.is_empty()))?;
        }
        self.text(entry.namespace.as_ref())?;
        self.text(entry.tablespace.as_ref())?;
        self.text(entry.tableam.as_ref())?;
        if self.minor >= 16 {
            self.int(entry.relkind.map_or(0, |kind| kind as i32))?;
        }
        self.text(Some(&entry.owner))?;
        // WITH OIDS, which no server has had since 12.
        self.words("false")?;
        for id in &entry.dependencies {
            self.words(&id.to_string())?;
        }
        self.text(None)?;
        self.words(file)
    }

    /// A sign byte, then the magnitude, low byte first.
    fn int(&mut self, value: i32) -> io::Result<()> {
        self.out.write_all(&[u8::from(value < 0)])?;
        self.out.write_all(&value.unsigned_abs().to_le_bytes())
    }

    fn words(&mut self, text: &str) -> io::Result<()> {
        self.bytes(text.as_bytes())
    }

    /// Nothing is a negative length.
    fn text(&mut self, text: Option<&SqlText>) -> io::Result<()> {
        match text {
            Some(text) => self.bytes(text.as_bytes()),
            None => self.int(-1),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.int(i32::try_from(bytes.len()).map_err(io::Error::other)?)?;
        self.out.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = SqlText> {
        prop::collection::vec(any::<u8>(), 0..12).prop_map(SqlText::from)
    }

    prop_compose! {
        fn entry()(
            (tableoid, oid, tag, desc) in (any::<u32>(), any::<u32>(), text(), "[A-Z ]{1,10}"),
            section in prop::sample::select(vec![Section::None, Section::PreData, Section::Data, Section::PostData]),
            (defn, drop_stmt, copy_stmt, owner) in (text(), text(), text(), text()),
            namespace in prop::option::of(text()), tablespace in prop::option::of(text()), tableam in prop::option::of(text()),
            relkind in prop::option::of(prop::char::range('!', '~')),
            dependencies in prop::collection::vec(any::<i32>(), 0..4), had_dumper: bool,
        ) -> TocEntry {
            TocEntry {
                dump_id: 0, tableoid, oid, tag, desc, section, defn, drop_stmt, copy_stmt, namespace, tablespace, tableam,
                relkind, owner, dependencies, had_dumper,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            server in 15..19, mut entries in prop::collection::vec(entry(), 0..6), file in "[a-z0-9.]{1,8}",
            (dbname, server_version, dump_version) in (text(), text(), text()),
        ) {
            let minor = Archive::minor_version(server);
            for (n, entry) in (1..).zip(&mut entries) {
                entry.dump_id = n;
                if minor < 16 {
                    entry.relkind = None;
                }
            }
            let files = entries.iter().filter(|e| e.had_dumper).map(|e| (e.dump_id, file.clone())).collect();
            let archive = Archive { version: (1, minor, 0), dbname, server_version, dump_version, entries, files };
            let mut bytes = Vec::new();
            archive.write([1, 2, 3, 4, 5, 126], &mut bytes).unwrap();
            prop_assert_eq!(Archive::read(&bytes[..]).unwrap(), archive);
        }
    }
}
