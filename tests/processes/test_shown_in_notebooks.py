"""Tasks, pools and groups show themselves as HTML where a notebook asks for it, and nothing is asked for by that."""

import re
from html.parser import HTMLParser

import pytest
import thistledown as td

from support import settle


class Whole(HTMLParser):
    """Looks whether each element is closed."""

    def __init__(self, page):
        super().__init__()
        self.open = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, _):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def words(thing):
    """The text of what it shows."""
    page = thing._repr_html_()
    Whole(page)
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def fails():
    raise ValueError("<b>bad</b>")


async def receives(channel):
    await channel.recv()


def test_a_task_of_a_worker_shows_its_end_and_its_error_escaped(pool):
    fine, failing = pool.options(name="<i>fine</i>").go(len, "abc"), pool.go(fails)
    assert fine.result() == 3
    assert isinstance(failing.exception(), ValueError)
    assert words(fine) == "task &lt;i&gt;fine&lt;/i&gt; place a worker process state done"
    assert "state failed error ValueError: &lt;b&gt;bad&lt;/b&gt;" in words(failing)
    assert "<b>" not in failing._repr_html_()


async def test_a_weightless_task_shows_what_it_does(pool):
    task = td.go(receives, td.Channel())
    assert words(task) == f"task {task.name} place this process state running"
    task.cancel()
    await settle()
    assert words(task).endswith("state cancelled")


def test_an_error_that_was_only_shown_is_not_lost(pool):
    async def main():
        task = td.go(raises)
        await settle()
        assert "KeyError" in words(task)

    async def raises():
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        td.run(main)


def test_a_pool_shows_its_workers(pool):
    assert pool.wait_idle(30)
    shown = words(pool)
    assert shown.startswith("pool 2 workers state open tasks 0 queued, 0 with workers,")
    assert all(f"worker {pid}" in shown for pid in pool.statistics()["processes"])


async def test_a_group_shows_its_tasks_wherever_they_run(pool):
    group = td.TaskGroup()
    assert "not entered yet" in words(group)
    async with group:
        task = group.go(receives, td.Channel())
        await settle()
        assert words(group) == f"group open tasks 1 failed 0 {task.name} running"
        for _ in range(30):
            group.go(receives, td.Channel())
        await settle()
        assert words(group).endswith("and 11 more")
        group.cancel()
        assert words(group).startswith("group cancelled tasks 31")
    assert words(group) == "group done"
