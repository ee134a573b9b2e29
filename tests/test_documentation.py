"""What the documents say is true: their programs run, their links lead somewhere, their promises have tests.

A block marked `python` in the README or in `docs/` is a program of its own, run in an empty folder until it
ends. A block marked `output` right after it is what it prints. A comment before it can say that it is run in
another way. CONTRIBUTING.md has the rules for who writes one.
"""

import importlib.util
import inspect
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import thistledown as td
from thistledown import _deaths, _failures, _pickling, _server, _threads, _tree, _tree_pools

from support import PATIENCE

ROOT = Path(__file__).resolve().parent.parent
RUN_PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ALL_PAGES = sorted({*RUN_PAGES, *ROOT.glob("*.md"), *ROOT.glob("examples/**/*.md")})

FENCE = re.compile(
    r"""
    (?: <!--\ (?P<how>until\ stopped|run\ by|needs|only\ compiled):\ (?P<what>[^>\n]+?)\ -->\s*\n )?
    ^(?P<indent>[ ]*)```(?P<language>\S*)(?P<rest>[^\n]*)\n
    (?P<body>.*?)
    ^(?P=indent)```[ ]*$
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
LANGUAGES = {"python", "output", "console", "text", "rust", "toml"}


@dataclass(frozen=True)
class Program:
    """One `python` block: its place, what it must print, and how it is run, if a comment says so.

    `until stopped`: it listens on that port until Ctrl-C. `run by`: it is a file of tests, or has the cells of a
    notebook. `needs`: it is run where that package is installed. `only compiled`: it is not run, for that reason.
    """

    place: str
    source: str
    output: str | None = None
    how: str | None = None
    what: str | None = None


def programs(name: str, page: str) -> list[Program]:
    """Every `python` block of a page, in order."""
    found: list[Program] = []
    end_of_last = -1
    for fence in FENCE.finditer(page):
        line = page.count("\n", 0, fence.start("language")) + 1
        body = textwrap.dedent(fence["body"])
        assert fence["language"] in LANGUAGES, f"{name}:{line}: a block must be marked as one of {LANGUAGES}"
        assert not fence["rest"].strip(), f"{name}:{line}: nothing may follow the language of a block"
        if fence["language"] == "python":
            found.append(Program(f"{name}:{line}", body, None, fence["how"], fence["what"]))
            end_of_last = fence.end()
        elif fence["language"] == "output":
            assert found, f"{name}:{line}: no program before this output"
            assert not page[end_of_last : fence.start("indent")].strip(), f"{name}:{line}: output of what?"
            found.append(replace(found.pop(), output=body))
    return found


PROGRAMS = [program for page in RUN_PAGES for program in programs(str(page.relative_to(ROOT)), page.read_text())]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_it_answers(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
            return
        except ConnectionRefusedError:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "the program never listened"
            time.sleep(0.02)  # another process cannot be waited for in another way


def command(source: str, folder: Path) -> list[str]:
    """Run from a file, as a reader would run it: so that errors can show their lines."""
    (folder / "program.py").write_text(source)
    return [sys.executable, "program.py"]


def command_of_pytest(source: str, folder: Path) -> list[str]:
    (folder / "test_program.py").write_text(source)
    plugins = ["-p", "thistledown.pytest_plugin", "-p", "no:cacheprovider"]
    return [sys.executable, "-m", "pytest", "-q", *plugins, "test_program.py"]


NOTEBOOK = """\
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

sources = Path("cells.py").read_text().split("# %%\\n")
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources if source.strip()])
NotebookClient(notebook, kernel_name="python3").execute()
for cell in notebook.cells:
    for output in cell.outputs:
        print(output.text, end="", file=getattr(sys, output.name))
"""


def command_of_jupyter(source: str, folder: Path) -> list[str]:
    """The cells of a notebook, which `# %%` divides, in a kernel of their own."""
    (folder / "cells.py").write_text(source)
    return [sys.executable, "-W", "ignore", "-c", NOTEBOOK]


RUNNERS = {"pytest": command_of_pytest, "jupyter": command_of_jupyter}


def run_until_stopped(program: Program, folder: Path) -> None:
    """Run a program that serves; Ctrl-C must end it, and no other error."""
    assert program.what is not None
    assert program.what in program.source
    port = free_port()
    source = program.source.replace(program.what, str(port))
    with subprocess.Popen(command(source, folder), cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until_it_answers(process, port)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode in (-signal.SIGINT, 130), errors
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors


def run_until_it_ends(program: Program, words: list[str], folder: Path) -> None:
    # What Jupyter keeps of its user is not this machine's.
    aside = {"IPYTHONDIR": str(folder), "JUPYTER_RUNTIME_DIR": str(folder)}
    ended = subprocess.run(
        words,
        cwd=folder,
        env={name: value for name, value in {**os.environ, **aside}.items() if not name.startswith("PYTEST")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    if program.output is not None:
        assert ended.stdout == program.output


def is_only_compiled(program: Program) -> bool:
    if program.how == "needs":
        assert program.what is not None
        return importlib.util.find_spec(program.what) is None
    return program.how == "only compiled"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.place)
def test_program_in_the_documents_runs(program: Program, tmp_path: Path) -> None:
    if is_only_compiled(program):
        compile(program.source, program.place, "exec")
    elif program.how == "until stopped":
        run_until_stopped(program, tmp_path)
    elif program.how == "run by":
        assert program.what in RUNNERS, f"{program.place}: a block is run by one of {sorted(RUNNERS)}"
        run_until_it_ends(program, RUNNERS[program.what](program.source, tmp_path), tmp_path)
    else:
        run_until_it_ends(program, command(program.source, tmp_path), tmp_path)


def test_the_documents_have_programs() -> None:
    pages = {program.place.rpartition(":")[0] for program in PROGRAMS}
    assert {"README.md", "docs/tutorial.md", "docs/guides/sockets.md", "docs/concepts/scopes.md"} <= pages


def test_a_page_is_read_as_its_rules_say() -> None:
    page = textwrap.dedent(
        """\
        Some words, and `python` in them.

        ```python
        print(1)
        ```

        ```output
        1
        ```

        - In a list:

          <!-- until stopped: 25000 -->
          ```python
          serve(25000)
          ```
        """
    )
    assert programs("page.md", page) == [
        Program("page.md:3", "print(1)\n", "1\n"),
        Program("page.md:14", "serve(25000)\n", None, "until stopped", "25000"),
    ]


@pytest.mark.parametrize("block", ["```py\n1\n```", "```\n1\n```", "```python hl\n1\n```", "```output\n1\n```"])
def test_a_block_that_would_not_be_run_is_refused(block: str) -> None:
    with pytest.raises(AssertionError, match=r"page\.md:1"):
        programs("page.md", block)


# --- links ------------------------------------------------------------------------------------------------


def heading_anchor(heading: str) -> str:
    text = re.sub(r"[`*_]", "", heading.strip().lower())
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", text))


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    prose = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor and path.suffix == ".md":
            headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", path.read_text()), re.MULTILINE)
            assert anchor in map(heading_anchor, headings), f"{page.name}: {target}"


def hook_of_the_site() -> types.ModuleType:
    found = importlib.util.spec_from_file_location("measured", ROOT / "scripts" / "measured.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_comparison_has_every_measured_table() -> None:
    measured = hook_of_the_site()
    results = measured.RESULTS.read_text()
    page = measured.filled((ROOT / "docs" / "comparison.md").read_text(), results)
    titles = re.findall(r"^## (.+)$", results, re.MULTILINE)
    assert len(titles) > 30
    assert re.findall(r"^### (.+)$", page, re.MULTILINE) == titles
    for row in re.findall(r"^\| thistledown.*$", results, re.MULTILINE):
        assert row in page


def test_the_picture_shows_the_results() -> None:
    command = [sys.executable, ROOT / "scripts" / "plot.py", "--check"]
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert drawn.returncode == 0, f"`make plot` draws it anew: {drawn.stderr}"


def test_a_comparison_in_short_names_the_best_of_both_sides() -> None:
    measured = hook_of_the_site()
    results = textwrap.dedent(
        """\
        # Results

        ## Switch

        | case | ns/switch, median [min-max] | vs other |
        |---|---|---|
        | seed | 10.00 [9.00-11.00] | 0.01x |
        | thistledown / async | 90.00 [80.00-95.00] | 0.08x |
        | thistledown / generator | 95.00 [80.00-99.00] | 0.08x |
        | other | 1,080 [1,000-1,100] | 1.00x |

        ## Rate

        | case | calls/s, median [min-max] | vs other |
        |---|---|---|
        | other / fast | 3.00 [3.00-3.00] | 1.00x |
        | thistledown | 2.00 [2.00-2.00] | 0.66x |
        """
    )
    assert measured.filled("<!-- measured: in short -->", results).splitlines()[2:] == [
        "| Switch | ns/switch | 90.00 | 1,080, other | 12 times better |",
        "| Rate | calls/s | 2.00 | 3.00, other / fast | **1.5 times worse** |",
    ]
    with pytest.raises(ValueError, match="in short, in full"):
        measured.filled("<!-- measured: everything -->", results)


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs" / "reference.md").read_text()
    assert sorted(re.findall(r"^::: thistledown\.(\w+)$", page, re.MULTILINE)) == sorted(td.__all__)


# --- promises -----------------------------------------------------------------------------------------------

PROMISES = ROOT / "docs" / "semantics.md"
NAMED_TEST = re.compile(r"`(tests/(?:\w+/)*test_\w+\.py)::(test_\w+)`")


def test_every_promise_names_tests_that_exist() -> None:
    page = PROMISES.read_text()
    promises = re.findall(r"^- \*\*.*?(?=^- \*\*|^#|\Z)", page, re.MULTILINE | re.DOTALL)
    assert len(promises) > 30
    unproved = [promise.splitlines()[0] for promise in promises if not NAMED_TEST.search(promise)]
    assert unproved == []
    missing = [
        f"{file}::{test}"
        for file, test in NAMED_TEST.findall(page)
        if not re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)
    ]
    assert missing == []


# --- limits -------------------------------------------------------------------------------------------------


def limits(page: Path) -> dict[str, str]:
    """The table of limits: what is limited, and its default."""
    table = re.search(r"^\| limit \| default \|.*?\n\n", page.read_text(), re.MULTILINE | re.DOTALL)
    assert table is not None, f"{page.name} has no table of limits"
    rows = [row.split("|") for row in table[0].strip().splitlines()[2:]]
    return {row[1].strip(): row[2].strip() for row in rows}


def operations_until_made_to_give_way() -> int:
    async def nothing() -> None:
        pass

    async def main() -> int:
        channel = td.Channel[int](10_000)
        for number in range(channel.capacity):
            channel.send_nowait(number)
        other = td.go(nothing)
        while not other.done():
            await channel.recv()
        return channel.capacity - len(channel) - 1  # the last one was received after giving way

    count: int = td.run(main)
    return count


def operations_in_one_select(limit: int) -> int:
    """`limit`, when that many are taken and one more is refused."""
    td.select(*[td.sleep(0)] * limit)
    with pytest.raises(ValueError, match=str(limit)):
        td.select(*[td.sleep(0)] * (limit + 1))
    return limit


def test_the_limits_in_the_documents_are_those_of_the_code() -> None:
    def default(function: Callable[..., object], name: str) -> object:
        return inspect.signature(function).parameters[name].default

    documented = limits(PROMISES)
    found = {
        "messages in a channel": td.Channel[int]().capacity,
        "tuples that a watch keeps": default(td.Space.watch, "capacity"),
        "bytes looked through for a separator": default(td.Socket, "limit"),
        "open connections of a server": default(td.serve, "limit"),
        "connections that wait to be accepted": default(td.serve, "backlog"),
        "seconds for a client's TLS handshake": _server.HANDSHAKE_SECONDS,
        "calls in threads at a time": _threads.THREADS,
        "seconds a task may hold the thread": default(td.run, "stall_after"),
        "weightless tasks at a time in a worker": default(td.Workers, "concurrency"),
        "seconds a task in a worker has after it was told to stop": default(td.Workers, "grace"),
        "bytes of a buffer that travels inside of its call or result": _pickling.LARGE_BYTES,
        "lines of stderr in a `td.WorkerDied`": _deaths.TAIL_LINES,
        "causes of causes that an error of a worker brings along": _failures.CHAIN,
        "tasks and groups of one run that a tree names": _tree.LIMIT,
        "tasks of a pool that wait for a worker, and that a tree names": _tree_pools.LISTED,
        "seconds that workers have to say at which lines they stand": _tree_pools.ANSWER_SECONDS,
        "operations in one select": operations_in_one_select(10_000),
        "operations in a row that complete at once": operations_until_made_to_give_way(),
    }
    assert default(td.listen, "backlog") == default(td.serve, "backlog")
    assert default(td.connect, "limit") == default(td.listen, "limit") == default(td.Socket, "limit")
    for limit, value in found.items():
        assert isinstance(value, int | float)
        assert documented[limit].split(" ")[0].rstrip(",") == f"{value:,.10g}"
