"""Functions in processes of their own, started by name: `start`, `.running()`, `.result()`, and `ProcessQueue`.

The program imports nothing of the modules it names; the processes do. `with` closes a process, whatever it is doing,
and a queue when its tasks have ended.

Source: S. Hathaway, Pythonic concurrency (python-dev, September 2005); told in our own words.
"""

from thistledown import pyprocess

AGES = [31, 4, 15, 9, 26, 5, 35, 8]


def one_process() -> None:
    with pyprocess.start("math", "factorial", 20) as process:
        print("factorial(20) =", process.result())
        print("running:", process.running())
        process.call("time", "sleep", 3600)
        print("running:", process.running())
    # Left: the hour was not waited for.


def a_queue() -> None:
    with pyprocess.ProcessQueue(max_processes=4) as queue:
        tasks = [queue.put("math", "comb", 40, k) for k in range(0, 41, 10)]
        quartiles = queue.put("statistics", "quantiles", AGES, n=4)
        print("out of 40:", [task.result() for task in tasks])
        print("quartiles:", quartiles.result())

    with pyprocess.ProcessQueue() as queue:  # as many processes as there are cores
        print("roots:", [queue.put("math", "isqrt", n).result() for n in (10**6, 10**12)])


one_process()
a_queue()
