//! Where an export goes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::ExportError;

/// A file, or stdout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Stdout.
    Stdout,
    /// A file, which is replaced if it is there.
    File(PathBuf),
}

/// An open output.
pub struct Sink {
    writer: BufWriter<Box<dyn Write>>,
    file: Option<File>,
    path: PathBuf,
}

impl Output {
    /// Opens it.
    pub fn open(&self) -> Result<Sink, ExportError> {
        let (writer, file, path): (Box<dyn Write>, _, _) = match self {
            Self::Stdout => (Box::new(io::stdout()), None, PathBuf::from("stdout")),
            Self::File(path) => {
                let file = File::create(path).map_err(ExportError::io(path))?;
                let again = file.try_clone().map_err(ExportError::io(path))?;
                (Box::new(file), Some(again), path.clone())
            }
        };
        Ok(Sink {
            writer: BufWriter::with_capacity(256 << 10, writer),
            file,
            path,
        })
    }
}

impl Sink {
    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.writer
            .write_all(bytes)
            .map_err(ExportError::io(&self.path))
    }

    /// Writes all that is held back, and makes a file durable.
    pub fn finish(mut self) -> Result<(), ExportError> {
        self.writer.flush().map_err(ExportError::io(&self.path))?;
        match &self.file {
            // What is no plain file may have nothing to make durable.
            Some(file) if file.metadata().is_ok_and(|m| m.is_file()) => {
                file.sync_all().map_err(ExportError::io(&self.path))
            }
            _ => Ok(()),
        }
    }
}

/// Makes a directory that must not be there, or be empty.
pub fn new_directory(path: &Path) -> Result<(), ExportError> {
    match std::fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let empty = std::fs::read_dir(path).is_ok_and(|mut found| found.next().is_none());
            if empty {
                Ok(())
            } else {
                Err(ExportError::NotEmpty(path.to_owned()))
            }
        }
        Err(source) => Err(ExportError::io(path)(source)),
    }
}

/// Makes the entries of a directory durable, and its own in its parent.
pub fn sync_directory(path: &Path) -> Result<(), ExportError> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    for path in [Some(path), parent].into_iter().flatten() {
        File::open(path)
            .and_then(|directory| directory.sync_all())
            .map_err(ExportError::io(path))?;
    }
    Ok(())
}
