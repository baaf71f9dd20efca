use std::sync::Arc;

use super::{ExecError, Slots};

/// One sandbox that is counted as staying, for as long as this lives: first as one that waits for its slot, then as one of
/// the slot's generation.
pub(in super::super) struct Staying {
    slots: Arc<Slots>,
    /// Its slot's; `None` while it has none.
    generation: Option<u64>,
}

impl Staying {
    /// Counts one more, and sees that there is a slot for it.
    pub(super) fn begin(slots: &Arc<Slots>) -> Result<Self, ExecError> {
        let mut table = slots.table();
        table.check_open()?;
        table.staying += 1;
        if table.add_slots().is_err() {
            table.staying -= 1;
            return Err(ExecError::RunnerLost);
        }
        table.awaited += 1;
        Ok(Self { slots: Arc::clone(slots), generation: None })
    }

    /// It has its slot, of this generation.
    pub(super) fn has(&mut self, generation: u64) {
        let mut table = self.slots.table();
        self.generation = Some(generation);
        table.awaited -= 1;
        // Another runner took over when the slot was there already: it counted one too many.
        if table.generation != generation {
            table.staying -= 1;
        }
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        let mut table = self.slots.table();
        match self.generation {
            None => {
                table.awaited -= 1;
                table.staying -= 1;
            }
            Some(generation) if generation == table.generation => table.staying -= 1,
            Some(_) => {}
        }
    }
}
