"""The scheduler of Beazley's article, in plain Python: a small operating system for generators.

It is what the whole idea costs without an engine: a ready queue, two places where tasks wait for a socket,
and `select` when nobody is ready. A task yields None to give way, or (RECEIVE | SEND, socket) to wait for it.

Source: D. Beazley, A Tale of Two Concurrencies, Part 2 (;login:, August 2015); told again in our own words.
"""

import socket
from collections import deque
from collections.abc import Callable, Generator
from select import select
from typing import Any

RECEIVE, SEND = "receive", "send"

Wait = tuple[str, socket.socket]
Body = Generator[Wait | None, Any, None]


class Scheduler:
    def __init__(self) -> None:
        self.ready: deque[Body] = deque()
        self.waiting: dict[str, dict[socket.socket, Body]] = {RECEIVE: {}, SEND: {}}

    def go(self, body: Body) -> None:
        self.ready.append(body)

    def run(self) -> None:
        """Runs until no task is left."""
        ready, waiting = self.ready, self.waiting
        while True:
            while ready:
                body = ready.popleft()
                try:
                    wait = next(body)
                except StopIteration:
                    continue
                if wait is None:
                    ready.append(body)
                else:
                    waiting[wait[0]][wait[1]] = body
            if not waiting[RECEIVE] and not waiting[SEND]:
                return
            readable, writable, _ = select(waiting[RECEIVE], waiting[SEND], [])
            ready.extend(waiting[RECEIVE].pop(sock) for sock in readable)
            ready.extend(waiting[SEND].pop(sock) for sock in writable)

    def serve(self, listener: socket.socket, handler: Callable[[socket.socket], Body]) -> Body:
        """The body of a task that starts one more for each connection."""
        while True:
            yield RECEIVE, listener
            client, _ = listener.accept()
            self.go(handler(client))
