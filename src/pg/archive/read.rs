//! Reads a table of contents. The bytes may come from a program we do not control, so lengths are never trusted: memory
//! grows only with what was received.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;

use super::{Archive, ArchiveError, Section, SqlText, TocEntry};

impl Archive {
    /// Reads the header and the table of contents, and nothing after them.
    pub fn read(input: impl Read) -> Result<Archive, ArchiveError> {
        Reader {
            input,
            offset: 0,
            int_size: 4,
            offset_size: 8,
        }
        .archive()
    }
}

/// What stands behind each entry.
enum Format {
    /// A position in the same file.
    Custom,
    /// The name of a file.
    Directory,
}

struct Reader<R> {
    input: R,
    offset: u64,
    int_size: u8,
    offset_size: u8,
}

impl<R: Read> Reader<R> {
    fn archive(&mut self) -> Result<Archive, ArchiveError> {
        let mut magic = [0; 5];
        self.exact(&mut magic)?;
        if &magic != b"PGDMP" {
            return Err(ArchiveError::NotAnArchive {
                what: "it does not begin with PGDMP",
            });
        }
        let version = (self.byte()?, self.byte()?, self.byte()?);
        if version.0 != 1 || !(14..=16).contains(&version.1) {
            return Err(ArchiveError::Version {
                major: version.0,
                minor: version.1,
            });
        }
        self.int_size = self.byte()?;
        self.offset_size = self.byte()?;
        if !(1..=8).contains(&self.int_size) || self.offset_size > 16 {
            return Err(self.damaged("impossible sizes of integers"));
        }
        let format = match self.byte()? {
            1 => Format::Custom,
            3 => Format::Directory,
            _ => {
                return Err(ArchiveError::NotAnArchive {
                    what: "it is an archive, but in neither the custom nor the directory format",
                });
            }
        };
        // The compression of data that is not there: a level once, an algorithm since 1.15.
        if version.1 >= 15 {
            self.byte()?;
        } else {
            self.int()?;
        }
        // Local time of creation, in seven numbers; the snapshot has a better one.
        for _ in 0..7 {
            self.int()?;
        }
        let dbname = self.text()?.unwrap_or_default();
        let server_version = self.text()?.unwrap_or_default();
        let dump_version = self.text()?.unwrap_or_default();
        let count = self.int()?;
        if count < 0 {
            return Err(self.damaged("a negative number of entries"));
        }
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        let mut files = BTreeMap::new();
        for _ in 0..count {
            let entry = self.entry(version.1)?;
            if entry.dump_id <= 0 || !seen.insert(entry.dump_id) {
                return Err(self.damaged("an entry's number is not positive, or comes twice"));
            }
            match format {
                // Where the data would be; never used, as there is none.
                Format::Custom => {
                    let mut position = [0; 17];
                    let position = &mut position[..1 + usize::from(self.offset_size)];
                    self.exact(position)?;
                }
                Format::Directory => {
                    let file = self.text()?.unwrap_or_default();
                    if !file.is_empty() {
                        let file = String::from_utf8(file.into_bytes());
                        let file = file.map_err(|_| self.damaged("a file's name is not a word"))?;
                        files.insert(entry.dump_id, file);
                    }
                }
            }
            entries.push(entry);
        }
        Ok(Archive {
            version,
            dbname,
            server_version,
            dump_version,
            entries,
            files,
        })
    }

    fn entry(&mut self, minor: u8) -> Result<TocEntry, ArchiveError> {
        let dump_id = self.int()?;
        let had_dumper = self.int()? != 0;
        let tableoid = self.number("an OID")?;
        let oid = self.number("an OID")?;
        let tag = self.text()?.unwrap_or_default();
        let desc = self.text()?.unwrap_or_default();
        let desc = String::from_utf8(desc.into_bytes())
            .map_err(|_| self.damaged("an entry's kind is not a word"))?;
        let section = match self.int()? {
            1 => Section::None,
            2 => Section::PreData,
            3 => Section::Data,
            4 => Section::PostData,
            _ => return Err(self.damaged("an unknown section")),
        };
        let defn = self.text()?.unwrap_or_default();
        let drop_stmt = self.text()?.unwrap_or_default();
        let copy_stmt = self.text()?.unwrap_or_default();
        let namespace = self.text()?;
        let tablespace = self.text()?;
        let tableam = self.text()?;
        let relkind = match if minor >= 16 { self.int()? } else { 0 } {
            0 => None,
            code => {
                let kind = u8::try_from(code).ok().filter(u8::is_ascii_graphic);
                Some(char::from(kind.ok_or_else(|| {
                    self.damaged("an unknown kind of relation")
                })?))
            }
        };
        let owner = self.text()?.unwrap_or_default();
        // WITH OIDS, which no server has had since 12.
        self.text()?;
        let mut dependencies = Vec::new();
        while let Some(text) = self.text()? {
            dependencies.push(self.parse(&text, "a dependency")?);
        }
        Ok(TocEntry {
            dump_id,
            tableoid,
            oid,
            tag,
            desc,
            section,
            defn,
            drop_stmt,
            copy_stmt,
            namespace,
            tablespace,
            tableam,
            relkind,
            owner,
            dependencies,
            had_dumper,
        })
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        self.input
            .read_exact(buffer)
            .map_err(|source| ArchiveError::Io {
                offset: self.offset,
                source,
            })?;
        self.offset += buffer.len() as u64;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, ArchiveError> {
        let mut byte = [0];
        self.exact(&mut byte)?;
        Ok(byte[0])
    }

    /// A sign byte, then the magnitude, low byte first.
    fn int(&mut self) -> Result<i32, ArchiveError> {
        let negative = self.byte()? != 0;
        let mut bytes = [0; 8];
        self.exact(&mut bytes[..usize::from(self.int_size)])?;
        let magnitude = i64::try_from(u64::from_le_bytes(bytes)).unwrap_or(i64::MAX);
        let value = if negative { -magnitude } else { magnitude };
        i32::try_from(value).map_err(|_| self.damaged("a number out of range"))
    }

    /// A length, then as many bytes; a negative length is the absence of a text.
    fn text(&mut self) -> Result<Option<SqlText>, ArchiveError> {
        let Ok(length) = u64::try_from(self.int()?) else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        // Grows as bytes arrive, whatever the length claims.
        let read = self.input.by_ref().take(length).read_to_end(&mut bytes);
        read.map_err(|source| ArchiveError::Io {
            offset: self.offset,
            source,
        })?;
        self.offset += bytes.len() as u64;
        if (bytes.len() as u64) < length {
            let source = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(ArchiveError::Io {
                offset: self.offset,
                source,
            });
        }
        Ok(Some(SqlText(bytes)))
    }

    fn number<T: std::str::FromStr>(&mut self, what: &'static str) -> Result<T, ArchiveError> {
        let text = self.text()?.unwrap_or_default();
        self.parse(&text, what)
    }

    fn parse<T: std::str::FromStr>(
        &self,
        text: &SqlText,
        what: &'static str,
    ) -> Result<T, ArchiveError> {
        text.to_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| self.damaged(what))
    }

    fn damaged(&self, what: &'static str) -> ArchiveError {
        ArchiveError::Damaged {
            offset: self.offset,
            what,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn int(out: &mut Vec<u8>, value: i32) {
        out.push(u8::from(value < 0));
        out.extend_from_slice(&value.unsigned_abs().to_le_bytes());
    }

    fn text(out: &mut Vec<u8>, value: Option<&[u8]>) {
        match value {
            Some(bytes) => {
                int(out, bytes.len() as i32);
                out.extend_from_slice(bytes);
            }
            None => int(out, -1),
        }
    }

    fn sample(minor: u8, dump_ids: &[i32]) -> Vec<u8> {
        let mut out = b"PGDMP".to_vec();
        out.extend_from_slice(&[1, minor, 0, 4, 8, 1]);
        if minor >= 15 {
            out.push(0);
        } else {
            int(&mut out, -1);
        }
        for value in [1, 2, 3, 4, 5, 126, 0] {
            int(&mut out, value);
        }
        text(&mut out, Some(b"db"));
        text(&mut out, Some(b"15.4"));
        text(&mut out, Some(b"15.4"));
        int(&mut out, dump_ids.len() as i32);
        for id in dump_ids {
            int(&mut out, *id);
            int(&mut out, 1);
            text(&mut out, Some(b"1259"));
            text(&mut out, Some(b"4294967295"));
            text(&mut out, Some(b"t\xe9"));
            text(&mut out, Some(b"TABLE"));
            int(&mut out, 2);
            text(&mut out, Some(b"CREATE TABLE public.\"t\xe9\" ();\n"));
            text(&mut out, Some(b"DROP TABLE public.\"t\xe9\";\n"));
            text(&mut out, None);
            text(&mut out, Some(b"public"));
            text(&mut out, Some(b""));
            text(&mut out, Some(b"heap"));
            if minor >= 16 {
                int(&mut out, i32::from(b'r'));
            }
            text(&mut out, Some(b"me"));
            text(&mut out, Some(b"false"));
            text(&mut out, Some(b"7"));
            text(&mut out, Some(b"9"));
            text(&mut out, None);
            out.push(3);
            out.extend_from_slice(&[0; 8]);
        }
        out
    }

    #[test]
    fn reads_every_version_and_keeps_bytes() {
        for minor in [14, 15, 16] {
            let bytes = sample(minor, &[3, 1]);
            let archive = Archive::read(&bytes[..]).unwrap();
            assert_eq!(archive.version, (1, minor, 0));
            assert_eq!(archive.dbname, "db");
            assert_eq!(archive.entries.len(), 2);
            let entry = &archive.entries[0];
            assert_eq!(
                (entry.dump_id, entry.tableoid, entry.oid),
                (3, 1259, u32::MAX)
            );
            assert_eq!(entry.tag.as_bytes(), b"t\xe9");
            assert_eq!(entry.tag.to_str(), None);
            assert_eq!(entry.section, Section::PreData);
            assert!(entry.copy_stmt.is_empty());
            assert_eq!(entry.tablespace, Some(SqlText::default()));
            assert_eq!(entry.relkind, (minor >= 16).then_some('r'));
            assert_eq!(entry.dependencies, [7, 9]);
        }
    }

    #[test]
    fn every_cut_is_an_error() {
        let bytes = sample(16, &[1]);
        for length in 0..bytes.len() {
            assert!(Archive::read(&bytes[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for minor in [13, 17] {
            let error = Archive::read(&sample(minor, &[])[..]).unwrap_err();
            assert!(
                matches!(error, ArchiveError::Version { major: 1, .. }),
                "{error}"
            );
        }
        let error = Archive::read(&b"psql: error"[..]).unwrap_err();
        assert!(
            matches!(error, ArchiveError::NotAnArchive { .. }),
            "{error}"
        );
        let error = Archive::read(&sample(16, &[1, 1])[..]).unwrap_err();
        assert!(matches!(error, ArchiveError::Damaged { .. }), "{error}");
    }

    #[test]
    fn survives_postcard() {
        let entry = Archive::read(&sample(16, &[1])[..])
            .unwrap()
            .entries
            .remove(0);
        let bytes = postcard::to_allocvec(&entry).unwrap();
        assert_eq!(postcard::from_bytes::<TocEntry>(&bytes).unwrap(), entry);
    }

    proptest! {
        #[test]
        fn never_panics(position in 0usize..400, value: u8, cut in 0usize..400) {
            let mut bytes = sample(16, &[1, 2]);
            let position = position % bytes.len();
            bytes[position] = value;
            let _ = Archive::read(&bytes[..]);
            let cut = cut % bytes.len();
            let _ = Archive::read(&bytes[..cut]);
        }
    }
}
