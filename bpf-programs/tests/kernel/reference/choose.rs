//! Section 3: which backend, and what becomes of the records.

use std::collections::BTreeMap;

use netd_bpf::abi::{ACTIVE, IN_USE, TERMINATING};

use super::packet::FlowFlags;
use super::{FlowId, Record, Service};

pub type Records = BTreeMap<FlowId, Record>;

pub struct Question<'a> {
    pub service: &'a Service,
    pub flow: FlowId,
    pub hash: u32,
    pub flags: FlowFlags,
    pub now_ns: u64,
    /// The frame that the program sent: shows its choice where it is free to choose.
    pub told: &'a [u8],
}

pub struct Choice {
    /// The backend's place in the block; it may be beyond it.
    pub index: Option<u32>,
    /// How many records were made or replaced.
    pub written: u32,
}

/// Times are written at most once a second.
const REFRESH_NS: u64 = 1_000_000_000;

pub fn choose(question: &Question<'_>, records: &mut Records) -> Choice {
    match question.service.affinity {
        Some(timeout) => question.with_affinity(u64::from(timeout) * 1_000_000_000, records),
        None => question.without_affinity(records),
    }
}

impl Question<'_> {
    fn without_affinity(&self, records: &mut Records) -> Choice {
        let looks = self.service.random || self.service.records_anywhere || self.slot_changed();
        if !looks {
            return Choice { index: self.current(), written: 0 };
        }
        let record = records.get(&self.flow).copied();
        if let Some(index) = record.and_then(|record| self.decides(record)) {
            self.refresh(&self.flow, records);
            return Choice { index: Some(index), written: 0 };
        }
        let index = self.anew();
        let window = self.service.window_open && self.slot_changed();
        let worth_it = self.service.random || window || record.is_some();
        let written = worth_it && self.write(self.flow, index, records);
        Choice { index, written: u32::from(written) }
    }

    fn with_affinity(&self, timeout_ns: u64, records: &mut Records) -> Choice {
        let client = FlowId { client_port: 0, ..self.flow };
        let reads_own = self.service.random || self.service.previous.is_some();
        let own = records.get(&self.flow).copied().filter(|_| reads_own);
        let counts = |record: &Record| {
            self.now_ns.saturating_sub(record.seen_ns) < timeout_ns
                && self.keeps(record.index, Some(record.counter))
        };
        let of_client = records.get(&client).copied().filter(counts);
        if let Some(index) = own.and_then(|own| self.decides(own)) {
            self.refresh(&self.flow, records);
            let written = of_client.is_none() && self.write(client, Some(index), records);
            return Choice { index: Some(index), written: u32::from(written) };
        }
        let (index, leaves, mut written) = match of_client {
            None => {
                let index = self.anew();
                (index, false, u32::from(self.write(client, index, records)))
            }
            Some(record) => match self.decides(record) {
                Some(index) => {
                    self.refresh(&client, records);
                    (Some(index), false, 0)
                }
                None => (self.current(), true, 0),
            },
        };
        if leaves || own.is_some() {
            written += u32::from(self.write(self.flow, index, records));
        }
        Choice { index, written }
    }

    /// Without a record: at random, by the window, or by the current ring.
    fn anew(&self) -> Option<u32> {
        if self.service.random && self.flags.starts {
            return self.told_at_random();
        }
        let previous = self.previous().filter(|index| self.keeps(*index, None));
        let stays = self.service.window_open && self.slot_changed() && !self.flags.syn;
        previous.filter(|_| stays).or_else(|| self.current())
    }

    /// The backend that the program took, if the ring has it; else one that the ring has.
    fn told_at_random(&self) -> Option<u32> {
        let goes_to = |index: &&u16| {
            let backend = self.service.backends.get(usize::from(**index));
            backend.is_some_and(|backend| super::encapsulate::goes_to(self.told, backend))
        };
        let taken = self.service.slots.iter().find(goes_to).or(self.service.slots.first());
        taken.map(|index| u32::from(*index))
    }

    fn current(&self) -> Option<u32> {
        self.slot(&self.service.slots)
    }

    fn previous(&self) -> Option<u32> {
        self.slot(self.service.previous.as_deref().unwrap_or_default())
    }

    fn slot(&self, slots: &[u16]) -> Option<u32> {
        let slot = self.hash.checked_rem(slots.len() as u32)?;
        Some(u32::from(slots[slot as usize]))
    }

    fn slot_changed(&self) -> bool {
        self.previous().is_some_and(|previous| self.current() != Some(previous))
    }

    /// The backend of a record that decides.
    fn decides(&self, record: Record) -> Option<u32> {
        let keeps = self.keeps(record.index, Some(record.counter));
        let active = || self.service.backends[record.index as usize].state == ACTIVE;
        (keeps && (!self.flags.syn || active())).then_some(record.index)
    }

    fn keeps(&self, index: u32, counter: Option<u32>) -> bool {
        self.service.backends.get(index as usize).is_some_and(|backend| {
            backend.flags & IN_USE != 0
                && backend.state <= TERMINATING
                && counter.is_none_or(|counter| backend.counter == counter)
        })
    }

    fn write(&self, id: FlowId, index: Option<u32>, records: &mut Records) -> bool {
        let backend = index.and_then(|index| self.service.backends.get(index as usize));
        match (backend, index) {
            (Some(backend), Some(index)) if self.flags.records => {
                records.insert(id, Record { counter: backend.counter, index, seen_ns: self.now_ns });
                true
            }
            _ => false,
        }
    }

    fn refresh(&self, id: &FlowId, records: &mut Records) {
        if let Some(record) = records.get_mut(id)
            && self.flags.refreshes
            && self.now_ns.saturating_sub(record.seen_ns) >= REFRESH_NS
        {
            record.seen_ns = self.now_ns;
        }
    }
}
