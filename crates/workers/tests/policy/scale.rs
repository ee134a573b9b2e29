//! Many jobs. Nothing here is timed: with work that grows by the square, the time limit of a test would be passed.

use thistledown_workers::policy::{Cancel, Config, Floor, JobId, JobSpec, Nanos, Policy, WorkerId};

const MANY: usize = 100_000;

/// Has no workers.
struct Empty;

impl Floor for Empty {
    fn offer(&mut self, _: WorkerId, _: JobId) -> bool {
        false
    }

    fn take_back(&mut self, _: WorkerId, _: JobId) -> bool {
        false
    }

    fn busy_since(&self, _: WorkerId) -> Option<Nanos> {
        None
    }
}

fn submit_many(policy: &mut Policy, spec: impl Fn(usize) -> JobSpec) -> Vec<JobId> {
    (0..MANY).map(|number| policy.submit(&mut Empty, spec(number), 0).expect("the door is open")).collect()
}

fn spread(number: usize) -> i32 {
    i32::try_from(number * 7_919 % MANY).expect("it is below many")
}

#[test]
fn many_jobs_are_cancelled_wherever_they_stand() {
    let plain = |_| JobSpec::default();
    let of_one_key = |_| JobSpec { key: Some(1), ..JobSpec::default() };
    let of_many_priorities = |number| JobSpec { priority: spread(number), ..JobSpec::default() };
    let specs: [&dyn Fn(usize) -> JobSpec; 3] = [&plain, &of_one_key, &of_many_priorities];
    for spec in specs {
        for backwards in [false, true] {
            let mut policy = Policy::new(Config::of_size(4));
            let mut jobs = submit_many(&mut policy, spec);
            if backwards {
                jobs.reverse();
            }
            for job in jobs {
                assert_eq!(policy.cancel(&mut Empty, job, 0), Cancel::Removed);
            }
            assert!(policy.is_idle());
        }
    }
}

#[test]
fn many_jobs_are_cancelled_together() {
    let mut policy = Policy::new(Config::of_size(4));
    submit_many(&mut policy, |number| JobSpec {
        key: (number % 2 == 0).then_some(1),
        weightless: number % 3 == 0,
        ..JobSpec::default()
    });
    policy.cancel_all(&mut Empty, 0);
    let mut actions = Vec::new();
    policy.take_actions(&mut actions);
    assert_eq!(actions.len(), 4 + MANY, "four starts, and the ends");
    assert!(policy.is_idle());
}
