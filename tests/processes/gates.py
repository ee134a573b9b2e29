"""How a test holds tasks and hears of them, in whichever process they are. Their side is in `work`."""

import os
import select
from pathlib import Path

from support import PATIENCE


class Gate:
    """Where tasks wait until they are let through, in whichever process they are: two named pipes."""

    def __init__(self, folder):
        self.path = str(Path(folder) / f"gate-{len(list(Path(folder).iterdir()))}")
        self.ends = {}
        for side in ("arrivals", "passes"):
            os.mkfifo(f"{self.path}.{side}")
            self.ends[side] = os.open(f"{self.path}.{side}", os.O_RDWR | os.O_CLOEXEC)

    def arrival(self):
        """The name of the next task that stands at the gate, or stood there."""
        ready, _, _ = select.select([self.ends["arrivals"]], [], [], PATIENCE)
        assert ready, "no task has come to the gate"
        name = b""
        while not name.endswith(b"\n"):
            name += os.read(self.ends["arrivals"], 1)
        return name.decode().rstrip("\n")

    def wait_for_arrivals(self, count=1):
        return [self.arrival() for _ in range(count)]

    def has_arrivals(self):
        return bool(select.select([self.ends["arrivals"]], [], [], 0)[0])

    def open(self, count=1):
        """Lets so many tasks through, now or when they come."""
        os.write(self.ends["passes"], b"." * count)

    def close(self):
        for end in self.ends.values():
            os.close(end)


class Journal:
    """A file to which tasks write one line at a time, in whichever process they are."""

    def __init__(self, path):
        self.path = str(path)
        path.touch()

    def lines(self):
        return Path(self.path).read_text().splitlines()
