//! Machines and the ways between them.

use std::time::Duration;

use rand::Rng;

use super::super::Path;
use super::super::connection::Side;
use super::{Machine, MachineId, Way, World, machine_of};

impl World {
    pub(in crate::network::sim) fn add(&mut self, name: &str) -> MachineId {
        let machine = Machine {
            name: name.to_owned(),
            powered: true,
            next_port: 32_768,
        };
        self.machines.push(machine);
        self.machines.len() - 1
    }

    pub(super) fn find(&self, name: &str) -> Option<MachineId> {
        self.machines
            .iter()
            .position(|machine| machine.name == name)
    }

    pub(super) fn known(&self, name: &str) -> MachineId {
        self.find(name)
            .expect("a simulation names machines that it added")
    }

    pub(super) fn way(&mut self, from: MachineId, to: MachineId) -> &mut Way {
        self.ways.entry((from, to)).or_insert_with(|| Way {
            path: Path::default(),
            free_at: Duration::ZERO,
        })
    }

    pub(super) fn is_cut(&mut self, from: MachineId, to: MachineId) -> bool {
        !self.machines[to].powered || (from != to && self.way(from, to).path.cut)
    }

    pub(in crate::network::sim) fn path(&mut self, from: &str, to: &str) -> Path {
        let (from, to) = (self.known(from), self.known(to));
        self.way(from, to).path
    }

    pub(in crate::network::sim) fn set_path(&mut self, from: &str, to: &str, path: Path) {
        let (from, to) = (self.known(from), self.known(to));
        let before = std::mem::replace(&mut self.way(from, to).path, path);
        if !path.cut {
            self.tell_what_was_read(from, to);
        }
        if before.bytes_per_second.is_some() && before.bytes_per_second != path.bytes_per_second {
            self.requeue(from, to);
        }
    }

    /// What waited in front of a narrow way goes as quickly as the way is now, not when it would have
    /// been its turn.
    fn requeue(&mut self, from: MachineId, to: MachineId) {
        let now = self.now;
        self.way(from, to).free_at = now;
        let mut waiting = Vec::new();
        for (id, connection) in &mut self.connections {
            for side in [Side::Dialer, Side::Listener] {
                let goes = connection.end(side).machine == from
                    && connection.end(side.other()).machine == to;
                let pipe = &mut connection.end(side).out;
                if goes && pipe.on_the_way > 0 {
                    pipe.generation += 1;
                    pipe.on_the_way = 0;
                    pipe.pause = None;
                    pipe.last_arrival = now;
                    waiting.push((*id, side));
                }
            }
        }
        for (id, side) in waiting {
            self.send_queued(id, side);
        }
    }

    /// The way that `from` acknowledges on is open again: its peers learn what it has read.
    pub(super) fn tell_what_was_read(&mut self, from: MachineId, to: MachineId) {
        for connection in self.connections.values_mut() {
            for side in [Side::Dialer, Side::Listener] {
                let reader = connection.end(side.other()).machine;
                let end = connection.end(side);
                if reader == from && end.machine == to && end.out.untold > 0 {
                    end.out.unread -= end.out.untold.min(end.out.unread);
                    end.out.untold = 0;
                    self.wakers.extend(end.writer.take());
                }
            }
        }
    }

    pub(in crate::network::sim) fn power(&mut self, name: &str, on: bool) {
        let id = self.known(name);
        self.machines[id].powered = on;
        self.note(id as u64 * 2 + u64::from(on));
        if on {
            return;
        }
        self.listeners
            .retain(|address, _| machine_of(*address) != id);
        for connection in self.connections.values_mut() {
            for end in &mut connection.ends {
                if end.machine == id {
                    end.gone = true;
                    end.break_off(&mut self.wakers);
                }
            }
        }
    }

    pub(in crate::network::sim) fn reset_between(
        &mut self,
        from: &str,
        to: &str,
        one_sided: bool,
    ) -> usize {
        let (from, to) = (self.known(from), self.known(to));
        let mut count = 0;
        for connection in self.connections.values_mut() {
            let [a, b] = [connection.ends[0].machine, connection.ends[1].machine];
            if (a, b) != (from, to) && (a, b) != (to, from) {
                continue;
            }
            count += 1;
            for end in &mut connection.ends {
                if end.machine == from || !one_sided {
                    end.break_off(&mut self.wakers);
                }
            }
        }
        count
    }

    /// When something of this size that leaves now arrives; none if it is lost.
    pub(super) fn travel(
        &mut self,
        from: MachineId,
        to: MachineId,
        bytes: usize,
    ) -> Option<Duration> {
        if self.is_cut(from, to) {
            return None;
        }
        let now = self.now;
        if from == to {
            return Some(now + Duration::from_micros(20));
        }
        let way = self.way(from, to);
        let path = way.path;
        let mut leaves = now;
        if let Some(rate) = path.bytes_per_second {
            let takes = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
            leaves = way.free_at.max(now) + takes;
            way.free_at = leaves;
        }
        if path.loss > 0.0 && self.rng.random_bool(path.loss) {
            return None;
        }
        let jitter = u64::try_from(path.jitter.as_micros()).unwrap_or(u64::MAX);
        let jitter = Duration::from_micros(self.rng.random_range(0..=jitter));
        Some(leaves + path.delay + jitter)
    }
}
