//! What has to have a write before it counts: so many replicas, and where the operator asks for it the disks.
//!
//! WAIT counts the replicas that have a write in memory. WAITAOF, of Redis 7.2 and Valkey, counts those that have it on
//! disk, and says whether the primary has. A server that lacks it, or keeps no append-only file, acknowledges nothing
//! where disks are asked for: what was required is never weakened in silence.

use std::time::Duration;

use redis::{Pipeline, Value};

use super::scripts::number;
use super::settings::RedisSettings;
use crate::words::clock::millis;

/// What a write has to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Durability {
    replicas: u32,
    fsync: bool,
    wait: Duration,
}

impl Durability {
    pub(super) fn new(settings: &RedisSettings) -> Self {
        let RedisSettings { replicas_required: replicas, fsync_required: fsync, replica_wait: wait, .. } = *settings;
        Self { replicas, fsync, wait }
    }

    /// Whether anything is waited for.
    pub(super) fn waits(self) -> bool {
        self.replicas > 0 || self.fsync
    }

    /// How many have to acknowledge; the primary's own disk is one of them where disks count.
    pub(super) fn required(self) -> u32 {
        self.replicas + u32::from(self.fsync)
    }

    /// Puts the wait behind a write, on the same connection. `false`: this server cannot do what is asked.
    pub(super) fn wait(self, commands: &mut Pipeline, has_waitaof: bool) -> bool {
        match (self.fsync, has_waitaof) {
            (false, _) => commands.cmd("WAIT").arg(self.replicas).arg(millis(self.wait)),
            (true, true) => commands.cmd("WAITAOF").arg(1).arg(self.replicas).arg(millis(self.wait)),
            (true, false) => return false,
        };
        true
    }

    /// How many acknowledged, from the reply to the wait.
    pub(super) fn acknowledged(self, reply: &Value) -> u32 {
        let count = |value: &Value| number(value).map_or(0, |number| u32::try_from(number).unwrap_or(u32::MAX));
        match (self.fsync, reply) {
            (false, reply) => count(reply),
            (true, Value::Array(counts)) => match counts.as_slice() {
                // Without the primary's disk those of the replicas do not make up for it.
                [local, replicas] if count(local) > 0 => count(replicas).saturating_add(1),
                _ => 0,
            },
            (true, _) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Durability = Durability { replicas: 2, fsync: true, wait: Duration::from_millis(250) };

    fn sent(durability: Durability, has_waitaof: bool) -> Option<String> {
        let mut commands = redis::pipe();
        let packed = |commands: &Pipeline| String::from_utf8(commands.get_packed_pipeline()).unwrap_or_default();
        durability.wait(&mut commands, has_waitaof).then(|| packed(&commands))
    }

    #[test]
    fn disks_are_waited_for_where_they_are_asked_for() {
        let memory = Durability { fsync: false, ..BOTH };
        for has_waitaof in [true, false] {
            let wait = "*3\r\n$4\r\nWAIT\r\n$1\r\n2\r\n$3\r\n250\r\n";
            assert_eq!(sent(memory, has_waitaof).as_deref(), Some(wait));
        }
        let waitaof = "*4\r\n$7\r\nWAITAOF\r\n$1\r\n1\r\n$1\r\n2\r\n$3\r\n250\r\n";
        assert_eq!(sent(BOTH, true).as_deref(), Some(waitaof));
        assert_eq!(sent(BOTH, false), None, "WAIT is not what was asked for");
    }

    #[test]
    fn what_is_required_is_counted_with_the_primarys_disk() {
        let disks = |local, replicas| Value::Array(vec![Value::Int(local), Value::Int(replicas)]);
        assert_eq!(BOTH.required(), 3);
        assert_eq!(BOTH.acknowledged(&disks(1, 2)), 3);
        assert_eq!(BOTH.acknowledged(&disks(1, 1)), 2);
        assert_eq!(BOTH.acknowledged(&disks(0, 5)), 0);
        assert_eq!(BOTH.acknowledged(&Value::Int(5)), 0, "not an answer to WAITAOF");
        let memory = Durability { fsync: false, ..BOTH };
        assert_eq!((memory.required(), memory.acknowledged(&Value::Int(2))), (2, 2));
        assert_eq!(memory.acknowledged(&Value::Nil), 0);
        assert!(!Durability { replicas: 0, fsync: false, ..BOTH }.waits());
        assert!(Durability { replicas: 0, fsync: true, ..BOTH }.waits());
    }
}
