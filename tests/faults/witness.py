"""What the tests of faults see and use from outside: processes by their mark, meetings with tasks, scripts.

Every process that a test starts, however it is related, carries the mark of the test in its environment; so what is
left over is found although its parent is gone. Nothing here waits by sleeping: it waits for a descriptor, with a limit.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path

from native import thread_names

PATIENCE = 20.0  # seconds; a hang limit, never a measure

MARK = "THISTLEDOWN_TEST_MARK"
"""The variable in the environment whose value all processes of a test have."""

HERE = os.pathsep.join(str(folder) for folder in Path(__file__).resolve().parents[:2])
"""Where programs find what they import from here, as a value of ``PYTHONPATH``."""


# --- processes ----------------------------------------------------------------------------------------------


def marked(mark):
    """Live processes with this mark. This one, and what is forked from it without exec, is none of them."""
    wanted = f"{MARK}={mark}".encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended, or is somebody else's
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found - {os.getpid()}


def parent_of(process):
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def state_of(process):
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def wait_gone(processes, seconds=PATIENCE):
    """Waits until these have ended; gives those that have not."""
    deadline = time.monotonic() + seconds
    left = set()
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(process)
            try:
                if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    left.add(process)
            finally:
                os.close(descriptor)
    return left


def end(processes):
    """Kills processes of this test. An orphan's parent may be anybody: whoever is not marked is left alone."""
    for process in marked(os.environ[MARK]).intersection(processes):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def zygote_of(worker):
    """The process that has forked this worker; None when that one is gone."""
    parent = parent_of(worker)
    return parent if parent in marked(os.environ[MARK]) else None


def described(processes):
    """For a message: what they are."""
    lines = []
    for process in processes:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{process}/status").read_text().splitlines()
            kept = [line for line in status if line.startswith(("Name", "State", "PPid"))]
            lines.append(f"{process}: {' '.join(kept)}")
    return "\n".join(lines)


# --- what a process holds -----------------------------------------------------------------------------------


def descriptors(process="self"):
    """Open descriptors and what they are for."""
    found = {}
    for path in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            found[int(path.name)] = os.readlink(path)
    return found


def memory_files():
    """How many memory files of the engine's are open or mapped here, by name."""
    mapped = [line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines()]
    names = [*descriptors().values(), *mapped]
    return Counter(name for name in names if "memfd:thistledown" in name)


def native_threads():
    """Names of the threads of the system's, in this process."""
    return Counter(thread_names().values())


def native_threads_named(part):
    """Numbers of the threads of the engine's, in this process, with this in their name."""
    return [number for number, name in thread_names().items() if part in name]


def eventually(condition, seconds=PATIENCE):
    """Whether something comes true in time that nobody announces."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        gc.collect()
        time.sleep(0.005)
    return True


# --- meetings -----------------------------------------------------------------------------------------------


class Meeting:
    """Where a task in a worker says that it has begun (``victims.arrive``), and waits until it may go on."""

    def __init__(self):
        self.address = f"\0thistledown-test-{uuid.uuid4()}"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.address)
        self.listener.listen(1000)
        self.listener.settimeout(PATIENCE)
        self.guests = []

    def hear(self):
        """The process id of the next one that comes."""
        guest, _ = self.listener.accept()
        guest.settimeout(PATIENCE)
        self.guests.append(guest)
        return int(guest.recv(100))

    def release(self):
        """Those who wait may go on."""
        while self.guests:
            self.guests.pop().close()

    def close(self):
        self.release()
        self.listener.close()


# --- scripts ------------------------------------------------------------------------------------------------


class Script:
    """A program in an interpreter of its own, which leads a session, as one that a terminal has started."""

    def __init__(self, source, *arguments, **options):
        path = os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", source, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "", "NO_COLOR": "1"},
            **options,
        )
        self.unread = b""

    @property
    def pid(self):
        return self.process.pid

    def line(self):
        """The next line that it prints."""
        while b"\n" not in self.unread:
            ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not data:
                self.process.kill()
                _, _, errors = self.ends()
                raise AssertionError(f"it {'ended' if ready else 'says nothing'} after {self.unread!r}:\n{errors}")
            self.unread += data
        line, _, self.unread = self.unread.partition(b"\n")
        return line.decode()

    def interrupt(self):
        """Ctrl-C: the signal goes to its whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)

    def ends(self):
        """Its exit code, and all that it printed since."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, (self.unread + output).decode(), errors.decode()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
