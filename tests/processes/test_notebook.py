"""Cells of a real notebook: a Jupyter kernel in a process of its own, with its asyncio loop running."""

import json
import os
import subprocess
import sys
import textwrap

from support import PATIENCE

NOTEBOOK = """
    import json
    import sys

    import nbformat
    from nbclient import NotebookClient

    cells = [nbformat.v4.new_code_cell(source) for source in json.load(sys.stdin)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()

    def shown(output):
        if "text" in output:
            return output["text"]
        return output["data"].get("text/html") or output["data"]["text/plain"]

    printed = [[shown(output) for output in cell.outputs if output.get("name") != "stderr"] for cell in notebook.cells]
    json.dump(printed, sys.stdout)
"""


def results(tmp_path, *cells):
    """What each cell showed, without its standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(NOTEBOOK)],
        input=json.dumps([textwrap.dedent(cell) for cell in cells]),
        capture_output=True,
        text=True,
        timeout=PATIENCE + 60,
        cwd=tmp_path,
        env={**_environment(), "IPYTHONDIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}


def test_cells_start_tasks_wait_for_them_and_redefine_their_functions(tmp_path):
    shown = results(
        tmp_path,
        "import thistledown as td",
        """
        def scale(number): return FACTOR * number
        FACTOR = 2
        td.go(scale, 2).result()
        """,
        "await td.go(scale, 3)",
        """
        FACTOR = 5
        list(td.map(scale, range(3)))
        """,
        "def scale(number): return -FACTOR * number",
        "[await task for task in [td.go(scale, number) for number in range(3)]]",
    )
    assert shown == [[], ["4"], ["6"], ["[0, 5, 10]"], [], ["[0, -5, -10]"]]


def test_a_cell_survives_the_death_of_a_worker(tmp_path):
    shown = results(
        tmp_path,
        """
        import os
        import thistledown as td
        try:
            td.go(os._exit, 3).result()
        except td.WorkerDied as error:
            print(error.exitcode)
        """,
        "td.go(lambda: 42).result()",
    )
    assert shown == [["3\n"], ["42"]]


def test_a_map_shows_its_progress_as_html_without_any_widgets(tmp_path):
    without_widgets = "import sys; sys.modules['ipywidgets'] = None"
    mapped, unknown, failing, gathered = results(
        tmp_path,
        without_widgets,
        "import thistledown as td\nshown = list(td.map(abs, range(-300, 0), progress=True))",
        "shown = list(td.map(abs, iter(range(30)), buffersize=4, progress=True))",
        """
        try:
            list(td.map(divmod, [7, 7, 7], [1, 0, 1], chunksize=1, progress=True))
        except ZeroDivisionError:
            pass
        """,
        "shown = [task async for task in td.as_completed([td.go(abs, -1)], progress=True)]",
    )[1:]
    [bar] = mapped
    assert '<progress value="300" max="300"' in bar, "one, which was shown again in its place"
    assert "<span>abs: 300/300 (100 %) in " in bar
    assert "<span>abs: 30 in " in unknown[0]
    assert '<progress value="1" max="3"' in failing[0]
    assert "#c62828" in failing[0]
    assert '<progress value="1" max="1"' in gathered[0]


def test_tasks_and_pools_show_themselves_as_html_below_their_cell(tmp_path):
    [task], [pool] = results(
        tmp_path,
        "import thistledown as td\ntask = td.go(abs, -4)\ntask.result()\ntask",
        "pool = td.Workers(1)\npool.submit(abs, -4).result()\npool",
    )
    assert task.startswith('<table class="thistledown">')
    assert ">done</span>" in task
    assert "1 worker<" in pool
    assert pool.startswith('<table class="thistledown">')


def test_an_interrupted_cell_leaves_a_pool_that_works(tmp_path):
    shown = results(
        tmp_path,
        """
        import os, signal, time
        import thistledown as td
        pool = td.Workers(1, grace=0.1)
        def interrupt(pid):
            os.kill(pid, signal.SIGINT)
            time.sleep(60)
        task = pool.submit(interrupt, os.getpid())
        try:
            task.result()
        except KeyboardInterrupt:
            print("interrupted", task.cancel())
        """,
        """
        print(pool.submit(abs, -4).result(), task.cancelled())
        pool.shutdown()
        """,
    )
    assert shown == [["interrupted True\n"], ["4 True\n"]]


def test_weightless_tasks_channels_and_scopes_in_the_loop_of_a_notebook(tmp_path):
    shown = results(
        tmp_path,
        """
        import asyncio
        import thistledown as td
        channel = td.Channel()
        async def produce(count):
            for number in range(count):
                await channel.send(number)
            channel.close()
        task = td.go(produce, 3)
        """,
        "[number async for number in channel]",
        "await task; task",
        """
        with td.move_on_after(0.01) as scope:
            await asyncio.sleep(3600)
        scope.expired
        """,
        """
        async with td.TaskGroup() as group:
            tasks = [group.go(td.sleep(0)), group.go(asyncio.sleep(0, "theirs"))]
        [task.result() for task in tasks]
        """,
        "await td.select(td.Channel().recv(), td.after(0.001))",
    )
    assert shown[0] == []
    assert shown[1] == ["[0, 1, 2]"]
    assert ">done</span>" in shown[2][0]
    assert shown[3:] == [["True"], ["[None, 'theirs']"], ["Selected(index=1, value=None)"]]
