//! Values without the OIDs in them: arrays carry their element's type, composites that of each field, and both
//! differ between two databases that are otherwise equal.

use super::kind::Shape;

/// Most levels of nesting that are followed. PostgreSQL's own stack limit allows a few thousand.
const MAX_DEPTH: usize = 1000;

/// A shape that matters: one with an OID somewhere.
#[derive(Debug, Clone, Copy)]
enum Frame<'a> {
    Array(&'a Shape),
    Composite(&'a [Shape]),
    Range(&'a Shape),
    Multirange(&'a Shape),
}

/// Whether values of this shape can hold OIDs.
pub(super) fn has_oids(shape: &Shape) -> bool {
    match shape {
        Shape::Plain => false,
        Shape::Array(_) | Shape::Composite(_) => true,
        Shape::Range(inner) | Shape::Multirange(inner) => has_oids(inner),
    }
}

/// What the next bytes of a value are.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// Four bytes that count or measure something.
    Word,
    /// The four bytes of an OID.
    Oid,
    /// This many bytes that are passed as they are.
    Skip(u64),
}

/// A container that the walk is inside of.
#[derive(Debug)]
struct Level<'a> {
    frame: Frame<'a>,
    /// Position behind its last byte.
    end: u64,
    /// Words and OIDs seen so far.
    step: u64,
    /// Words before an array's elements.
    header: u64,
}

/// Walks through one value, in pieces of any size, and passes it on with zeros for its OIDs.
///
/// A value that does not have its shape's structure is passed on as it is from the place where it stops to fit:
/// what is decided depends only on the bytes before, so never on how the value is cut.
#[derive(Debug, Default)]
pub(super) struct Walker<'a> {
    levels: Vec<Level<'a>>,
    next: Option<Next>,
    word: [u8; 4],
    have: usize,
    pos: u64,
}

impl<'a> Walker<'a> {
    /// Starts with a value of `len` bytes.
    pub(super) fn start(&mut self, shape: &'a Shape, len: u64) {
        self.levels.clear();
        self.next = None;
        self.have = 0;
        self.pos = 0;
        self.enter(shape, len);
        self.advance();
    }

    /// Passes on a piece of the value.
    pub(super) fn feed(&mut self, mut piece: &[u8], mut sink: impl FnMut(&[u8])) {
        while !piece.is_empty() {
            let (len, oid) = match self.next {
                None => (piece.len(), false),
                Some(Next::Skip(left)) => (
                    usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len())),
                    false,
                ),
                Some(Next::Word) => (piece.len().min(4 - self.have), false),
                Some(Next::Oid) => (piece.len().min(4 - self.have), true),
            };
            let (part, rest) = piece.split_at(len);
            sink(if oid { &[0; 4][..len] } else { part });
            piece = rest;
            self.pos += len as u64;
            match self.next {
                None => {}
                Some(Next::Skip(left)) => {
                    let left = left - len as u64;
                    self.next = Some(Next::Skip(left));
                    if left == 0 {
                        self.advance();
                    }
                }
                Some(Next::Word | Next::Oid) => {
                    self.word[self.have..self.have + len].copy_from_slice(part);
                    self.have += len;
                    if self.have == 4 {
                        self.have = 0;
                        self.complete();
                    }
                }
            }
        }
    }

    /// Goes into a value of `len` bytes that starts here.
    fn enter(&mut self, shape: &'a Shape, len: u64) {
        let frame = match shape {
            Shape::Plain => return self.skip(len),
            _ if !has_oids(shape) => return self.skip(len),
            Shape::Array(inner) => Frame::Array(inner),
            Shape::Composite(fields) => Frame::Composite(fields),
            Shape::Range(inner) => Frame::Range(inner),
            Shape::Multirange(inner) => Frame::Multirange(inner),
        };
        self.enter_frame(frame, len);
    }

    fn enter_frame(&mut self, frame: Frame<'a>, len: u64) {
        if self.levels.len() >= MAX_DEPTH {
            return self.skip(len);
        }
        self.levels.push(Level {
            frame,
            end: self.pos + len,
            step: 0,
            header: 3,
        });
        self.next = Some(Next::Skip(0));
        if matches!(frame, Frame::Range(_)) && len > 0 {
            self.next = Some(Next::Skip(1));
        }
    }

    fn skip(&mut self, len: u64) {
        self.next = Some(Next::Skip(len));
    }

    /// The structure does not fit: the rest of the value passes as it is.
    fn give_up(&mut self) {
        self.levels.clear();
        self.next = None;
    }

    /// Finds out what comes next, when a skip is over.
    fn advance(&mut self) {
        while let Some(Next::Skip(0)) = self.next {
            let Some(level) = self.levels.last() else {
                return self.give_up();
            };
            if self.pos == level.end {
                self.levels.pop();
                continue;
            }
            if level.end - self.pos < 4 {
                return self.give_up();
            }
            self.next = Some(match level.frame {
                Frame::Array(_) if level.step == 2 => Next::Oid,
                Frame::Composite(_) if level.step % 2 == 1 => Next::Oid,
                _ => Next::Word,
            });
        }
    }

    /// A word or an OID is complete.
    fn complete(&mut self) {
        let word = i32::from_be_bytes(self.word);
        let Some(level) = self.levels.last_mut() else {
            return self.give_up();
        };
        let step = level.step;
        level.step += 1;
        let (frame, end) = (level.frame, level.end);
        self.next = Some(Next::Skip(0));
        // The value that this word is the length of.
        let value = match frame {
            Frame::Array(_) if step == 0 => {
                // The number of dimensions; a size and a lower bound of each stand behind the OID.
                match u64::try_from(word) {
                    Ok(dimensions @ 0..=6) => level.header = 3 + 2 * dimensions,
                    _ => return self.give_up(),
                }
                None
            }
            Frame::Array(_) if step < level.header => None,
            Frame::Array(inner) => Some(inner),
            Frame::Composite(_) if step == 0 || step % 2 == 1 => None,
            Frame::Composite(fields) => {
                let field = (step / 2 - 1) as usize;
                Some(fields.get(field).unwrap_or(&Shape::Plain))
            }
            Frame::Range(inner) => Some(inner),
            Frame::Multirange(_) if step == 0 => None,
            Frame::Multirange(inner) => Some(inner),
        };
        let Some(shape) = value else {
            return self.advance();
        };
        match u64::try_from(word) {
            Ok(len) if len <= end - self.pos => match frame {
                Frame::Multirange(inner) => self.enter_frame(Frame::Range(inner), len),
                _ => self.enter(shape, len),
            },
            Err(_) if word == -1 => {}
            _ => return self.give_up(),
        }
        self.advance();
    }
}
