"""What eight wishes for concurrency in Python ask for, one after the other, as far as they are met.

No main guard, no lock, and no rules of pickling to learn: what the workers run is defined right here.

Source: B. Eckel's list, in S. Hathaway's mail to python-dev (September 2005); told in our own words.
"""

import os
import tempfile
from pathlib import Path

import thistledown as td

diary: list[str] = []


def square(n: int) -> int:
    return n * n


def say(pipe: Path) -> str:
    pipe.write_text("hello")  # waits until the other one listens
    return "said"


def hear(pipe: Path) -> str:
    return pipe.read_text()


def write_diary(line: str) -> int:
    diary.append(line)
    return len(diary)


def one_deeper(depth: int) -> int:
    return depth if depth == 0 else 1 + td.go(one_deeper, depth - 1).result()


# 1. It works by default: "this is a task, go".
print(1, td.go(square, 7).result())

# 2. Tasks are spread over processors. These two can only end if both run at the same time.
with td.Workers(2) as pool, tempfile.TemporaryDirectory() as folder:
    os.mkfifo(pipe := Path(folder) / "pipe")
    speaker, listener = pool.go(say, pipe), pool.go(hear, pipe)
    print(2, speaker.result(), listener.result())

# 3. There may be thousands.
print(3, sum(td.map(square, range(10_000))))

# 4. Tasks guard themselves from each other: nothing is shared, and one's crash is its own.
print(4, td.go(write_diary, "dear diary").result(), "line there,", len(diary), "here")
crash: td.Task[None] = td.go(os._exit, 3)
other = td.go(square, 8)
try:
    crash.result()
except td.WorkerDied as death:
    print(4, "exit code", death.exitcode, "and the other one has", other.result())

# 5. Deadlock is prevented by default: a task that waits for its own tasks gives up its place to them.
with td.Workers(1) as pool:
    print(5, "depth", pool.go(one_deeper, 20).result(), "on one worker")

# 6. Objects that are naturally actors: not yet.

# 7. It is simple: one verb, and plain functions.
print(7, td.go(lambda: [square(n) for n in range(4)]).result())

# 8. Linda's tuple spaces: see `linda_space.py`. Mobile tasks: not yet. A task can be named, and be found where it runs.
print(8, td.go("math:factorial", 5).result())
