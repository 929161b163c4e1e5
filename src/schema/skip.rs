//! Kinds of entries that can be left out by an option, and sections.

use std::str::FromStr;

use crate::pg::archive::{Section, TocEntry};

/// Kinds of entries to leave out, as the `--no-...` options of `pg_dump` and `pg_restore` name them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skip {
    /// `GRANT`, `REVOKE` and default privileges.
    pub privileges: bool,
    /// Comments.
    pub comments: bool,
    /// Policies of row security, and that it is enabled.
    pub policies: bool,
    /// Publications and what they publish.
    pub publications: bool,
    /// Security labels.
    pub security_labels: bool,
    /// Subscriptions.
    pub subscriptions: bool,
}

impl Skip {
    /// Whether the entry is left out. What is said of a publication or subscription goes with it.
    pub fn skips(&self, entry: &TocEntry) -> bool {
        let of = |kind: &[u8]| entry.tag.as_bytes().starts_with(kind);
        match entry.desc.as_str() {
            "ACL" | "DEFAULT ACL" => self.privileges,
            "POLICY" | "ROW SECURITY" => self.policies,
            "PUBLICATION" | "PUBLICATION TABLE" | "PUBLICATION TABLES IN SCHEMA" => {
                self.publications
            }
            "SUBSCRIPTION" | "SUBSCRIPTION TABLE" => self.subscriptions,
            desc @ ("COMMENT" | "SECURITY LABEL") => {
                let own = match desc {
                    "COMMENT" => self.comments,
                    _ => self.security_labels,
                };
                own || (self.publications && of(b"PUBLICATION "))
                    || (self.subscriptions && of(b"SUBSCRIPTION "))
                    || (self.policies && of(b"POLICY "))
            }
            _ => false,
        }
    }
}

/// Which sections of a dump are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sections {
    /// Definitions that come before the rows.
    pub pre_data: bool,
    /// Rows, values of sequences, large objects.
    pub data: bool,
    /// Definitions that come after the rows: indexes, constraints, triggers and more.
    pub post_data: bool,
}

impl Default for Sections {
    fn default() -> Self {
        Self::ALL
    }
}

impl Sections {
    /// Everything.
    pub const ALL: Self = Self {
        pre_data: true,
        data: true,
        post_data: true,
    };
    /// Definitions without rows.
    pub const SCHEMA: Self = Self {
        data: false,
        ..Self::ALL
    };
    /// Rows without definitions.
    pub const DATA: Self = Self {
        pre_data: false,
        data: true,
        post_data: false,
    };

    /// Those of the names, all where there are none.
    pub fn of(names: &[SectionName]) -> Self {
        if names.is_empty() {
            return Self::ALL;
        }
        let has = |name| names.contains(&name);
        Self {
            pre_data: has(SectionName::PreData),
            data: has(SectionName::Data),
            post_data: has(SectionName::PostData),
        }
    }

    /// The names of those that are wanted.
    pub fn names(&self) -> Vec<&'static str> {
        [
            ("pre-data", self.pre_data),
            ("data", self.data),
            ("post-data", self.post_data),
        ]
        .into_iter()
        .filter_map(|(name, wanted)| wanted.then_some(name))
        .collect()
    }

    /// Whether the section is wanted. What has none goes with the entry before it: see [`effective`].
    pub fn wants(&self, section: Section) -> bool {
        match section {
            Section::PreData | Section::None => self.pre_data,
            Section::Data => self.data,
            Section::PostData => self.post_data,
        }
    }
}

/// A section by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionName {
    /// `pre-data`
    PreData,
    /// `data`
    Data,
    /// `post-data`
    PostData,
}

impl FromStr for SectionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pre-data" => Ok(Self::PreData),
            "data" => Ok(Self::Data),
            "post-data" => Ok(Self::PostData),
            other => Err(format!(
                "{other:?} is not a section: use pre-data, data or post-data"
            )),
        }
    }
}

/// The section of each entry. Comments, privileges and labels have none of their own: they go with the entry before
/// them, as `pg_restore` has it.
pub fn effective<'e>(entries: impl IntoIterator<Item = &'e TocEntry>) -> Vec<Section> {
    let mut current = Section::PreData;
    entries
        .into_iter()
        .map(|entry| {
            if entry.section != Section::None {
                current = entry.section;
            }
            current
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(desc: &str, tag: &str, section: Section) -> TocEntry {
        TocEntry {
            desc: desc.to_owned(),
            tag: tag.into(),
            section,
            ..TocEntry::default()
        }
    }

    #[test]
    fn what_is_said_of_a_kind_goes_with_it() {
        let skip = Skip {
            publications: true,
            ..Skip::default()
        };
        for (desc, tag, gone) in [
            ("PUBLICATION", "p", true),
            ("PUBLICATION TABLE", "p t", true),
            ("COMMENT", "PUBLICATION p", true),
            ("SECURITY LABEL", "PUBLICATION p", true),
            ("COMMENT", "TABLE t", false),
            ("SUBSCRIPTION", "s", false),
        ] {
            assert_eq!(skip.skips(&entry(desc, tag, Section::None)), gone, "{desc}");
        }
    }

    #[test]
    fn what_has_no_section_goes_with_the_entry_before_it() {
        let entries = [
            entry("TABLE", "t", Section::PreData),
            entry("COMMENT", "TABLE t", Section::None),
            entry("INDEX", "i", Section::PostData),
            entry("COMMENT", "INDEX i", Section::None),
        ];
        let post = Sections::of(&[SectionName::PostData]);
        let wanted: Vec<bool> = effective(&entries)
            .into_iter()
            .map(|section| post.wants(section))
            .collect();
        assert_eq!(wanted, [false, false, true, true]);
        assert_eq!(Sections::of(&[]), Sections::ALL);
        assert_eq!(Sections::SCHEMA.names(), ["pre-data", "post-data"]);
    }
}
