//! Cores of the target's server, and how index builds share them: each session is at work on one, and parallel workers take
//! more.

use crate::pg::{Connection, Error};

use super::cost;
use super::schedule::{Schedule, Taken};

/// What the server's parallel workers may take.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    /// The sessions take all cores that there are, so that a worker beside them only keeps another from its own.
    taken: bool,
}

impl Cores {
    /// Looks whether so many sessions take all cores. How many there are is known where the server is on this machine;
    /// elsewhere the server's settings hold.
    pub fn look(conn: &mut Connection, sessions: usize) -> Result<Self, Error> {
        let here = conn.query(
            "SELECT coalesce(pg_catalog.inet_server_addr() = pg_catalog.inet_client_addr(), true)",
        )?;
        let here = here.first().map(|row| row.get_bool(0)).transpose()?;
        let cores = std::thread::available_parallelism().map_or(usize::MAX, usize::from);
        Ok(Self {
            taken: here == Some(true) && sessions >= cores,
        })
    }

    /// Prepares a session.
    pub fn begin(self, conn: &mut Connection) {
        if self.taken {
            // With workers a build is the same, and takes as much of the server altogether.
            let _ = conn.execute("SET max_parallel_maintenance_workers = 0");
        }
    }

    /// Lets a long build that is all that is left to do have the cores of the sessions that will be idle. Gives back how
    /// many these are.
    pub fn lend(self, conn: &mut Connection, schedule: &Schedule, taken: &Taken) -> usize {
        let cores = match taken.tasks[..] {
            [n] if schedule.task(n).kind.is_index() && schedule.task(n).cost > cost::LONG_BUILD => {
                taken.spare
            }
            _ => 0,
        };
        if cores > 0 {
            // Without them the build takes longer, and is the same.
            let _ = conn.execute(&with(cores));
        }
        cores
    }

    /// Takes back what was lent.
    pub fn take_back(self, conn: &mut Connection, cores: usize) {
        if cores > 0 {
            let _ =
                conn.execute("RESET max_parallel_maintenance_workers; RESET maintenance_work_mem");
            self.begin(conn);
        }
    }
}

/// A statement that lets the session's index builds take so many more cores, and the 32 MB without which the server gives a
/// core nothing to do. What is set higher stays so. The server has the last word on both, with `max_parallel_workers` and
/// by the size of the table; memory is that of sessions that have nothing to build.
fn with(cores: usize) -> String {
    let kilobytes = (cores + 1) * (32 << 10);
    format!(
        "SELECT pg_catalog.set_config('max_parallel_maintenance_workers', GREATEST(pg_catalog.current_setting('max_parallel_maintenance_workers')::int4, {cores})::text, false),
           pg_catalog.set_config('maintenance_work_mem', GREATEST(pg_catalog.pg_size_bytes(pg_catalog.current_setting('maintenance_work_mem')) / 1024, {kilobytes}) || 'kB', false)"
    )
}
