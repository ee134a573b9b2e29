"""How many bytes does a task take that is parked on a sleep, when there are a million of them?

Resident memory of the process, before and after; Python's own generator or coroutine frame is included.
"""

import asyncio
import gc
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, NoReturn

import measure
import peers

LONG = 3600.0


def resident_bytes(process: int | str = "self") -> int:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Growth:
    """Memory since it was made."""

    def __init__(self) -> None:
        gc.collect()
        self.before = resident_bytes()

    def leave(self, tasks: int) -> NoReturn:
        """Prints the growth a task, and ends the process without asking a million tasks to end first."""
        measure.tell({"bytes/task": (resident_bytes() - self.before) / tasks})
        os._exit(0)


def thistledown_generator(tasks: int) -> measure.Sample:
    import thistledown as td

    def body() -> Generator[Any, Any, None]:
        yield from td.sleep(LONG)

    def main() -> Generator[Any, Any, None]:
        growth = Growth()
        for _ in range(tasks):
            td.go(body)
        yield from td.sleep(0)
        growth.leave(tasks)

    sample: measure.Sample = td.run(main)
    return sample


def thistledown_async(tasks: int) -> measure.Sample:
    import thistledown as td

    async def body() -> None:
        await td.sleep(LONG)

    async def main() -> NoReturn:
        growth = Growth()
        for _ in range(tasks):
            td.go(body)
        await td.sleep(0)
        growth.leave(tasks)

    sample: measure.Sample = td.run(main)
    return sample


def on_asyncio(tasks: int) -> measure.Sample:
    async def body() -> None:
        await asyncio.sleep(LONG)

    async def main() -> NoReturn:
        growth = Growth()
        held = {asyncio.create_task(body()) for _ in range(tasks)}
        await asyncio.sleep(0)
        growth.leave(len(held))

    return peers.run_on_loop("asyncio", main())


QUESTIONS = [
    measure.Question(
        name="memory",
        title="Memory of 1,000,000 tasks parked on a sleep",
        script=__file__,
        cases={
            "thistledown / generator": thistledown_generator,
            "thistledown / async": thistledown_async,
            "asyncio": on_asyncio,
        },
        units=("bytes/task",),
        size=1_000_000,
        quick_size=20_000,
        target="at most 700 bytes",
        bounds=(measure.Bound(700),),
        timeout=300,
    )
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
