"""Makes docs/images/top.png: the page of `thistledown top --web`, of a real program, in a real browser.

    python scripts/web_picture.py

The program is at the end of this file. Half of a minute of it is watched, so that the timeline has something to show.
"""

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import Browser  # noqa: E402
from thistledown import _web  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "top.png"
WATCHED = 30
"""Seconds of the program that are seen."""

PROGRAM = """
import random, time
import thistledown as td

def resize(number):
    end = time.monotonic() + random.Random(number).uniform(0.1, 0.9)
    while time.monotonic() < end:
        sum(range(1000))
    if number % 13 == 7:
        raise ValueError(f"picture-{number}.png is no picture")
    return number

def index(number):
    time.sleep(0.15 + number % 3 * 0.2)

class Album:
    async def add(self, number):
        await td.sleep(0.45)

class Search:
    def learn(self, number):
        end = time.monotonic() + 0.09
        while time.monotonic() < end:
            sum(range(1000))

async def visitor(requests):
    async for request in requests:
        await td.sleep(0.2)

async def pictures(pool, requests, albums, search):
    for number in range(10_000):
        tasks = [pool.options(name=f"resize-{10 * number + n}").go(resize, 10 * number + n) for n in range(6)]
        tasks += [pool.options(name=f"index-{10 * number + n}").go(index, n) for n in range(4)]
        for task in tasks:
            await requests.send(number)
            try:
                number = await task
            except ValueError:
                continue
            random.choice(albums).add(number)
            search.learn(number)

async def main():
    requests = td.Channel(8)
    async with td.Workers(4) as pool, td.TaskGroup() as group:
        for _ in range(3):
            group.go(visitor, requests)
        albums = [td.here.options(name=f"album-{name}", mailbox=40).actor(Album) for name in ("anna", "bert", "carol")]
        search = td.actor.options(name="search")(Search)
        idle = pool.options(name="archive").actor(Search)
        group.go(pictures, pool, requests, albums, search)
        print("there", flush=True)

td.run(main)
"""


def main() -> None:
    """Runs the program, looks at it, and takes the picture."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "pictures.py"
        source.write_text(PROGRAM)
        with subprocess.Popen([sys.executable, source.name], cwd=folder, stdout=subprocess.PIPE) as program:
            try:
                assert program.stdout is not None
                program.stdout.readline()
                take(program.pid)
            finally:
                program.kill()


def take(pid: int) -> None:
    """The picture of a program that runs."""
    with _web.Page(pid, 0, 1.0) as page, Browser() as browser:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        browser.goes_to(page.address)
        browser.waits_for(f"document.body && document.body.dataset.received > {WATCHED}")
        browser.takes_picture(PICTURE, 1320)
        page.shutdown()


if __name__ == "__main__":
    main()
