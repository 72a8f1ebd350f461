//! The content of one simulated file: pages shared between copies until written.
//!
//! Invariant: bytes at or beyond `len` read as nothing; bytes between an old end and a later write read as zeros.

use std::sync::Arc;

const PAGE: usize = 4096;
const ZEROS: [u8; PAGE] = [0; PAGE];

#[derive(Clone, Debug, Default)]
pub struct Content {
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
    len: u64,
}

fn page_of(at: u64) -> (usize, usize) {
    let page = usize::try_from(at / PAGE as u64).expect("simulated files are small");
    (page, usize::try_from(at % PAGE as u64).expect("below a page"))
}

impl Content {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn write(&mut self, at: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let (page, into) = page_of(at + done as u64);
            let count = (PAGE - into).min(data.len() - done);
            if self.pages.len() <= page {
                self.pages.resize(page + 1, None);
            }
            // An absent page reads as zeros: files that are made of zeros cost nothing.
            if self.pages[page].is_none() && data[done..done + count] == ZEROS[..count] {
                done += count;
                continue;
            }
            let piece = &data[done..done + count];
            done += count;
            let slot = &mut self.pages[page];
            let is_own = slot.as_mut().is_some_and(|page| Arc::get_mut(page).is_some());
            match <&[u8; PAGE]>::try_from(piece) {
                // What is replaced as a whole need not be copied first.
                Ok(whole) if !is_own => *slot = Some(Arc::new(*whole)),
                _ => {
                    let page = Arc::make_mut(slot.get_or_insert_with(|| Arc::new(ZEROS)));
                    page[into..into + count].copy_from_slice(piece);
                }
            }
        }
        self.len = self.len.max(at + data.len() as u64);
    }

    /// What `from` has there, without copying whole pages. To be used where both are the same before and behind that range.
    pub fn adopt(&mut self, from: &Content, at: u64, length: usize) {
        let (first, _) = page_of(at);
        let (last, into) = page_of(at + length as u64);
        let end = last + usize::from(into > 0);
        if self.pages.len() < end.min(from.pages.len()) {
            self.pages.resize(end.min(from.pages.len()), None);
        }
        for page in first..end.min(from.pages.len()) {
            self.pages[page].clone_from(&from.pages[page]);
        }
        self.len = self.len.max(at + length as u64);
    }

    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (page, into) = page_of(len);
            self.pages.truncate(page + usize::from(into > 0));
            if into > 0
                && let Some(Some(last)) = self.pages.get_mut(page)
            {
                Arc::make_mut(last)[into..].fill(0);
            }
        }
        self.len = len;
    }

    pub fn read(&self, at: u64, into: &mut [u8]) -> usize {
        let count = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        let mut done = 0;
        while done < count {
            let (page, offset) = page_of(at + done as u64);
            let step = (PAGE - offset).min(count - done);
            match self.pages.get(page) {
                Some(Some(bytes)) => into[done..done + step].copy_from_slice(&bytes[offset..offset + step]),
                _ => into[done..done + step].fill(0),
            }
            done += step;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinking_and_growing_again_reads_zeros() {
        let mut content = Content::default();
        content.write(10, &[7; 5000]);
        content.set_len(100);
        content.set_len(6000);
        let mut got = vec![1; 7000];
        assert_eq!(content.read(0, &mut got), 6000);
        assert!(got[100..6000].iter().all(|byte| *byte == 0));
        assert!(got[10..100].iter().all(|byte| *byte == 7));
    }
}
