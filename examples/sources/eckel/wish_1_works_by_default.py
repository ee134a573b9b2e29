"""Wish 1: it works by default. "This is a task, go", and nothing to study first.

The point: a beginner's program, in a file, without a main guard, a lock, a pool, or rules of what can be sent. The
figure is what the tasks give, a lambda and a closure among them, and that they ran in other processes than this one.

Source: B. Eckel's list, in S. Hathaway's mail to python-dev (September 2005); told in our own words.
"""

import os

import thistledown as td

factor = 7


def scaled(n: int) -> tuple[int, bool]:
    return factor * n, os.getpid() == program


program = os.getpid()
task = td.go(scaled, 7)
result, is_here = task.result()
print("49:", result, "- in the program's process:", is_here)
print("a lambda:", td.go(lambda n: n + factor, 1).result())
