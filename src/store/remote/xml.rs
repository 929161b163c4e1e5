//! Documents that object stores answer with, as far as they are looked at here.

use quick_xml::events::Event;
use serde::Deserialize;

/// Why a document is not what was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is an error.
    Error,
    /// It is something else, or it is cut.
    Document(String),
}

/// What an error document says.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ErrorDocument {
    pub code: String,
    pub message: String,
    pub region: Option<String>,
    pub storage_class: Option<String>,
    /// Token services wrap theirs.
    error: Option<Box<ErrorDocument>>,
}

impl ErrorDocument {
    /// Reads one; what is none is empty.
    pub fn parse(bytes: &[u8]) -> Self {
        let document: Self = std::str::from_utf8(bytes)
            .ok()
            .map(|text| text.trim_start_matches('\u{feff}'))
            .and_then(|text| quick_xml::de::from_str(text).ok())
            .unwrap_or_default();
        match document.error {
            Some(inner) => *inner,
            None => document,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Page {
    is_truncated: Option<bool>,
    next_continuation_token: Option<String>,
    key_count: Option<u64>,
    contents: Vec<serde::de::IgnoredAny>,
    common_prefixes: Vec<serde::de::IgnoredAny>,
}

/// Whether a document is well-formed, has that root, and is complete by its own account.
pub(super) fn verify(bytes: &[u8], root: &str) -> Result<(), Wrong> {
    let wrong = |detail: String| Wrong::Document(detail);
    let found = root_of(bytes).map_err(wrong)?;
    if found == "Error" {
        return Err(Wrong::Error);
    }
    if found != root {
        return Err(wrong(format!("its answer is a {found:?}, not a {root}")));
    }
    if root != "ListBucketResult" {
        return Ok(());
    }
    // An answer that says it goes on, but not where, would pass for a whole listing.
    let page: Page = quick_xml::de::from_reader(bytes).map_err(|error| wrong(error.to_string()))?;
    let token = page
        .next_continuation_token
        .is_some_and(|token| !token.is_empty());
    if page.is_truncated == Some(true) && !token {
        return Err(wrong(
            "its listing is cut and does not say where it goes on".into(),
        ));
    }
    let keys = (page.contents.len() + page.common_prefixes.len()) as u64;
    if page.key_count.is_some_and(|count| count != keys) {
        return Err(wrong(format!(
            "its listing has {keys} objects and says otherwise"
        )));
    }
    Ok(())
}

/// The name of the root element, once the document was read to its end.
fn root_of(bytes: &[u8]) -> Result<String, String> {
    let mut reader = quick_xml::Reader::from_reader(bytes);
    let mut root = None;
    let mut depth = 0_usize;
    loop {
        match reader.read_event() {
            Ok(Event::Start(element)) => {
                depth += 1;
                root.get_or_insert_with(|| element.local_name().as_ref().to_vec());
            }
            Ok(Event::Empty(element)) => {
                root.get_or_insert_with(|| element.local_name().as_ref().to_vec());
            }
            Ok(Event::End(_)) => depth = depth.saturating_sub(1),
            Ok(Event::Eof) => break,
            Ok(_) => {}
            Err(error) => return Err(format!("its answer is not XML: {error}")),
        }
    }
    match root {
        Some(root) if depth == 0 => Ok(String::from_utf8_lossy(&root).into_owned()),
        _ => Err("its answer is cut".into()),
    }
}

/// An unfinished multipart upload.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OpenUpload {
    pub key: String,
    pub upload_id: String,
    pub initiated: jiff::Timestamp,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct OpenUploads {
    pub upload: Vec<OpenUpload>,
    pub is_truncated: bool,
    pub next_key_marker: Option<String>,
    pub next_upload_id_marker: Option<String>,
}

impl OpenUploads {
    /// Reads a page of them.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        quick_xml::de::from_reader(bytes).map_err(|error| error.to_string())
    }
}

/// Until when an object is locked.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Retention {
    pub retain_until_date: Option<jiff::Timestamp>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: &str = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
        <IsTruncated>false</IsTruncated><KeyCount>1</KeyCount><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>";

    #[test]
    fn a_whole_listing_passes_and_every_cut_of_it_does_not() {
        assert_eq!(verify(PAGE.as_bytes(), "ListBucketResult"), Ok(()));
        for cut in 0..PAGE.len() {
            assert!(
                verify(&PAGE.as_bytes()[..cut], "ListBucketResult").is_err(),
                "{cut}"
            );
        }
    }

    #[test]
    fn a_listing_that_goes_on_nowhere_or_lacks_objects_is_refused() {
        let truncated = PAGE.replace("false", "true");
        assert!(verify(truncated.as_bytes(), "ListBucketResult").is_err());
        let miscounted = PAGE.replace("<KeyCount>1", "<KeyCount>2");
        assert!(verify(miscounted.as_bytes(), "ListBucketResult").is_err());
    }

    #[test]
    fn an_error_is_told_from_other_documents() {
        let error = "<Error><Code>SlowDown</Code><Message>Please</Message></Error>";
        assert_eq!(
            verify(error.as_bytes(), "ListBucketResult"),
            Err(Wrong::Error)
        );
        assert!(matches!(
            verify(b"<html/>", "ListBucketResult"),
            Err(Wrong::Document(_))
        ));
        assert!(matches!(
            verify(b"", "ListBucketResult"),
            Err(Wrong::Document(_))
        ));
        assert_eq!(ErrorDocument::parse(error.as_bytes()).code, "SlowDown");
        let wrapped = "<ErrorResponse><Error><Code>ExpiredToken</Code></Error></ErrorResponse>";
        assert_eq!(
            ErrorDocument::parse(wrapped.as_bytes()).code,
            "ExpiredToken"
        );
        assert_eq!(
            ErrorDocument::parse(b"<html>gateway"),
            ErrorDocument::default()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "[<>/a-zA-Z&;=\" ]{0,200}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                let _ = verify(bytes, "ListBucketResult");
                let _ = ErrorDocument::parse(bytes);
                let _ = OpenUploads::parse(bytes);
            }
        }
    }
}
