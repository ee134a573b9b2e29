"""Wish 7: it is simple, so that people use it, and a little is lost to it that more processors bring back.

The point: the same words everywhere. What a function has to say is its result; three lines make any loop over files
or numbers a loop over all processors. The figure is the number of words that had to be learnt: `map`, in place of
Python's.

Source: B. Eckel's list, in S. Hathaway's mail to python-dev (September 2005); told in our own words.
"""

import builtins

import thistledown as td


def is_prime(n: int) -> bool:
    return n > 1 and all(n % divisor for divisor in range(2, int(n**0.5) + 1))


for map in (builtins.map, td.map):
    print(sum(map(is_prime, range(20_000))), "primes, by", map.__module__.split(".")[0])
