"""The pytest plugin: what a test leaves behind, its time limit with the tree, and the fixture of the virtual clock."""

import textwrap

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture
def run(pytester):
    """Runs a test module with the plugin, in a process of its own; gives the result."""

    def run(source, *options):
        pytester.makepyfile(textwrap.dedent(source))
        plugin = ("-p", "thistledown.pytest_plugin")
        return pytester.runpytest_subprocess(*plugin, "-p", "no:cacheprovider", "-q", *options, timeout=60)

    return run


def test_it_is_off_until_it_is_asked_for(pytester):
    pytester.makepyfile(
        "def test_asks(pytestconfig):\n    assert not pytestconfig.pluginmanager.has_plugin('thistledown')"
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--fixtures")
    result.stdout.no_fnmatch_line("*virtual_run*")


def test_a_test_that_leaves_nothing_passes(run):
    result = run(
        """
        import os
        import threading
        import thistledown as td

        async def main():
            async with td.TaskGroup() as group:
                tasks = [group.go(sleeps) for _ in range(10)]
            return len(tasks) + await td.thread(int)

        async def sleeps():
            await td.sleep(0.001)

        def test_weightless():
            assert td.run(main) == 10

        def test_waits_in_the_main_thread():
            td.sleep(0.001).wait()

        def test_workers():
            with td.Workers(1) as pool:
                assert pool.go(len, "abc").result() == 3

        def test_thread():
            thread = threading.Thread(target=td.sleep(0.001).wait)
            thread.start()
            thread.join()

        def test_descriptor(tmp_path):
            with open(tmp_path / "file", "w"):
                pass
        """
    )
    result.assert_outcomes(passed=5)


LEAKS = """
    import os
    import threading
    import pytest
    import thistledown as td

    held = []

    def test_thread():
        thread = threading.Thread(target=threading.Event().wait, name="left alone", daemon=True)
        thread.start()

    def test_descriptor(tmp_path):
        held.append(open(tmp_path / "left-open", "w"))

    def test_worker():
        pool = td.Workers(1)
        held.append(pool)
        assert pool.go(len, "abc").result() == 3

    def test_task():
        started = threading.Event()

        async def main():
            td.go(waits, td.Channel())
            started.set()

        async def waits(channel):
            await channel.recv()

        threading.Thread(target=td.run, args=(main,), name="runs", daemon=True).start()
        started.wait()
    """


def test_what_is_left_behind_fails_the_test_that_left_it(run):
    result = run(LEAKS, "-W", "ignore")
    result.assert_outcomes(passed=4, errors=4)
    result.stdout.fnmatch_lines(
        ["*thread left alone*", "*descriptor *left-open*", "*worker *", "*task *waits-*", "*thread runs*"]
    )


def test_the_ini_file_and_the_marker_say_what_is_looked_for(run, pytester):
    pytester.makeini("[pytest]\nthistledown_leaks = workers, tasks\n")
    result = run(
        LEAKS.replace("def test_task", "@pytest.mark.thistledown(leaks='none')\n    def test_task"), "-W", "ignore"
    )
    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_worker*"])


def test_what_a_wider_fixture_has_is_not_the_tests(run):
    result = run(
        """
        import pytest
        import thistledown as td

        @pytest.fixture(scope="module")
        def pool():
            with td.Workers(1) as pool:
                assert pool.go(len, "abc").result() == 3
                yield pool

        def test_uses_it(pool):
            assert pool.go(len, "ab").result() == 2
        """
    )
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    "hang",
    ["td.run(hangs)", "hangs_in_a_thread()", "hangs_in_a_worker()", "td.run(hangs_in_a_group)"],
)
def test_a_test_that_takes_too_long_fails_and_prints_the_tree(run, hang):
    result = run(
        f"""
        import threading
        import time
        import pytest
        import thistledown as td

        async def hangs():
            await td.sleep(100)

        async def hangs_in_a_group():
            async with td.TaskGroup() as group:
                group.go(hangs)

        def hangs_in_a_thread():
            td.Channel().recv().wait()

        def hangs_in_a_worker():
            with td.Workers(1, grace=0.1) as pool:
                task = pool.go(time.sleep, 100)
                try:
                    task.result()
                finally:
                    task.cancel()

        @pytest.mark.thistledown(timeout=0.5)
        def test_hangs():
            {hang}

        def test_next():
            pass
        """,
        "-o",
        "thistledown_leaks=none",
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*the test has not ended within 0.5 seconds*", "*process *", "*wait*"])


def test_the_limit_of_the_ini_file_is_for_all_tests(run, pytester):
    pytester.makeini("[pytest]\nthistledown_timeout = 0.5\n")
    result = run("import time\ndef test_sleeps():\n    time.sleep(100)\ndef test_quick():\n    pass")
    result.assert_outcomes(passed=1, failed=1)


def test_a_test_that_is_stuck_in_c_ends_the_session_with_the_stacks(run):
    result = run(
        """
        import ctypes
        import pytest
        from thistledown import pytest_plugin

        pytest_plugin.HARD_SECONDS = 0.5

        @pytest.mark.thistledown(timeout=0.5)
        def test_stuck():
            c, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
            for _ in range(2):
                c.pthread_mutex_lock(mutex)
        """
    )
    assert result.ret == 1
    result.stderr.fnmatch_lines(["Timeout*", "*in test_stuck"])


def test_a_time_limit_hides_no_deadlock(run):
    result = run(
        """
        import pytest
        import thistledown as td

        async def waits():
            await td.Channel().recv()

        @pytest.mark.thistledown(timeout=50)
        def test_deadlock():
            with pytest.raises(td.DeadlockError):
                td.run(waits)
        """
    )
    result.assert_outcomes(passed=1)


def test_what_a_test_over_its_time_leaves_running_is_cancelled_and_named(run):
    result = run(
        """
        import time
        import pytest
        import thistledown as td

        async def waits():
            await td.Channel().recv()

        @pytest.mark.thistledown(timeout=0.5)
        def test_hangs_in_a_worker():
            td.go(time.sleep, 100).result()

        @pytest.mark.thistledown(timeout=50)
        def test_deadlock():
            with pytest.raises(td.DeadlockError):
                td.run(waits)
        """,
        "-o",
        "thistledown_leaks=tasks",
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*left running by the test*", "task sleep-* of a worker process: cancelled"])


def test_what_was_there_before_a_test_over_its_time_goes_on(run):
    result = run(
        """
        import time
        import pytest
        import thistledown as td

        @pytest.fixture(scope="module")
        def task():
            with td.Workers(1, grace=0.1) as pool:
                task = pool.go(time.sleep, 100)
                yield task
                task.cancel()

        @pytest.mark.thistledown(timeout=0.5)
        def test_waits_for_it(task):
            task.result()

        def test_it_goes_on(task):
            assert not task.done()
        """
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*left running by the test*")


def test_the_ini_file_says_how_long_what_ends_may_take(run, pytester):
    pytester.makeini("[pytest]\nthistledown_patience = 0\n")
    result = run(
        """
        import threading
        import time

        over = threading.Event()

        def test_thread():
            threading.Thread(target=lambda: over.wait(30), name="on its way out", daemon=True).start()
            threading.Timer(0.5, over.set).start()
        """
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*thread on its way out*"])


def test_a_patience_that_makes_no_sense_is_said(run, pytester):
    pytester.makeini("[pytest]\nthistledown_patience = soon\n")
    result = run("def test_one():\n    pass")
    result.stdout.fnmatch_lines(["*UsageError: thistledown: patience is a number of seconds*"])


def test_a_run_on_the_virtual_clock_takes_no_time(run):
    result = run(
        """
        import thistledown as td

        async def sleeps():
            with td.move_on_after(3600) as scope:
                await td.sleep(7200)
            return scope.expired

        def test_sleeps(virtual_run):
            assert virtual_run(sleeps)
        """
    )
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("marker", ["leaks='socks'", "timeout='soon'", "limit=3", "5"])
def test_a_marker_that_makes_no_sense_is_said(run, marker):
    result = run(f"import pytest\n@pytest.mark.thistledown({marker})\ndef test_one():\n    pass")
    result.stdout.fnmatch_lines(["*UsageError*"])
    assert result.ret != 0
