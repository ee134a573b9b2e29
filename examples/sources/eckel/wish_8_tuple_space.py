"""Wish 8: a Linda-style tuple space. Who writes knows nobody, and who takes says only what it looks for.

The point: tasks that do not know each other, so that it does not matter where they are, or which of them is still
there. Three workers count letters. One of them fails in the middle of its first job, and as it has only claimed that,
the job comes back to the space, and another one does it. Nobody keeps a list of who does what. The figure is the
letters: none is lost.

Sources: D. Gelernter, Generative communication in Linda (1985); B. Eckel's eighth wish (python-dev, September 2005);
told in our own words.
"""

from collections import Counter

import thistledown as td

TEXT = "out puts a tuple into the space in takes one out and rd reads one and leaves it there"
space = td.Space()


async def worker(name: str, fails: bool) -> None:
    while True:
        with await space.take(("count", int, str), lease=60) as (_, number, word):
            await td.sleep(0.001)  # others have their turn
            if fails:
                raise ConnectionError(f"{name} is gone in the middle of job {number}")
            await space.write(("counted", number, name, tuple(Counter(word).items())))


async def clumsy() -> None:
    try:
        await worker("clumsy", fails=True)
    except ConnectionError as error:
        print(error)


async def main() -> None:
    letters: Counter[str] = Counter()
    async with td.TaskGroup() as group:
        group.go(clumsy)
        for name in ("anna", "bert"):
            group.go(worker, name, fails=False)
        for number, word in enumerate(TEXT.split()):
            await space.write(("count", number, word))
        for number in range(len(TEXT.split())):
            _, _, _, counts = await space.take(("counted", number, str, tuple))
            letters.update(dict(counts))
        group.cancel()
    assert letters == Counter(TEXT.replace(" ", ""))
    print("counted", letters.total(), "letters:", letters.most_common(3))


td.run(main)
