"""What is scarce is an error of who asks for it, and the pool goes on: room for memory files, descriptors, memory.

Limits are set in a process of its own.
"""

import gc
import weakref

import pytest
import thistledown as td
import victims
import witness
from witness import PATIENCE

HUNDRED_MB = 100_000_000

HEAD = """
import errno, os, resource, sys, threading, time
import thistledown as td, victims

def limit(name, value):
    number = getattr(resource, name)
    resource.setrlimit(number, (value, resource.getrlimit(number)[1]))

def good(pool):
    tasks = [pool.submit(victims.square, n) for n in range(20)]
    return [task.result(30) for task in tasks] == [n * n for n in range(20)]
"""


def run(script, source, *arguments):
    code, output, errors = script(HEAD + source, *arguments).ends()
    assert (code, errors) == (0, ""), output + errors
    return output.splitlines()


# --- large results ------------------------------------------------------------------------------------------


def blobs():
    return sum(count for name, count in witness.memory_files().items() if "blob" in name)


def test_a_large_result_that_nobody_reads_is_given_back_when_its_task_is_dropped(pair):
    """It is in shared memory as long as somebody may ask for it, and takes no descriptor."""
    pair.submit(victims.square, 1).result(PATIENCE)
    before = witness.descriptors()
    task = pair.submit(victims.large, HUNDRED_MB)
    assert td.wait([task], PATIENCE).done == {task}
    assert witness.descriptors().keys() <= before.keys()
    assert blobs() == 1
    gone = weakref.ref(task)
    del task
    assert witness.eventually(lambda: gone() is None and blobs() == 0)


def test_a_large_result_that_was_read_is_given_back_with_its_value(pair):
    for _ in range(2):
        assert len(pair.submit(victims.large, HUNDRED_MB).result(PATIENCE)) == HUNDRED_MB
        gc.collect()
    assert blobs() == 0


def test_large_results_of_tasks_that_are_cancelled_or_dropped_are_given_back(pair):
    before = witness.descriptors()
    for _ in range(20):
        tasks = [pair.submit(victims.large, 1_000_000) for _ in range(5)]
        tasks[0].cancel()
        del tasks
    assert pair.wait_idle(PATIENCE)
    assert witness.eventually(lambda: blobs() == 0)
    pair.shutdown()
    assert len(witness.descriptors()) <= len(before)


def test_large_arguments_are_given_back_when_their_task_has_ended(pair):
    data = bytes(HUNDRED_MB // 10)
    for _ in range(20):
        assert pair.submit(len, data).result(PATIENCE) == len(data)
    assert blobs() == 0


def test_large_arguments_of_a_task_whose_worker_died_are_given_back(pair):
    def die(data):
        import os

        os._exit(3)

    data = bytes(HUNDRED_MB // 10)
    tasks = [pair.submit(die, data) for _ in range(5)]
    assert all(isinstance(task.exception(PATIENCE), td.WorkerDied) for task in tasks)
    assert witness.eventually(lambda: blobs() == 0)


# --- no room ------------------------------------------------------------------------------------------------


def test_no_room_for_a_large_argument_is_an_error_of_who_gives_it(script):
    lines = run(
        script,
        """
with td.Workers(2) as pool:
    good(pool)
    before = len(os.listdir("/proc/self/fd"))
    limit("RLIMIT_FSIZE", 8_000_000)
    for _ in range(3):
        try:
            pool.submit(len, bytes(50_000_000))
            print("taken")
        except OSError as error:
            print(errno.errorcode[error.errno])
    print(good(pool), pool.submit(len, bytes(1_000_000)).result(30), len(os.listdir("/proc/self/fd")) <= before)
""",
    )
    assert lines == ["EFBIG", "EFBIG", "EFBIG", "True 1000000 True"]


def test_no_room_for_a_large_result_is_an_error_of_its_task(script):
    lines = run(
        script,
        """
def give(size_bytes, room):
    limit("RLIMIT_FSIZE", room)
    try:
        return victims.large(size_bytes)
    finally:
        pass

with td.Workers(1) as pool:
    process = pool.submit(victims.process).result()
    for _ in range(3):
        try:
            pool.submit(give, 50_000_000, 8_000_000).result(30)
            print("came")
        except Exception as error:
            print(type(error).__name__, error)
    print(good(pool), pool.submit(victims.process).result(30) == process)
""",
    )
    assert lines[-1] == "True True"
    for line in lines[:3]:
        assert "came" not in line
        assert "large" in line.lower() or "room" in line.lower() or "result" in line.lower()


def test_no_room_for_workers_at_all_is_said(script):
    lines = run(
        script,
        """
limit("RLIMIT_FSIZE", 1000)
pool = td.Workers(2)
try:
    pool.submit(victims.square, 3).result(30)
except (td.WorkersBroken, OSError) as error:
    print("said:", error)
pool.shutdown()
""",
    )
    [line] = lines
    assert line.startswith("said: ")
    assert "too large" in line


def test_no_memory_for_a_result_here_is_an_error_of_who_asks(script):
    lines = run(
        script,
        """
with td.Workers(1) as pool:
    good(pool)
    task = pool.submit(victims.large, 500_000_000)
    td.wait([task])
    limit("RLIMIT_AS", int(open("/proc/self/statm").read().split()[0]) * 4096 + 100_000_000)
    try:
        task.result()
        print("came")
    except (MemoryError, OSError) as error:
        print(type(error).__name__)
    print(good(pool))
""",
    )
    assert lines[0] in ("MemoryError", "OSError")
    assert lines[1:] == ["True"]


# --- no descriptors -----------------------------------------------------------------------------------------

DESCRIPTORS = """
def hold_all(left):
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for _ in range(left):
        os.close(held.pop())
    return held

def release(held):
    while held:
        os.close(held.pop())
"""


def test_no_descriptor_for_a_large_argument_is_an_error_of_that_task_and_small_ones_go_on(script):
    lines = run(
        script,
        DESCRIPTORS
        + """
with td.Workers(1) as pool:
    good(pool)
    limit("RLIMIT_NOFILE", 200)
    data = bytes(1_000_000)
    held = hold_all(0)
    for _ in range(3):
        try:
            task = pool.submit(len, data)
            small = pool.submit(victims.square, 3)
            print("taken", small.result(15), task.result(15))
        except OSError as error:
            print("Too many open files" in str(error))
    small = good(pool)
    release(held)
    print(small, pool.submit(len, data).result(30), good(pool))
""",
    )
    assert lines == ["True", "True", "True", "True 1000000 True"]


def test_no_descriptor_for_a_large_result_is_no_hang(script):
    lines = run(
        script,
        DESCRIPTORS
        + """
with td.Workers(1) as pool:
    good(pool)
    limit("RLIMIT_NOFILE", 200)
    held = hold_all(0)
    try:
        print("came", len(pool.submit(victims.large, 1_000_000).result(30)))
    except Exception as error:
        print(type(error).__name__, error)
    print(good(pool))
    release(held)
    print(len(pool.submit(victims.large, 1_000_000).result(30)), good(pool))
""",
    )
    assert len(lines) == 3
    assert "TimeoutError" not in lines[0]
    assert "nobody understands" not in lines[0]
    assert lines[1:] == ["True", "1000000 True"]


@pytest.mark.parametrize("left", [0, 1, 2, 5, 8, 12, 16])
def test_no_descriptor_to_start_a_worker_is_said_or_waited_for(script, left):
    lines = run(
        script,
        DESCRIPTORS
        + """
pool = td.Workers(2)
warm = td.Workers(1)
good(warm)
limit("RLIMIT_NOFILE", 200)
held = hold_all(int(sys.argv[1]))
task = pool.submit(victims.square, 3)
time.sleep(0.3)
release(held)
try:
    print("came", task.result(30))
except (td.WorkersBroken, OSError) as error:
    print("said:", error)
print(good(warm))
later = td.Workers(1)
print(good(later))
pool.shutdown()
warm.shutdown()
later.shutdown()
""",
        left,
    )
    assert lines[0] == "came 9" or lines[0].startswith("said: ")
    assert lines[1:] == ["True", "True"]


def test_a_worker_that_dies_while_no_descriptor_is_left_is_replaced_later(script):
    lines = run(
        script,
        DESCRIPTORS
        + """
pool = td.Workers(1)
good(pool)
limit("RLIMIT_NOFILE", 200)
held = hold_all(0)
print(type(pool.submit(os._exit, 3).exception(30)).__name__)
release(hold_all(0))
held += hold_all(0)
task = pool.submit(victims.square, 3)
time.sleep(0.3)
release(held)
print(task.result(30), good(pool))
pool.shutdown()
""",
    )
    assert lines == ["WorkerDied", "9 True"]


def test_many_large_tasks_at_once_need_no_more_descriptors_than_there_are(script):
    """Each in flight holds one; who gives too many at once hears of it, or waits."""
    lines = run(
        script,
        """
limit("RLIMIT_NOFILE", 256)
with td.Workers(2) as pool:
    refused, tasks = 0, []
    for _ in range(1000):
        try:
            tasks.append(pool.submit(len, bytes(100_000)))
        except OSError:
            refused += 1
    print(all(task.result(30) == 100_000 for task in tasks), good(pool))
""",
    )
    assert lines == ["True True"]


def test_no_thread_for_the_pool_is_said(script):
    lines = run(
        script,
        """
pool = td.Workers(1)
limit("RLIMIT_AS", int(open("/proc/self/statm").read().split()[0]) * 4096 + 1_900_000)
try:
    pool.submit(victims.square, 3).result(30)
    said = "came"
except (td.WorkersBroken, OSError, MemoryError, RuntimeError) as error:
    said = error
limit("RLIMIT_AS", -1)
print(said)
print(good(pool))
pool.shutdown()
""",
    )
    assert "thread" in lines[0]
    assert lines[1:] == ["True"]
