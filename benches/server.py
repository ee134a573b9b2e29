"""What does a request cost a server: CPU, and how long does a client wait?

CPU a request is the robust figure. Requests a second say as much about the load generator's machine: with one
connection both sides take turns; with a hundred the server has always something to do.
"""

import measure
import servers
from server_process import FIB_REPLY, FIB_REQUEST, ServerProcess

CPU = "us CPU/request"
UNITS = (CPU, "requests/s", "p50 us", "p99 us")

#: The target speaks of what people write handlers with; a Protocol is a bound of its own.
OTHERS = frozenset({"uvloop / Protocol"})
BOUNDS = (measure.Bound(1.0, measure.BEST, outside=OTHERS), measure.Bound(1.1, "uvloop / Protocol"))
TARGET = "less CPU than every peer with streams or sockets, and within 1.1 of uvloop's bare Protocol"


def under_load(case: str, connections: int, echo_size: int | None) -> measure.Case:
    """Loads the server for as many milliseconds as the size says."""

    def run(milliseconds: int) -> measure.Sample:
        words = ["--connections", str(connections), "--seconds", str(milliseconds / 1000)]
        if echo_size is None:
            work, request, reply = "fib", FIB_REQUEST, FIB_REPLY
            words += ["--send", request.decode(), "--reply-end", "\\n"]
        else:
            work, request, reply = "echo", b"x" * echo_size, b"x" * echo_size
            words += ["--send-size", str(echo_size), "--reply-size", str(echo_size)]
        with ServerProcess(case, work) as server:
            server.check(request, reply)
            report = server.load(words)
            cpu = server.cpu_seconds()
        return {
            CPU: cpu / report["requests"] * 1e6,
            "requests/s": report["requests"] / report["seconds"],
            "p50 us": report["p50_us"],
            "p99 us": report["p99_us"],
        }

    return run


def question(connections: int, echo_size: int | None) -> measure.Question:
    work = "fib" if echo_size is None else f"echo-{echo_size // 1024}k"
    title = "Fib server" if echo_size is None else f"Echo of {echo_size // 1024} KiB"
    many = "1 connection" if connections == 1 else f"{connections} connections"
    return measure.Question(
        name=f"server-{work}-{connections}",
        title=f"{title}, {many}",
        script=__file__,
        cases={case: under_load(case, connections, echo_size) for case in servers.SERVERS},
        units=UNITS,
        size=2_000,
        quick_size=100,
        target=TARGET,
        bounds=BOUNDS,
        baseline="asyncio / streams",
        needs_load_generator=True,
        note="Server and load generator have a CPU each, if there are two.",
    )


QUESTIONS = [question(connections, echo_size) for echo_size in (None, 1024, 64 * 1024) for connections in (1, 100)]

if __name__ == "__main__":
    measure.main(QUESTIONS)
