//! Actors: where they live, in which order their calls go, and how all of it ends.

use thistledown_workers::policy::{
    Action, ActorPhase, Config, Deadlock, Ending, JobSpec, MAX_FAILED_STARTS, Refused, Verdict,
};

use crate::rig::{End, MILLISECOND, Rig, SECOND};

#[test]
fn one_of_its_own_has_a_worker_beside_the_slots() {
    let (mut rig, workers) = Rig::with_workers(Config::of_size(1));
    let plain = rig.plain();
    assert_eq!(rig.begin(workers[0]), Some(plain));
    let (actor, host) = rig.actor(true);
    assert!(!workers.contains(&host));
    let call = rig.call(actor);
    assert_eq!(rig.place_of(call), host, "also while all that run jobs are busy");
    rig.plain();
    assert_eq!(rig.take_offers().last().map(|&(worker, _)| worker), Some(host), "it runs nothing else");
}

#[test]
fn shared_workers_are_as_many_as_the_size_says_and_take_the_next_in_turn() {
    let mut rig = Rig::new(Config::of_size(2));
    let hosts: Vec<_> = (0..5)
        .map(|_| {
            let actor = rig.open(false, 10).expect("the door is open");
            if let Some(&worker) = rig.starting.front() {
                assert_eq!(rig.hire(), worker);
            }
            rig.policy.host(actor).expect("it lives somewhere")
        })
        .collect();
    assert_ne!(hosts[0], hosts[1]);
    let counts = [hosts[0], hosts[1]].map(|host| hosts.iter().filter(|other| **other == host).count());
    assert_eq!((counts[0] + counts[1], counts[0].abs_diff(counts[1])), (5, 1));
}

#[test]
fn calls_are_laid_ahead_in_their_order_but_one_with_a_time_is_alone() {
    let mut rig = Rig::new(Config::of_size(1));
    let (actor, host) = rig.actor(true);
    let first = rig.call(actor);
    let timed = JobSpec { actor: Some(actor), timeout: Some(SECOND), ..JobSpec::default() };
    let (timed, last) = (rig.submit(timed), rig.call(actor));
    assert_eq!([first, timed, last].map(|call| rig.worker_of(call)), [Some(host), None, None]);
    assert_eq!(rig.begin(host), Some(first));
    assert_eq!(rig.reply(first, 0), Verdict::Final);
    assert_eq!([timed, last].map(|call| rig.worker_of(call)), [Some(host), None]);
    assert_eq!(rig.begin(host), Some(timed));
    rig.pass(SECOND);
    assert_eq!(rig.actions, [Action::Interrupt(host, timed)]);
    assert_eq!(rig.reply(timed, 0), Verdict::Overruled(Ending::TimedOut));
    assert_eq!(rig.worker_of(last), Some(host));
}

#[test]
fn the_time_of_a_call_does_not_begin_before_it_does() {
    let mut rig = Rig::new(Config::of_size(1));
    let (one, host) = rig.actor(false);
    let (other, same) = rig.actor(false);
    assert_eq!(host, same);
    let long = rig.call(one);
    assert_eq!(rig.begin(host), Some(long));
    let timed = rig.submit(JobSpec { actor: Some(other), timeout: Some(SECOND), ..JobSpec::default() });
    assert_eq!(rig.place_of(timed), host);
    rig.pass(SECOND);
    assert_eq!((rig.end(timed), rig.worker_of(timed)), (None, Some(host)), "it lies there once more");
}

#[test]
fn a_mailbox_has_a_limit_which_the_first_call_and_the_stop_do_not_count_for() {
    let mut rig = Rig::new(Config::of_size(1));
    let actor = rig.open(true, 2).expect("the door is open");
    // What makes it.
    rig.call(actor);
    rig.call(actor);
    rig.call(actor);
    let call = JobSpec { actor: Some(actor), ..JobSpec::default() };
    assert_eq!(rig.try_submit(None, call), Err(Refused::Full));
    let stop = rig.stop(actor).expect("there is always room for the end");
    assert_eq!(rig.try_submit(None, call), Err(Refused::Over));
    assert!(rig.stop(actor).is_ok(), "twice is once");
    assert_eq!(rig.end(stop), None);
}

#[test]
fn a_stop_drains_and_then_the_worker_goes() {
    let mut rig = Rig::new(Config::of_size(1));
    let (actor, host) = rig.actor(true);
    let call = rig.call(actor);
    let stop = rig.stop(actor).expect("it is open");
    for job in [call, stop] {
        assert_eq!(rig.begin(host), Some(job));
        assert!(rig.overs.is_empty());
        assert_eq!(rig.reply(job, 0), Verdict::Final);
    }
    assert_eq!(rig.overs.get(&actor), Some(&Ending::Stopped));
    assert_eq!(rig.actions, [Action::Retire(host)]);
}

#[test]
fn all_calls_end_with_the_worker_at_once() {
    let mut rig = Rig::new(Config::of_size(1));
    let (actor, host) = rig.actor(true);
    let calls: Vec<_> = (0..100).map(|_| rig.call(actor)).collect();
    assert_eq!(rig.begin(host), Some(calls[0]));
    rig.die(host);
    let died = End::Otherwise(Ending::Died(host));
    assert!(calls.iter().all(|call| rig.end(*call) == Some(died)));
    assert_eq!(rig.overs.get(&actor), Some(&Ending::Died(host)));
    let call = JobSpec { actor: Some(actor), ..JobSpec::default() };
    assert_eq!(rig.try_submit(None, call), Err(Refused::Over));
}

#[test]
fn a_worker_that_never_was_ready_takes_no_actor_with_it() {
    let mut rig = Rig::new(Config::of_size(1));
    let actor = rig.open(true, 10).expect("the door is open");
    let make = rig.call(actor);
    rig.fail_start();
    assert!(rig.pass_until_due(), "it is tried again");
    let host = rig.hire();
    assert_eq!(rig.begin(host), Some(make));
}

#[test]
fn after_so_many_failures_it_ends() {
    let mut rig = Rig::new(Config::of_size(1));
    let actor = rig.open(true, 10).expect("the door is open");
    let make = rig.call(actor);
    for _ in 0..MAX_FAILED_STARTS {
        let host = rig.starting[0];
        rig.die(host);
        rig.pass_until_due();
    }
    assert_eq!(rig.end(make), Some(End::Otherwise(Ending::NoWorkers)));
    assert_eq!(rig.overs.get(&actor), Some(&Ending::NoWorkers));
}

#[test]
fn one_that_is_killed_takes_its_own_worker_with_it() {
    let mut rig = Rig::new(Config::of_size(1));
    let (actor, host) = rig.actor(true);
    let call = rig.call(actor);
    rig.kill_actor(actor);
    assert_eq!((&rig.actions[..], rig.end(call)), (&[Action::Kill(host)][..], None));
    rig.die(host);
    assert_eq!(rig.end(call), Some(End::Otherwise(Ending::Died(host))));
}

#[test]
fn one_that_is_killed_among_others_goes_alone() {
    let mut rig = Rig::new(Config { grace: MILLISECOND, ..Config::of_size(1) });
    let (actor, host) = rig.actor(false);
    let (other, _) = rig.actor(false);
    let (begun, queued, kept) = (rig.call(actor), rig.call(actor), rig.call(other));
    assert_eq!(rig.begin(host), Some(begun));
    rig.kill_actor(actor);
    assert_eq!(rig.actions, [Action::Discard(host, actor), Action::Interrupt(host, begun)]);
    assert_eq!(rig.end(queued), Some(End::Otherwise(Ending::Killed)));
    assert_eq!(rig.reply(begun, 0), Verdict::Overruled(Ending::Killed));
    assert_eq!(rig.overs.get(&actor), Some(&Ending::Killed));
    assert_eq!(rig.begin(host), Some(kept));
}

#[test]
fn one_that_does_not_stop_when_it_is_killed_takes_the_others_with_it() {
    let mut rig = Rig::new(Config { grace: MILLISECOND, ..Config::of_size(1) });
    let (actor, host) = rig.actor(false);
    let (other, _) = rig.actor(false);
    let begun = rig.call(actor);
    assert_eq!(rig.begin(host), Some(begun));
    rig.kill_actor(actor);
    rig.pass(MILLISECOND);
    assert_eq!(rig.actions, [Action::Kill(host)]);
    rig.die(host);
    assert_eq!(rig.overs.get(&other), Some(&Ending::Died(host)));
}

#[test]
fn what_could_not_be_made_has_no_calls() {
    let mut rig = Rig::new(Config::of_size(1));
    let actor = rig.open(true, 10).expect("the door is open");
    let (make, call) = (rig.call(actor), rig.call(actor));
    let host = rig.hire();
    assert_eq!(rig.begin(host), Some(make));
    assert_eq!(rig.reply(make, 0), Verdict::Final);
    rig.tell(|policy, floor, now| policy.unmade(floor, actor, now));
    assert_eq!(rig.end(call), Some(End::Otherwise(Ending::Unmade)));
    assert_eq!(rig.actions, [Action::Retire(host)]);
}

#[test]
fn idle_ones_keep_nothing_from_its_end() {
    let mut rig = Rig::new(Config::of_size(1));
    let (actor, host) = rig.actor(true);
    let call = rig.call(actor);
    rig.tell(|policy, floor, now| policy.close(floor, now));
    assert!(rig.overs.is_empty(), "what was asked before is answered");
    assert_eq!(rig.begin(host), Some(call));
    assert_eq!(rig.reply(call, 0), Verdict::Final);
    assert_eq!(rig.overs.get(&actor), Some(&Ending::Closed));
    assert_eq!(rig.actions, [Action::Retire(host)]);
}

#[test]
fn one_that_stands_still_is_asked_nothing_until_it_goes_on_or_another_is() {
    let mut rig = Rig::new(Config::of_size(1));
    let (from, host) = rig.actor(true);
    let give = rig.submit(JobSpec { actor: Some(from), halts: true, ..JobSpec::default() });
    let calls = [rig.call(from), rig.call(from)];
    assert_eq!(rig.begin(host), Some(give));
    assert_eq!(rig.reply(give, 0), Verdict::Final);
    assert_eq!(calls.map(|call| rig.worker_of(call)), [None; 2]);
    let (to, home) = rig.actor(true);
    let before = rig.call(to);
    for call in calls {
        rig.floor.job(call).spec.actor = Some(to);
        rig.floor.job(call).number += 1_000;
    }
    let handed = rig.policy.hand_over(&mut rig.floor, from, to, rig.now);
    assert_eq!(handed, calls);
    assert_eq!(calls.map(|call| rig.worker_of(call)), [Some(home); 2]);
    let order: Vec<_> = rig.take_offers().into_iter().map(|(_, job)| job).collect();
    assert_eq!(order[order.len() - 3..], [before, calls[0], calls[1]]);
}

#[test]
fn a_call_that_waits_for_its_own_actor_never_ends() {
    let mut rig = Rig::new(Config::of_size(1));
    let (actor, host) = rig.actor(true);
    let outer = rig.call(actor);
    assert_eq!(rig.begin(host), Some(outer));
    let inner = rig.call(actor);
    let cycle = Deadlock::Cycle(vec![outer, inner]);
    assert_eq!(rig.policy.blocked(host, outer, inner, false), Err(cycle));
    assert_eq!(rig.worker_of(inner), Some(host), "it was laid ahead");
    assert_eq!([outer, inner].map(|call| rig.policy.begun_in(call)), [Some(host), None], "and stands behind");
}

#[test]
fn a_cycle_leads_over_several_actors() {
    let mut rig = Rig::new(Config::of_size(1));
    let ((one, first), (other, second)) = (rig.actor(true), rig.actor(true));
    let outer = rig.call(one);
    assert_eq!(rig.begin(first), Some(outer));
    let inner = rig.call(other);
    assert_eq!(rig.begin(second), Some(inner));
    assert_eq!(rig.policy.blocked(first, outer, inner, true), Ok(()));
    let back = rig.call(one);
    let cycle = Deadlock::Cycle(vec![inner, back, outer]);
    assert_eq!(rig.policy.blocked(second, inner, back, true), Err(cycle));
}

#[test]
fn who_holds_the_thread_of_a_worker_can_wait_for_nobody_in_it() {
    let mut rig = Rig::new(Config::of_size(1));
    let ((one, host), (other, _)) = (rig.actor(false), rig.actor(false));
    let outer = rig.call(one);
    assert_eq!(rig.begin(host), Some(outer));
    let inner = rig.call(other);
    assert_eq!(rig.policy.blocked(host, outer, inner, false), Ok(()), "one that lets others run can");
    let cycle = Deadlock::Cycle(vec![outer, inner]);
    assert_eq!(rig.policy.blocked(host, outer, inner, true), Err(cycle));
}

#[test]
fn there_are_only_so_many_workers_for_actors() {
    let mut rig = Rig::new(Config { max_workers: 2, ..Config::of_size(1) });
    let _ = (rig.actor(true), rig.actor(true));
    assert_eq!(rig.open(true, 1), Err(Refused::TooMany));
}

#[test]
fn each_is_shown_with_its_calls_and_what_it_does() {
    let mut rig = Rig::new(Config::of_size(1));
    let (actor, host) = rig.actor(true);
    let idle = rig.policy.actors_seen().next().expect("there is one");
    assert_eq!((idle.id, idle.host, idle.own), (actor, Some(host), true));
    assert_eq!((idle.phase, idle.calls, idle.first), (ActorPhase::Idle, 0, None));
    assert_eq!(idle.ended, 0, "what makes it is no call of it");
    let [first, second, third] = [0; 3].map(|_| rig.call(actor));
    assert_eq!(rig.begin(host), Some(first));
    assert_eq!(rig.reply(first, 0), Verdict::Final);
    let busy = rig.policy.actors_seen().next().expect("there is one");
    assert_eq!((busy.phase, busy.calls, busy.first), (ActorPhase::Busy, 2, Some(second)));
    assert_eq!(busy.ended, 1);
    assert_eq!((rig.policy.statistics().actors, rig.policy.statistics().calls), (1, 2));
    for call in [second, third] {
        assert_eq!(rig.begin(host), Some(call));
        assert_eq!(rig.reply(call, 0), Verdict::Final);
    }
    assert_eq!(rig.policy.actors_seen().next().map(|seen| (seen.calls, seen.ended)), Some((0, 3)));
    let homeless = rig.open(true, 7).expect("the door is open");
    let seen = rig.policy.actors_seen().find(|seen| seen.id == homeless).expect("it is there");
    assert_eq!((seen.phase, seen.mailbox), (ActorPhase::Starting, 7));
}
