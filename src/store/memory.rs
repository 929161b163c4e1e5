//! A store in memory, gone with the process: for what a clone keeps beside the rows that pass through it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::StoreError;
use super::map::Buffer;
use super::{Listed, Store, Upload};

/// Objects in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Arc<Objects>,
}

type Objects = Mutex<BTreeMap<String, Object>>;

#[derive(Debug)]
struct Object {
    bytes: Arc<[u8]>,
    put: jiff::Timestamp,
}

fn lock(objects: &Objects) -> MutexGuard<'_, BTreeMap<String, Object>> {
    objects.lock().unwrap_or_else(PoisonError::into_inner)
}

fn put(objects: &Objects, name: &str, bytes: Arc<[u8]>) {
    let object = Object {
        bytes,
        put: jiff::Timestamp::now(),
    };
    lock(objects).insert(name.to_owned(), object);
}

impl MemoryStore {
    fn bytes(&self, name: &str) -> Result<Arc<[u8]>, StoreError> {
        let objects = lock(&self.objects);
        let object = objects.get(name).ok_or_else(|| StoreError::absent(name))?;
        Ok(Arc::clone(&object.bytes))
    }
}

impl Store for MemoryStore {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        put(&self.objects, name, bytes.into());
        Ok(())
    }

    fn create_upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(MemoryUpload {
            objects: Arc::clone(&self.objects),
            bytes: Vec::new(),
        }))
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        Ok(self.bytes(name)?.to_vec())
    }

    fn get_range(
        &self,
        name: &str,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        out.clear();
        let bytes = self.bytes(name)?;
        let range = usize::try_from(offset).ok().and_then(|from| {
            let to = from.checked_add(len)?;
            bytes.get(from..to)
        });
        out.extend_from_slice(range.ok_or_else(|| StoreError::Short {
            object: name.to_owned(),
            offset,
            len,
        })?);
        Ok(())
    }

    fn len(&self, name: &str) -> Result<u64, StoreError> {
        Ok(self.bytes(name)?.len() as u64)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let objects = lock(&self.objects);
        let from = objects.range(prefix.to_owned()..);
        let found = from.take_while(|(name, _)| name.starts_with(prefix));
        Ok(found
            .map(|(name, object)| Listed {
                name: name.clone(),
                len: object.bytes.len() as u64,
                modified: object.put,
            })
            .collect())
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let removed = lock(&self.objects).remove(name);
        removed.map(|_| ()).ok_or_else(|| StoreError::absent(name))
    }

    fn map(&self, name: &str) -> Result<Buffer, StoreError> {
        Ok(self.get(name)?.into())
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }
}

/// An object in the making.
struct MemoryUpload {
    objects: Arc<Objects>,
    bytes: Vec<u8>,
}

impl Upload for MemoryUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, name: &str) -> Result<(), StoreError> {
        put(&self.objects, name, self.bytes.into());
        Ok(())
    }
}
