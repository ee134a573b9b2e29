//! Workers' lives: how they start, what the zygote says of them, and what becomes of what they leave.

use std::io;
use std::io::ErrorKind::{NotFound, PermissionDenied};

use super::Hall;
use crate::bell::Bell;
use crate::outcome::Refusal;
use crate::policy::WorkerId;
use crate::worker::Worker;
use crate::zygote::{News, Zygote};

impl<C> Hall<C> {
    /// Forks the workers that are wanted.
    pub(crate) fn start_workers(&mut self, bell: &Bell, now: u64) {
        for id in std::mem::take(&mut self.starts) {
            let Err(error) = self.start_worker(id, bell) else { continue };
            let launch = self.launch.as_ref().filter(|_| self.zygote.is_none());
            let program = launch.and_then(|launch| launch.command.first());
            let what = program.map_or_else(|| "a worker".to_owned(), |program| program.display().to_string());
            let words = format!("{what} does not start: {error}");
            self.failed_start = Refusal::Start(words.clone());
            self.policy.start_failed(&mut self.desk, id, now);
            self.act();
            if self.zygote.is_none() && matches!(error.kind(), NotFound | PermissionDenied) {
                // What the system is short of it will have again; a program that is not there will not come.
                self.refuse(&words, now);
            }
        }
    }

    fn start_worker(&mut self, id: WorkerId, bell: &Bell) -> io::Result<()> {
        let zygote = self.launched()?;
        let (worker, estate) = Worker::new()?;
        zygote.fork(id.number(), &worker.descriptors(&estate, bell))?;
        self.desk.workers.insert(id, worker);
        Ok(())
    }

    /// The zygote; launches it if there is none.
    pub(crate) fn launched(&mut self) -> io::Result<&Zygote> {
        Ok(match self.zygote {
            Some(ref zygote) => zygote,
            None => {
                let launch = self.launch.as_ref().ok_or_else(|| io::Error::other("nothing to launch"))?;
                self.zygote.insert(Zygote::launch(launch)?)
            }
        })
    }

    /// Hears what the zygote says.
    pub(crate) fn hear_zygote(&mut self, now: u64) {
        while let Some(zygote) = &self.zygote {
            let news = match zygote.hear() {
                Ok(None) => return,
                Ok(Some(news)) => news,
                Err(_) => News::Gone,
            };
            match news {
                News::Born(number, pid, process) => {
                    let id = WorkerId::from_number(number);
                    if let Some(worker) = self.desk.workers.get_mut(id) {
                        worker.process.born(pid, process);
                        if worker.is_ready {
                            self.policy.ready(&mut self.desk, id, now);
                        }
                    }
                }
                News::Unborn(number, words) => {
                    self.failed_start = Refusal::Start(format!("a worker does not start: {words}"));
                    self.bury(WorkerId::from_number(number), None, now);
                }
                News::Died(number, status) => self.bury(WorkerId::from_number(number), Some(status), now),
                News::Broken(words) => self.refuse(&words, now),
                News::Gone => self.zygote_gone(now),
            }
            self.act();
        }
    }

    /// The zygote is gone: a new one makes the next workers. Those that it had finish what they do; how they end then, is
    /// said by nobody.
    fn zygote_gone(&mut self, now: u64) {
        drop(self.zygote.take());
        for worker in self.desk.workers.values_mut() {
            worker.is_orphan = true;
        }
        let gone = |worker: &Worker| worker.process.pid().is_none() || worker.hung_up.is_some();
        let gone: Vec<WorkerId> =
            self.desk.workers.iter().filter(|(_, worker)| gone(worker)).map(|(id, _)| id).collect();
        gone.into_iter().for_each(|worker| self.bury(worker, None, now));
    }

    /// A worker has ended: first what it said before, then what it left.
    pub(crate) fn bury(&mut self, id: WorkerId, status: Option<i32>, now: u64) {
        if !self.desk.workers.contains_key(id) {
            return;
        }
        self.hear_worker(id, now);
        if let Some(worker) = self.desk.workers.get_mut(id) {
            // Its last words. Whatever has inherited its standard error may go on for ever.
            (0..4).take_while(|_| !worker.stderr.read(&mut self.stderr)).for_each(drop);
            worker.status = status;
            if !worker.is_ready && status.is_some() {
                self.failed_start = Refusal::Stillborn(worker.death());
            }
        }
        self.policy.died(&mut self.desk, id, now);
        self.act();
        self.write_obituary(id);
        self.desk.orphan_started_by(id);
        self.desk.remove_worker(id);
        self.end_tied(id, now);
    }
}
