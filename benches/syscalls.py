"""How many times does a server call the system for a request?

The floor is two: one call takes the request, one sends the reply; and a share of a wait, when many connections
are ready at once. Connecting and closing are in the count, spread over all requests.

Counted by `perf stat`, at full speed, where the system allows that; else by `strace -c -f`. A traced server is
several times slower, so that its client would have asked again before it looks for more: a server that looks
at once would never look in vain, as it does in earnest. So for strace clients pause before they ask. A server
that looks at its connections every so many microseconds still looks more often when it is traced.
"""

import platform
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import measure
import servers
from server_process import FIB_REPLY, FIB_REQUEST, ServerProcess

#: Calls that show in a column of their own; others are in the sum.
FAMILIES = {
    "receive": ["recvfrom", "recvmsg", "read", "readv"],
    "send": ["sendto", "sendmsg", "write", "writev"],
    "wait": ["epoll_pwait", "ppoll", "pselect6"],
    "epoll_ctl": ["epoll_ctl"],
    "futex": ["futex"],
}
if platform.machine() == "x86_64":  # newer machines have only the others
    FAMILIES["wait"] += ["epoll_wait", "poll", "select"]

ALL = "calls/request"
EVERY_CALL = "raw_syscalls:sys_enter"
PAUSE_US = 2000


def perf_is_usable() -> bool:
    perf = shutil.which("perf")
    command = [perf or "", "stat", "-e", EVERY_CALL, "true"]
    return perf is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0


def counted_by_perf(server: ServerProcess, words: list[str], summary: Path) -> tuple[int, dict[str, int]]:
    """Gives how many requests there were, and how many calls of each name."""
    names = [name for family in FAMILIES.values() for name in family]
    events = ",".join([EVERY_CALL, *(f"syscalls:sys_enter_{name}" for name in names)])
    perf = ["perf", "stat", "-x", ",", "-e", events, "-p", str(server.pid), "-o", str(summary)]
    requests = server.load(words, within=perf)["requests"]
    fields = [line.split(",") for line in summary.read_text().splitlines() if "sys_enter" in line]
    calls = {event.rpartition("sys_enter_")[2]: int(count) for count, _, event, *_ in fields}
    calls["others"] = calls.pop(EVERY_CALL) - sum(calls.values())
    return requests, calls


def counted_by_strace(server: ServerProcess, words: list[str], summary: Path) -> tuple[int, dict[str, int]]:
    strace = shutil.which("strace")
    if strace is None:
        raise SystemExit("system calls are counted by perf or strace: neither can be used here")
    command = [strace, "-c", "-f", "-o", str(summary), "-p", str(server.pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        if "attached" not in line:
            raise SystemExit(line.strip() or "strace could not attach")
        requests = server.load([*words, "--pause-us", str(PAUSE_US)])["requests"]
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()
    # % time, seconds, usecs/call, calls, [errors], syscall
    row = re.compile(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", re.MULTILINE)
    calls = {found[2]: int(found[1]) for found in row.finditer(summary.read_text())}
    calls.pop("total", None)
    return requests, calls


def sample(requests: int, calls: Mapping[str, int]) -> measure.Sample:
    shares = {family: sum(calls.get(name, 0) for name in names) / requests for family, names in FAMILIES.items()}
    return {ALL: sum(calls.values()) / requests, **shares}


BY_PERF = perf_is_usable()
METHOD = "`perf stat`" if BY_PERF else f"`strace -c -f`, with clients that pause for {PAUSE_US / 1000:g} ms"


def under_count(case: str, connections: int) -> measure.Case:
    def run(requests: int) -> measure.Sample:
        with ServerProcess(case, "fib") as server, tempfile.TemporaryDirectory() as folder:
            server.check(FIB_REQUEST, FIB_REPLY)
            words = ["--connections", str(connections), "--requests", str(requests), "--seconds", "30"]
            words += ["--send", FIB_REQUEST.decode(), "--reply-end", "\\n"]
            count = counted_by_perf if BY_PERF else counted_by_strace
            return sample(*count(server, words, Path(folder) / "summary"))

    return run


def question(connections: int) -> measure.Question:
    many = "1 connection" if connections == 1 else f"{connections} connections"
    return measure.Question(
        name=f"syscalls-{connections}",
        title=f"System calls a request, fib server, {many}",
        script=__file__,
        cases={case: under_count(case, connections) for case in servers.SERVERS},
        units=(ALL, *FAMILIES),
        size=20_000 if BY_PERF else 500 if connections == 1 else 10_000,
        quick_size=100,
        target="the two that move data, and a share of one wait",
        bounds=(measure.Bound(3.1 if connections == 1 else 2.5),),
        baseline="asyncio / streams",
        needs_load_generator=True,
        note=f"Counted by {METHOD}.",
    )


QUESTIONS = [question(1), question(100)]

if __name__ == "__main__":
    measure.main(QUESTIONS)
