"""Wish 8, the other half: mobile tasks, or active objects. One that goes to another process, and has what it had.

The point: whoever has the handle need not know where the object is. A courier collects letters in this process, then
in a worker of a pool, then in a process of its own. It takes its bag along, and its messages follow: those that were
sent before it leaves are answered where it was, those that come meanwhile where it arrives. The figure is the
messages: all of those that were on their way are answered, each once and in their order, in three processes.

Sources: B. Eckel's eighth wish (python-dev, September 2005); told in our own words.
"""

import os

import thistledown as td


class Courier:
    def __init__(self) -> None:
        self.bag: list[str] = []

    def collect(self, letter: str) -> tuple[int, int]:
        """How many letters there are in the bag, and the process in which it is."""
        self.bag.append(letter)
        return len(self.bag), os.getpid()


async def main() -> None:
    with td.Workers(2) as pool:
        courier = td.here.actor(Courier)
        known: list[int] = []
        for name, place in (("here", None), ("a pool", pool), ("a process of its own", td.actor)):
            if place is not None:
                await courier.move(place)
            await courier.collect("a letter")
            count, process = await courier.collect("a postcard")
            known.append(process)
            print(f"from {name}: {count} letters in process {len(set(known))}")

        # And back again, by way of the pool, while messages are on their way.
        on_the_way = []
        for place in (pool, td.here, pool):
            on_the_way += [courier.collect("one more") for _ in range(10)]
            courier.move(place)
        answers = [await task for task in on_the_way]
        counts = [count for count, _ in answers]
        processes = {process for _, process in answers}
        in_order = counts == list(range(7, 7 + len(counts)))
        print(
            f"of {len(on_the_way)} messages on the way {len(counts)} were answered, in order: {in_order}; "
            f"in {len(processes)} processes, by one handle"
        )
        await courier.stop()


td.run(main)
