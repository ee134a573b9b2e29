"""Ten thousand little black boxes, which share nothing, send messages, and detect errors in each other.

The point: what is in a box does not matter, the messages between them do; and what has become of a box is noticed by
another one. These boxes stand in a ring. A message goes round it, from box to box. Each box watches the next, and
then two hundred of them end, in one way or the other. The figures: how many ends were noticed, each by its neighbour,
and with which reasons. At last each is linked to the next, one of them is killed, and none is left.

Source: J. Armstrong's and A. Kay's posts, quoted in Python 3 Patterns & Idioms; told in our own words.
"""

import itertools
import random
from collections import Counter

import thistledown as td

BOXES, VICTIMS = 10_000, 200

Reports = td.Channel[tuple[int, int, str]]  # whose, about whom, and why


class Box:
    """What is in it is nobody's business. It is known by its messages."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.passed_on = 0

    def meet(self, neighbour: "td.Actor[Box]") -> None:
        self.neighbour = neighbour

    def pass_on(self, hops: int, end: td.Channel[int]) -> None:
        self.passed_on += 1
        if hops > 1:
            self.neighbour.pass_on(hops - 1, end)
        else:
            end.send_nowait(self.number)

    async def report(self, about: int, reason: str, reports: Reports) -> None:
        await reports.send((self.number, about, reason))


async def watch(box: "td.Actor[Box]", number: int, neighbour: "td.Actor[Box]", reports: Reports) -> None:
    """Waits for the end of a box's neighbour, and lets the box tell of it."""
    down = await td.monitor(neighbour)
    await box.report(number, str(down.reason), reports)


async def send_round(boxes: "list[td.Actor[Box]]") -> None:
    end = td.Channel[int](capacity=1)
    boxes[0].pass_on(2 * BOXES, end)
    last = await end.recv()
    print(f"{2 * BOXES:,} messages, twice round, the last to box {last:,}")


async def end_some(boxes: "list[td.Actor[Box]]") -> None:
    # Every other one at most, so that each has a neighbour who can tell.
    victims = random.sample(range(0, BOXES, 2), VICTIMS)
    reports = Reports(capacity=VICTIMS)
    async with td.TaskGroup() as group:
        for number, (box, neighbour) in enumerate(zip(boxes, boxes[1:] + boxes[:1], strict=True), 1):
            group.go(watch, box, number % BOXES, neighbour, reports)
        await td.sleep(0)
        for victim in victims[: VICTIMS // 2]:
            boxes[victim].kill()
        for victim in victims[VICTIMS // 2 :]:
            boxes[victim].stop()
        told = [await reports.recv() for _ in victims]
        group.cancel()
    ended = sorted(about for _, about, _ in told)
    by_neighbours = all(about == (number + 1) % BOXES for number, about, _ in told)
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(why for _, _, why in told).items()))
    print(f"{len(told)} ends told ({reasons}), of those who have ended: {ended == sorted(victims)}")
    print("each by its neighbour:", by_neighbours)


async def end_all(boxes: "list[td.Actor[Box]]") -> None:
    for one, other in itertools.pairwise(boxes):
        td.link(one, other)
    boxes[BOXES // 2].kill()
    ends = Counter([str((await td.monitor(box)).reason) for box in boxes])
    print("linked, and one of them killed:", ", ".join(f"{count:,} {reason}" for reason, count in ends.items()))


async def main() -> None:
    boxes = [td.here.actor(Box, number) for number in range(BOXES)]
    for box, neighbour in zip(boxes, boxes[1:] + boxes[:1], strict=True):
        box.meet(neighbour)
    await send_round(boxes)
    await end_some(boxes)
    await end_all([td.here.actor(Box, number) for number in range(BOXES)])


if __name__ == "__main__":
    random.seed(1)
    td.run(main)
