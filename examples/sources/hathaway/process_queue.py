"""As many tasks as you like, and a few processes for them: `ProcessQueue(max_processes=4)` and its `put`.

The point: who has thousands of tasks should not have to count processes. The program imports nothing of the modules
that it names; the processes do. The figure is how many processes it took.

Source: S. Hathaway, Pythonic concurrency (python-dev, September 2005); told in our own words.
"""

import os

from thistledown import pyprocess

AGES = [31, 4, 15, 9, 26, 5, 35, 8]

with pyprocess.ProcessQueue(max_processes=4) as queue:
    tasks = [queue.put("os", "getpid") for _ in range(2000)]
    quartiles = queue.put("statistics", "quantiles", AGES, n=4)
    seen = {task.result() for task in tasks}
    print(f"{len(tasks)} tasks, in at most 4 processes: {len(seen) <= 4}; one of them this one: {os.getpid() in seen}")
    print("quartiles:", quartiles.result())

with pyprocess.ProcessQueue() as queue:  # as many processes as there are cores
    tasks = [queue.put("math", "comb", 40, k) for k in range(0, 41, 10)]
    print("out of 40:", [task.result() for task in tasks])
