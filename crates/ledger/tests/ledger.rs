//! The file of a space: what was written is read back, what is damaged is found, and what is whole is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;
use thistledown_ledger::{Change, Claim, Contents, Error, Lease, Ledger, address_of};

fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("jobs.db");
    (folder, path)
}

fn open(path: &Path) -> (Ledger, Contents) {
    let (ledger, contents, repaired) = Ledger::open(path, true, false).expect("it is whole");
    assert_eq!(repaired, None);
    (ledger, contents)
}

fn insert(number: u64, length: usize) -> Change {
    let data = number.to_le_bytes().into_iter().cycle().take(length).collect();
    Change::Insert { number, lease: None, data }
}

fn write(ledger: &Ledger, changes: Vec<Change>, last: u64) {
    ledger.lay(changes, last, None).wait().expect("it is written");
}

fn copy(from: &Path, to: &Path) {
    for ending in ["", "-wal", "-owner"] {
        let named = |path: &Path| PathBuf::from(format!("{}{ending}", path.display()));
        if named(from).exists() {
            std::fs::copy(named(from), named(to)).expect("a copy");
        }
    }
}

fn tuples(contents: &Contents) -> BTreeMap<u64, Vec<u8>> {
    contents.tuples.iter().map(|found| (found.number, found.data.clone())).collect()
}

#[test]
fn what_was_written_is_read_back() {
    let (_folder, path) = place();
    let lease = Lease { ends: 1 << 41, length: 5_000 };
    let claim = Claim { token: 4, lease: Some(lease) };
    {
        let (ledger, contents) = open(&path);
        assert_eq!(contents, Contents::default());
        write(&ledger, vec![insert(1, 10), insert(2, 100_000)], 2);
        write(&ledger, vec![Change::Insert { number: 3, lease: Some(lease), data: vec![7] }], 3);
        write(&ledger, vec![Change::Claim { number: 3, claim }, Change::Remove { number: 1 }], 4);
        write(&ledger, vec![Change::Outcome { number: 5, at: 9, data: vec![1] }], 9);
        write(&ledger, vec![Change::Claim { number: 2, claim }, Change::Release { number: 2 }], 9);
    }
    let (_ledger, contents) = open(&path);
    assert_eq!(tuples(&contents).keys().copied().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(contents.tuples[0].data.len(), 100_000);
    assert_eq!((contents.tuples[0].claim, contents.tuples[1].claim), (None, Some(claim)));
    assert_eq!((contents.tuples[1].lease, contents.last), (Some(lease), 9));
    assert_eq!(contents.outcomes, [(5, 9, vec![1])]);
}

#[test]
fn what_is_undone_before_it_was_done_leaves_the_sums_right() {
    let (_folder, path) = place();
    {
        let (ledger, _) = open(&path);
        write(&ledger, vec![insert(1, 10)], 1);
        write(&ledger, vec![insert(1, 10), Change::Remove { number: 7 }], 1);
        write(&ledger, vec![Change::Remove { number: 1 }, insert(1, 10)], 1);
    }
    assert_eq!(open(&path).1.tuples.len(), 1);
}

#[test]
fn a_file_has_one_owner_who_says_where_it_is() {
    let (_folder, path) = place();
    let (ledger, _) = open(&path);
    ledger.publish("somewhere").expect("it is the owner");
    // In this process the lock is of no use; another one is refused.
    let script = "import fcntl, sys\n\
                  file = open(sys.argv[1] + '-owner', 'r+')\n\
                  try: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n\
                  except OSError: print(file.read())";
    let asked = || {
        let output = std::process::Command::new("python3").args(["-c", script]).arg(&path).output();
        String::from_utf8(output.expect("Python").stdout).expect("text").trim().to_owned()
    };
    assert_eq!(asked(), "somewhere");
    drop(ledger);
    assert_eq!(asked(), "");
    assert_eq!(address_of(&path), None, "who looks for the next owner does not find the last one");
}

#[test]
fn many_who_wait_share_a_write_and_all_are_told() {
    let (_folder, path) = place();
    let (ledger, _) = open(&path);
    let (ledger, told) = (Arc::new(ledger), Arc::new(AtomicUsize::new(0)));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (ledger, told) = (&ledger, &told);
            scope.spawn(move || {
                for turn in 0..50 {
                    let number = 1 + thread * 50 + turn;
                    let told = Arc::clone(told);
                    let tell = Box::new(move || {
                        told.fetch_add(1, Ordering::SeqCst);
                    });
                    let mark = ledger.lay(vec![insert(number, 20)], number, Some(tell));
                    assert!(mark.wait().is_ok() && mark.state().is_some());
                }
            });
        }
    });
    ledger.close();
    assert_eq!(told.load(Ordering::SeqCst), 400);
    assert!(matches!(ledger.lay(vec![], 0, None).wait(), Err(Error::Closed { .. })));
    assert_eq!(open(&path).1.tuples.len(), 400);
}

#[test]
fn a_file_of_something_else_is_left_alone() {
    let (folder, path) = place();
    let text = "not a database at all, but text".repeat(500);
    std::fs::write(&path, &text).expect("written");
    for repair in [false, true] {
        let error = Ledger::open(&path, true, repair).expect_err("it is no space's");
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
    }
    assert_eq!(std::fs::read(&path).expect("it is there"), text.as_bytes());
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing lies beside it");
    std::fs::write(&path, []).expect("written");
    open(&path);
    // Where a space was, whatever is not a whole file of somebody else may be what is left of it.
    std::fs::write(&path, &text).expect("written");
    assert!(matches!(Ledger::open(&path, true, false), Err(Error::Damaged { .. })));
    // What held a space and is empty now is not a new one.
    std::fs::write(&path, []).expect("written");
    let error = Ledger::open(&path, true, false).expect_err("it was not empty");
    assert!(error.to_string().contains("it is empty"), "{error}");
}

/// The marks in the header are gone, and whatever lay beside the file: its rows tell whose it is.
#[test]
fn a_file_without_its_first_page_and_its_neighbours_is_a_spaces_still() {
    for closed in [true, false] {
        let (folder, path) = place();
        let all = made(&path, closed);
        let snapshot = path.with_extension("copy");
        for zeroed in [100, 512, 4096] {
            let hurt = folder.path().join(format!("hurt-{zeroed}"));
            copy(&snapshot, &hurt);
            std::fs::remove_file(format!("{}-owner", hurt.display())).expect("it was there");
            let mut bytes = std::fs::read(&hurt).expect("it is there");
            bytes[..zeroed].fill(0);
            std::fs::write(&hurt, bytes).expect("written");
            match Ledger::open(&hurt, true, false) {
                Err(Error::Damaged { .. }) => {
                    let (_ledger, contents, _) = Ledger::open(&hurt, true, true).expect("repaired");
                    assert!(contents.tuples.len() > all.len() / 2, "{zeroed}");
                }
                // Its log has the page once more.
                Ok((_, contents, _)) => assert!(!closed && tuples(&contents) == all, "{zeroed}"),
                Err(error) => panic!("{zeroed}: {error}"),
            }
        }
    }
}

/// A file with tuples of many sizes, some taken again; its log is not empty unless it was closed.
fn made(path: &Path, closed: bool) -> BTreeMap<u64, Vec<u8>> {
    let (ledger, _) = open(path);
    for number in 1..=300 {
        let length = if number % 50 == 0 { 9_000 } else { 20 + number as usize % 60 };
        ledger.lay(vec![insert(number, length)], number, None);
        if number % 25 == 0 {
            write(&ledger, vec![Change::Remove { number: number - 3 }], number);
        }
    }
    write(&ledger, vec![], 300);
    if closed {
        ledger.close();
    }
    let snapshot = path.with_extension("copy");
    copy(path, &snapshot);
    drop(ledger);
    for ending in ["", "-wal"] {
        let _ = std::fs::remove_file(format!("{}{ending}", path.display()));
        let _ = std::fs::remove_file(format!("{}-owner", path.display()));
    }
    let (again, contents) = {
        copy(&snapshot, path);
        open(path)
    };
    drop(again);
    tuples(&contents)
}

/// What is in a file that was damaged: all, or an error and then, repaired, a part, with nothing in it that was not.
fn compare(path: &Path, all: &BTreeMap<u64, Vec<u8>>, removed: impl Fn(u64) -> bool, what: &str) -> bool {
    match Ledger::open(path, true, false) {
        Ok((ledger, contents, _)) => {
            drop(ledger);
            assert!(&tuples(&contents) == all, "{what}: silent");
            true
        }
        Err(error) => {
            assert!(matches!(error, Error::Damaged { .. }), "{what}: {error:?}");
            let (ledger, contents, repaired) = match Ledger::open(path, true, true) {
                Ok(opened) => opened,
                // The page with what it says of itself is cut away, and all others.
                Err(error) => {
                    assert!(error.to_string().contains("nothing in it is whole"), "{what}: {error}");
                    assert!(std::fs::metadata(path).expect("it is left alone").len() < 5 * 4096, "{what}");
                    return false;
                }
            };
            assert_eq!(repaired.expect("repaired").tuples, contents.tuples.len());
            drop(ledger);
            for (number, data) in tuples(&contents) {
                assert!(all.get(&number).is_some_and(|known| *known == data) || removed(number), "{what}");
            }
            assert_eq!(open(path).1.tuples, contents.tuples, "{what}: once more");
            false
        }
    }
}

fn damages(closed: bool, ending: &str, damage: impl Fn(&mut Vec<u8>, usize), steps: usize) -> (usize, usize) {
    let (folder, path) = place();
    let all = made(&path, closed);
    let snapshot = path.with_extension("copy");
    let target = format!("{}{ending}", snapshot.display());
    let length = std::fs::metadata(&target).expect("it is there").len() as usize;
    let (mut unhurt, mut kept) = (0, usize::MAX);
    for step in 0..steps {
        let place = (step * 7_919 + step * step * 31) % length;
        let hurt = folder.path().join(format!("hurt-{step}"));
        copy(&snapshot, &hurt);
        let name = format!("{}{ending}", hurt.display());
        let mut bytes = std::fs::read(&name).expect("it is there");
        damage(&mut bytes, place);
        std::fs::write(&name, bytes).expect("written");
        let removed = |number: u64| (number + 3).is_multiple_of(25);
        if compare(&hurt, &all, removed, &format!("at {place} of {length}")) {
            unhurt += 1;
        } else if let Ok((_ledger, contents, _)) = Ledger::open(&hurt, true, false) {
            kept = kept.min(contents.tuples.len());
        }
    }
    (unhurt, kept)
}

#[test]
fn a_flipped_byte_anywhere_in_the_file_is_found_or_hurts_nothing() {
    let (unhurt, kept) = damages(true, "", |bytes, place| bytes[place] ^= 0x55, 300);
    assert!(unhurt < 250, "{unhurt} of 300 were not noticed");
    assert!(kept > 150, "a page is lost at most, and one had {kept} left");
}

#[test]
fn a_file_that_is_cut_is_found_and_what_is_whole_is_kept() {
    let (unhurt, _) = damages(true, "", |bytes, place| bytes.truncate(place), 100);
    assert_eq!(unhurt, 0);
}

#[test]
fn a_flipped_byte_in_the_log_undoes_nothing_in_silence() {
    let (folder, path) = place();
    let all = made(&path, false);
    let snapshot = path.with_extension("copy");
    let log = std::fs::read(format!("{}-wal", snapshot.display())).expect("a log");
    let frame = 24 + 4096;
    let frames = (log.len() - 32) / frame;
    // All but those of the last commit, of which a loss of power may leave as much.
    let last = (0..frames - 1)
        .rev()
        .find(|place| log[32 + place * frame + 4..][..4] != [0; 4])
        .expect("two commits");
    for step in 0..200 {
        let place = (step * 6_151) % (32 + (last + 1) * frame);
        let hurt = folder.path().join(format!("hurt-{step}"));
        copy(&snapshot, &hurt);
        let mut bytes = log.clone();
        bytes[place] ^= 1 << (step % 8);
        std::fs::write(format!("{}-wal", hurt.display()), bytes).expect("written");
        let removed = |number: u64| (number + 3).is_multiple_of(25);
        let what = format!("byte {place}, frame {} of {frames}", place.saturating_sub(32) / frame);
        assert!(!compare(&hurt, &all, removed, &what), "{what}");
    }
}

#[test]
fn a_log_that_was_cut_short_is_the_state_of_before() {
    let (folder, path) = place();
    let all = made(&path, false);
    let snapshot = path.with_extension("copy");
    let log = std::fs::read(format!("{}-wal", snapshot.display())).expect("a log");
    for step in 1..40 {
        let hurt = folder.path().join(format!("cut-{step}"));
        copy(&snapshot, &hurt);
        std::fs::write(format!("{}-wal", hurt.display()), &log[..log.len() * step / 40]).expect("written");
        let (_ledger, contents) = open(&hurt);
        let found = tuples(&contents);
        let last = contents.tuples.last().map_or(0, |found| found.number);
        assert!(found.len() as u64 >= last - last / 25, "all that was written before the last that is there");
        assert!(
            found.len() <= all.len()
                && found.iter().all(|(number, data)| {
                    all.get(number) == Some(data) || (number + 3).is_multiple_of(25)
                })
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 25, failure_persistence: None, ..ProptestConfig::default() })]

    /// Acts of chance, and the files as they are when the process dies after one of them.
    #[test]
    fn what_is_marked_survives_and_acts_are_whole(acts in proptest::collection::vec((1..30_u64, 1..3_000_usize, any::<bool>()), 1..40)) {
        let (_folder, path) = place();
        let copied = path.with_extension("copy");
        let (ledger, _) = open(&path);
        let mut expected: BTreeMap<u64, usize> = BTreeMap::new();
        for (turn, (number, length, dies)) in acts.into_iter().enumerate() {
            let pair = [number * 2, number * 2 + 1];
            let changes = if expected.contains_key(&pair[0]) {
                expected.retain(|number, _| !pair.contains(number));
                pair.map(|number| Change::Remove { number }).to_vec()
            } else {
                expected.extend(pair.map(|number| (number, length)));
                pair.map(|number| insert(number, length)).to_vec()
            };
            write(&ledger, changes, 100 + turn as u64);
            if dies {
                copy(&path, &copied);
                let (after, contents) = open(&copied);
                let found: BTreeMap<u64, usize> =
                    contents.tuples.iter().map(|found| (found.number, found.data.len())).collect();
                prop_assert_eq!(&found, &expected);
                prop_assert_eq!(contents.last, 100 + turn as u64);
                drop(after);
                for ending in ["", "-wal"] {
                    let _ = std::fs::remove_file(format!("{}{ending}", copied.display()));
                }
                let _ = std::fs::remove_file(format!("{}-owner", copied.display()));
            }
        }
    }
}

/// Whoever repairs a file may die at every step of it; who comes next finds what was saved, and not an empty file.
#[test]
fn a_repair_that_was_broken_off_is_ended_by_the_next() {
    let (folder, path) = place();
    made(&path, false);
    let snapshot = path.with_extension("copy");
    for step in 0..4 {
        let hurt = folder.path().join(format!("hurt-{step}"));
        copy(&snapshot, &hurt);
        let with = |ending: &str| std::path::PathBuf::from(format!("{}{ending}", hurt.display()));
        let mut log = std::fs::read(with("-wal")).expect("a log");
        log[32 + 24 + 100] ^= 0x55;
        std::fs::write(with("-wal"), &log).expect("written");
        let (ledger, saved, repaired) = Ledger::open(&hurt, true, true).expect("repaired");
        drop(ledger);
        let kept = repaired.expect("it was damaged").kept_as;
        assert_eq!(kept, with("-damaged-1"));
        assert_eq!(std::fs::read(with("-damaged-1-wal")).expect("it is kept"), log);

        // Back to the moment when the new file was whole; then one step more each time.
        std::fs::rename(&hurt, with("-repaired")).expect("renamed");
        let _ = std::fs::remove_file(with("-wal"));
        std::fs::rename(&kept, &hurt).expect("renamed");
        std::fs::rename(with("-damaged-1-wal"), with("-wal")).expect("renamed");
        let steps: [&dyn Fn(); 3] = [
            &|| std::fs::hard_link(&hurt, &kept).expect("linked"),
            &|| std::fs::hard_link(with("-wal"), with("-damaged-1-wal")).expect("linked"),
            &|| std::fs::remove_file(with("-wal")).expect("removed"),
        ];
        steps[..step].iter().for_each(|step| step());

        let (ledger, contents, repaired) = Ledger::open(&hurt, true, false).expect("it is ended");
        drop(ledger);
        assert_eq!((tuples(&contents), repaired), (tuples(&saved), None), "after {step} steps");
        assert!(!with("-repaired").exists() && !with("-damaged-2").exists(), "after {step} steps");
        assert!(kept.exists() && with("-damaged-1-wal").exists(), "after {step} steps");
    }
}
