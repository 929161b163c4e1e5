//! A part of the blocks, taken at random: read, decoded, and compared with what the snapshot says of them.

use rand::seq::index;
use serde::Serialize;

use crate::pg::interrupt::Interrupt;
use crate::progress::{Progress, Stage};
use crate::repo::RepoError;
use crate::repo::model::{BlockRef, TableRole};
use crate::restore::{Opened, load};
use crate::rows::{Decoder, DigestPlan, Digester, Format};

use super::VerifyError;

/// What was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sampled {
    /// Blocks of rows that the snapshot has.
    pub of_blocks: u64,
    /// Those that were looked at.
    pub blocks: u64,
    /// Their payload.
    pub bytes: u64,
    /// What is wrong, a line each.
    pub damaged: Vec<String>,
}

/// Looks at so much of the blocks, of one. Of a table with rows at least one.
pub fn look(
    opened: &Opened,
    part: f64,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<Sampled, VerifyError> {
    let tables = opened
        .tables
        .iter()
        .filter(|table| table.role == TableRole::Plain);
    let mut sampled = Sampled::default();
    let mut chosen: Vec<(DigestPlan, String, Vec<BlockRef>)> = Vec::new();
    for table in tables {
        let blocks = load::blocks(&opened.reader, table)?;
        let wanted = (blocks.len() as f64 * part).ceil() as usize;
        sampled.of_blocks += blocks.len() as u64;
        let columns: Vec<_> = (table.columns.iter())
            .map(|column| (column.name.clone(), column.shape.clone()))
            .collect();
        let name = format!("{}.{}", table.schema, table.name);
        let mut picked = index::sample(&mut rand::rng(), blocks.len(), wanted).into_vec();
        // Packs are read from their beginning on.
        picked.sort_unstable();
        let picked = picked.into_iter().map(|number| blocks[number]).collect();
        chosen.push((DigestPlan::new(table.format, &columns), name, picked));
    }
    let bytes = |blocks: &[BlockRef]| blocks.iter().map(|b| u64::from(b.payload_len)).sum::<u64>();
    progress.stage(&Stage::Rows {
        bytes: chosen.iter().map(|(_, _, blocks)| bytes(blocks)).sum(),
        tables: chosen.len() as u64,
        hypertables: 0,
        chunks: 0,
    });
    let mut decoder = Decoder::new();
    let (mut scratch, mut payload) = (Vec::new(), Vec::new());
    for (plan, name, blocks) in chosen {
        for block in blocks {
            if interrupt.raised() {
                return Err(VerifyError::Interrupted);
            }
            let read = opened
                .reader
                .read(&block.id, &mut decoder, &mut scratch, &mut payload);
            match read {
                Ok(_) => {}
                Err(
                    error @ (RepoError::Damaged { .. }
                    | RepoError::DamagedBlock { .. }
                    | RepoError::MissingBlock { .. }),
                ) => {
                    sampled.damaged.push(format!("{name}: {error}"));
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            sampled.blocks += 1;
            sampled.bytes += payload.len() as u64;
            progress.bytes(payload.len() as u64);
            // A part of a row is digested with the others only.
            if block.format != Format::Part
                && Digester::new(&plan).push_rows(&payload).ok() != Some(block.digest)
            {
                sampled.damaged.push(format!(
                    "{name}: block {:?} holds other rows than the snapshot says",
                    block.id
                ));
            }
        }
    }
    Ok(sampled)
}
