"""How many bytes of a server's memory does an idle connection take, when there are 10,000 of them?

Each connection has asked once, so that its task stands where it waits for the next request. It is the
resident memory of the server's process; what the system keeps for its sockets is the same for all.
"""

import resource
import socket
from contextlib import ExitStack

import measure
import peers
import servers
from memory import resident_bytes
from server_process import FIB_REPLY, FIB_REQUEST, ServerProcess

#: `select` takes no file descriptor above 1,023.
WITHOUT = {peers.SEED}
#: Connections that are made before the first look, so that what is made once is not counted.
WARM_UP = 50


def held_open(case: str) -> measure.Case:
    def run(connections: int) -> measure.Sample:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if hard != resource.RLIM_INFINITY and hard < connections + 2 * WARM_UP:
            raise SystemExit(f"needs {connections + 2 * WARM_UP:,} open files, and may have {hard:,}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        with ServerProcess(case, "fib") as server, ExitStack() as clients:
            before = 0
            for number in range(WARM_UP + connections):
                if number == WARM_UP:
                    before = resident_bytes(server.pid)
                client = clients.enter_context(socket.create_connection(server.address, timeout=10))
                client.sendall(FIB_REQUEST)
                if client.recv(100) != FIB_REPLY:
                    raise RuntimeError("a wrong reply")
            grown = resident_bytes(server.pid) - before
        return {"bytes/connection": grown / connections}

    return run


QUESTIONS = [
    measure.Question(
        name="idle",
        title="10,000 idle connections",
        script=__file__,
        cases={case: held_open(case) for case in servers.SERVERS if case not in WITHOUT},
        units=("bytes/connection",),
        size=10_000,
        quick_size=200,
        baseline="asyncio / streams",
    )
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
