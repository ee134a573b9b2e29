//! Random events in random pools. The rig checks every answer; here every job comes to its end, and everybody leaves.
//!
//! Each number of a program is the seed of one step, so that a failing program can be made shorter.

use proptest::prelude::{ProptestConfig, any, proptest};
use thistledown_testkit::Chance;
use thistledown_workers::policy::{ActorId, Config, JobId, JobSpec, WorkerId};

use crate::floor::{State, Worker};
use crate::rig::{MICROSECOND, MILLISECOND, Rig, SECOND};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_whatever_happens(pool in any::<u64>(), program in proptest::collection::vec(any::<u64>(), 0..200)) {
        let mut machine = Machine::new(pool);
        program.into_iter().for_each(|seed| machine.step(seed));
        machine.ends();
    }
}

#[test]
fn the_rules_hold_in_long_programs() {
    for pool in 0..20 {
        let mut chance = Chance::new(pool);
        let mut machine = Machine::new(pool);
        (0..1_500).for_each(|_| machine.step(chance.any()));
        machine.ends();
    }
}

struct Machine {
    rig: Rig,
    short: bool,
    several_priorities: bool,
}

impl Machine {
    fn new(pool: u64) -> Self {
        let mut chance = Chance::new(pool);
        let size = 1 + chance.below(4);
        let config = Config {
            max_workers: if chance.once_in(2) { size + chance.below(4) } else { 1_000 },
            grace: [0, MILLISECOND, SECOND][chance.below(3)],
            concurrency: 1 + chance.below(4),
            max_tasks_per_child: chance.once_in(3).then(|| 1 + chance.any() % 5),
            ..Config::of_size(size)
        };
        Self { rig: Rig::new(config), short: chance.once_in(2), several_priorities: chance.once_in(2) }
    }

    fn step(&mut self, seed: u64) {
        let mut chance = Chance::new(seed);
        match chance.below(100) {
            0..=19 => self.submit(None, &mut chance),
            20..=29 => self.call(&mut chance),
            30..=39 => self.hire(),
            40..=62 => self.begin(&mut chance),
            63..=82 => self.reply(&mut chance),
            83..=86 => self.cancel(&mut chance),
            87..=88 => self.die(&mut chance),
            89 => self.open(&mut chance),
            90..=91 => self.wait_or_resume(&mut chance),
            92..=94 => self.leave(),
            95 => self.fill_or_empty(&mut chance),
            96 => self.fail_start(&mut chance),
            97 => drop(self.rig.pass_until_due()),
            98 => self.rig.pass(chance.any() % (2 * SECOND)),
            _ => self.rig.pass(chance.any() % (3 * MILLISECOND)),
        }
        if chance.once_in(2_000) {
            self.finish(&mut chance);
        }
    }

    fn submit(&mut self, parent: Option<WorkerId>, chance: &mut Chance) {
        let fancy = chance.once_in(3);
        let spec = JobSpec {
            weightless: chance.once_in(4),
            priority: if self.several_priorities { [-1, 0, 1][chance.below(3)] } else { 0 },
            key: (fancy && chance.once_in(2)).then(|| chance.any() % 3),
            timeout: (fancy && chance.once_in(3)).then(|| chance.any() % (2 * MILLISECOND)),
            retries: [0, 1, 2][chance.below(3)],
            solo: fancy && chance.once_in(4),
            ..JobSpec::default()
        };
        // Refused when it is closed: that is checked elsewhere.
        let _ = self.rig.try_submit(parent, spec);
    }

    fn open(&mut self, chance: &mut Chance) {
        match self.some_actor(chance).filter(|_| chance.once_in(3)) {
            Some(actor) if chance.once_in(2) => drop(self.rig.stop(actor)),
            Some(actor) if chance.once_in(4) => {
                self.rig.tell(|policy, floor, now| policy.unmade(floor, actor, now));
            }
            Some(actor) => self.rig.kill_actor(actor),
            None => drop(self.rig.open(chance.once_in(2), 1 + chance.below(80))),
        }
    }

    fn call(&mut self, chance: &mut Chance) {
        let Some(actor) = self.some_actor(chance) else { return };
        let timeout = chance.once_in(4).then(|| chance.any() % (2 * MILLISECOND));
        let spec = JobSpec { actor: Some(actor), timeout, ..JobSpec::default() };
        // Refused when the actor takes no more, or has too many.
        let _ = self.rig.try_submit(None, spec);
    }

    fn some_actor(&self, chance: &mut Chance) -> Option<ActorId> {
        chance.pick(&self.rig.floor.actors.keys().copied().collect::<Vec<_>>())
    }

    fn hire(&mut self) {
        if !self.rig.starting.is_empty() {
            self.rig.hire();
        }
    }

    fn fail_start(&mut self, chance: &mut Chance) {
        if !self.rig.starting.is_empty() && chance.once_in(3) {
            self.rig.fail_start();
        }
    }

    fn some_worker(&self, chance: &mut Chance, fits: impl Fn(&Worker) -> bool) -> Option<WorkerId> {
        let workers = self.rig.floor.workers.iter().filter(|(_, worker)| fits(worker));
        chance.pick(&workers.map(|(&id, _)| id).collect::<Vec<_>>())
    }

    fn begin(&mut self, chance: &mut Chance) {
        if let Some(worker) = self.some_worker(chance, |worker| !worker.lane.is_empty()) {
            self.rig.begin(worker);
        }
    }

    fn reply(&mut self, chance: &mut Chance) {
        let begins = |worker: &Worker| !worker.begun.is_empty() && !worker.waiting;
        let Some(worker) = self.some_worker(chance, begins) else { return };
        let Some(job) = chance.pick(&self.rig.floor.workers[&worker].begun) else { return };
        let limit = if self.short { 20 * MICROSECOND } else { 2 * MILLISECOND };
        let _ = self.rig.reply_as(job, chance.any() % limit, chance.once_in(5));
    }

    fn cancel(&mut self, chance: &mut Chance) {
        let too_late = chance.once_in(8);
        let jobs = self.rig.floor.jobs.iter().filter(|(_, job)| (job.state == State::Ended) == too_late);
        if let Some(job) = chance.pick(&jobs.map(|(&id, _)| id).collect::<Vec<JobId>>()) {
            let _ = self.rig.cancel(job);
        }
    }

    fn die(&mut self, chance: &mut Chance) {
        if let Some(worker) = self.some_worker(chance, |_| true) {
            self.rig.die(worker);
        }
    }

    fn wait_or_resume(&mut self, chance: &mut Chance) {
        if chance.once_in(2)
            && let Some(worker) = self.some_worker(chance, |worker| worker.waiting)
        {
            return self.rig.resume(worker);
        }
        let runs =
            |worker: &Worker| !worker.host && !worker.begun.is_empty() && !worker.waiting && !worker.leaving;
        if let Some(worker) = self.some_worker(chance, runs) {
            self.rig.wait(worker);
            self.submit(Some(worker), chance);
        }
    }

    /// Everybody who was told to leave, or was killed, is gone.
    fn leave(&mut self) {
        while let Some(worker) = self.gone() {
            self.rig.die(worker);
        }
    }

    fn gone(&self) -> Option<WorkerId> {
        let mut workers = self.rig.floor.workers.iter();
        workers.find(|(_, worker)| worker.leaving || worker.killed).map(|(&id, _)| id)
    }

    fn fill_or_empty(&mut self, chance: &mut Chance) {
        let full = chance.once_in(2);
        if let Some(worker) = self.some_worker(chance, |worker| worker.ready) {
            self.rig.floor.worker(worker).full = full;
            // One that has nothing is asked again after a while.
            self.rig.pass(MILLISECOND);
        }
    }

    fn finish(&mut self, chance: &mut Chance) {
        match chance.below(4) {
            0 => self.rig.tell(|policy, floor, now| policy.close(floor, now)),
            1 => self.rig.tell(|policy, floor, now| policy.cancel_all(floor, now)),
            2 => self.rig.break_down(),
            _ => self.rig.kill_all(),
        }
    }

    /// Lets everything come to its end: each job ends, each worker leaves.
    fn ends(mut self) {
        self.rig.tell(|policy, floor, now| policy.close(floor, now));
        for worker in self.rig.floor.workers.values_mut() {
            worker.full = false;
        }
        // One that has nothing is asked again after a while.
        self.rig.pass(MILLISECOND);
        for _ in 0..100_000 {
            if self.rig.policy.workers() == 0 && self.rig.policy.is_idle() {
                break;
            }
            self.go_on();
        }
        assert_eq!(
            (self.rig.policy.jobs(), self.rig.policy.workers()),
            (0, 0),
            "it does not come to its end"
        );
        let ended = self.rig.floor.jobs.values().filter(|job| job.state == State::Ended).count();
        assert_eq!(ended, self.rig.ends.len());
        assert_eq!(self.rig.policy.next_deadline(), None, "something is due, and nothing is left");
    }

    fn go_on(&mut self) {
        self.leave();
        while !self.rig.starting.is_empty() {
            self.rig.hire();
        }
        let workers: Vec<WorkerId> = self.rig.floor.workers.keys().copied().collect();
        let mut moved = false;
        for worker in workers {
            if self.rig.floor.workers.get(&worker).is_some_and(|worker| worker.waiting) {
                self.rig.resume(worker);
                moved = true;
            }
            moved |= self.rig.begin(worker).is_some();
            let Some(books) = self.rig.floor.workers.get(&worker) else { continue };
            if let Some(&job) = books.begun.first() {
                let _ = self.rig.reply(job, MICROSECOND);
                moved = true;
            }
        }
        if !moved && !self.rig.pass_until_due() {
            self.leave();
        }
    }
}
