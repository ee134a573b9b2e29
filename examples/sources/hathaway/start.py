"""A function in a process of its own, started by name: `start`, `.running()`, `.result()`, and closing by `with`.

The point: a process as easy as a call, without a fork of what the program has open, and without importing here what
runs there. The figures are what came out, what was done meanwhile, and that an hour's sleep is not waited for.

Source: S. Hathaway, Pythonic concurrency (python-dev, September 2005); told in our own words.
"""

import time

from thistledown import pyprocess

with pyprocess.start("math", "factorial", 300_000) as process:
    looked = 0
    while process.running():
        looked += 1
        time.sleep(0.001)  # something else
    print(f"factorial(300000) has {process.result().bit_length():,} bits; looked {looked} times meanwhile")

    process.call("time", "sleep", 3600)  # the same process, for another function
    print("running:", process.running())

print("closed; running:", process.running())
