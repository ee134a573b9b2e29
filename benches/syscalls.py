"""How many times does a server call the system for a request?

The floor is two: one call takes the request, one sends the reply; and a share of a wait, when many
connections are ready at once. Counted by `strace -c -f`, attached when the server is ready, detached when the
load is over.

A traced server is several times slower, so that its client would have asked again before it looks for more: a
server that looks at once would never look in vain, as it does in earnest. So clients pause before they ask.
"""

import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import measure
import servers
from server_process import FIB_REPLY, FIB_REQUEST, ServerProcess

#: Calls that show in a column of their own; others are in the sum.
FAMILIES = {
    "receive": {"recvfrom", "recv", "read", "recvmsg", "readv"},
    "send": {"sendto", "send", "write", "sendmsg", "writev"},
    "wait": {"epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6"},
    "epoll_ctl": {"epoll_ctl"},
    "futex": {"futex"},
}
ALL = "calls/request"
PAUSE_US = 2000


def counted(summary: str, requests: int) -> dict[str, float]:
    """Reads strace's summary: % time, seconds, usecs/call, calls, [errors], syscall."""
    calls = {
        found[2]: int(found[1])
        for found in re.finditer(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", summary, re.MULTILINE)
        if found[2] != "total"
    }
    sample = {ALL: sum(calls.values()) / requests}
    for family, names in FAMILIES.items():
        sample[family] = sum(count for name, count in calls.items() if name in names) / requests
    return sample


def traced(case: str, connections: int) -> measure.Case:
    def run(requests: int) -> measure.Sample:
        strace = shutil.which("strace")
        if strace is None:
            raise SystemExit("strace is not installed")
        with ServerProcess(case, "fib") as server, tempfile.TemporaryDirectory() as folder:
            server.check(FIB_REQUEST, FIB_REPLY)
            summary = Path(folder) / "summary"
            command = [strace, "-c", "-f", "-o", str(summary), "-p", str(server.pid)]
            tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            try:
                assert tracer.stderr is not None
                line = tracer.stderr.readline()
                if "attached" not in line:
                    raise SystemExit(line.strip() or "strace could not attach")
                words = ["--connections", str(connections), "--requests", str(requests), "--seconds", "30"]
                words += ["--pause-us", str(PAUSE_US)]
                report = server.load([*words, "--send", "1", "--reply-end", "\\n"])
            finally:
                tracer.send_signal(signal.SIGINT)
                tracer.communicate()
            return counted(summary.read_text(), report["requests"])

    return run


def question(connections: int) -> measure.Question:
    many = "1 connection" if connections == 1 else f"{connections} connections"
    return measure.Question(
        name=f"syscalls-{connections}",
        title=f"System calls a request, fib server, {many}",
        script=__file__,
        cases={case: traced(case, connections) for case in servers.SERVERS},
        units=(ALL, *FAMILIES),
        size=500 if connections == 1 else 10_000,
        quick_size=100,
        target="the two that move data, and a share of one wait",
        bounds=(measure.Bound(3.1 if connections == 1 else 2.5),),
        baseline="asyncio / streams",
        needs_load_generator=True,
        note=f"Clients pause for {PAUSE_US / 1000:g} ms. Connecting is in it, spread over all requests.",
    )


QUESTIONS = [question(1), question(100)]

if __name__ == "__main__":
    measure.main(QUESTIONS)
