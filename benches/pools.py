"""The process pools that are measured, each opened as its users would, with the same few verbs for all."""

import concurrent.futures
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from operator import methodcaller
from typing import Any

import peers
import work

#: Worker processes of a pool, whatever the machine has.
WORKERS = 2
#: Batches a worker of a map, for peers that leave it to the caller: what multiprocessing.Pool takes by itself.
BATCHES = 4


@dataclass(frozen=True)
class Pool:
    #: Starts a function with arguments, and gives something to ask for the result by.
    submit: Callable[..., Any]
    #: Waits for the result of one.
    result: Callable[[Any], Any]
    #: Waits for the results of all.
    results: Callable[[Sequence[Any]], list[Any]]
    #: Calls a function for each item, in batches.
    map: Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
    #: The peer's own, for what only this peer has.
    native: Any


def batch(items: Sequence[Any]) -> int:
    return -(-len(items) // (WORKERS * BATCHES))


def each(result: Callable[[Any], Any]) -> Callable[[Sequence[Any]], list[Any]]:
    return lambda handles: [result(handle) for handle in handles]


def of_futures(native: Any, submit: Callable[..., Any], map: Callable[..., list[Any]]) -> Pool:
    result = methodcaller("result")
    return Pool(submit, result, each(result), map, native)


def of_async_results(native: Any) -> Pool:
    result, apply_async = methodcaller("get"), native.apply_async
    return Pool(lambda function, *args: apply_async(function, args), result, each(result), native.map, native)


@contextmanager
def thistledown(workers: int) -> Iterator[Pool]:
    import thistledown as td

    with td.Workers(workers) as pool:
        yield of_futures(pool, pool.go, lambda function, items: list(pool.map(function, items)))


@contextmanager
def stdlib_pool(method: str, workers: int) -> Iterator[Pool]:
    with multiprocessing.get_context(method).Pool(workers) as pool:
        yield of_async_results(pool)


def of_executor(executor: concurrent.futures.Executor) -> Pool:
    return of_futures(
        executor, executor.submit, lambda function, items: list(executor.map(function, items, chunksize=batch(items)))
    )


@contextmanager
def stdlib_executor(method: str, workers: int) -> Iterator[Pool]:
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as executor:
        yield of_executor(executor)


@contextmanager
def loky(workers: int) -> Iterator[Pool]:
    with peers.load("loky").get_reusable_executor(max_workers=workers) as executor:
        yield of_executor(executor)


@contextmanager
def pebble(method: str, workers: int) -> Iterator[Pool]:
    context = multiprocessing.get_context(method)
    with peers.load("pebble").ProcessPool(max_workers=workers, context=context) as pool:
        yield of_futures(
            pool,
            lambda function, *args: pool.schedule(function, args=args),
            lambda function, items: list(pool.map(function, items, chunksize=batch(items)).result()),
        )


@contextmanager
def mpire(workers: int) -> Iterator[Pool]:
    with peers.load("mpire").WorkerPool(n_jobs=workers, start_method="fork", keep_alive=True) as pool:
        yield of_async_results(pool)


@contextmanager
def ray(workers: int) -> Iterator[Pool]:
    ray = peers.load("ray")
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    remote = cache(ray.remote)

    def map(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return list(peers.load("ray.util.multiprocessing").Pool(workers).map(function, items))

    try:
        yield Pool(lambda function, *args: remote(function).remote(*args), ray.get, ray.get, map, ray)
    finally:
        ray.shutdown()


@contextmanager
def dask(workers: int) -> Iterator[Pool]:
    distributed = peers.load("distributed")
    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": "ERROR"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        # Functions that are not pure run each time, as everybody else's do.
        yield Pool(
            partial(client.submit, pure=False),
            methodcaller("result"),
            client.gather,
            lambda function, items: list(client.gather(client.map(function, items, pure=False))),
            client,
        )


POOLS: dict[str, Callable[[int], AbstractContextManager[Pool]]] = {
    "thistledown": thistledown,
    "multiprocessing.Pool / fork": partial(stdlib_pool, "fork"),
    "multiprocessing.Pool / spawn": partial(stdlib_pool, "spawn"),
    "ProcessPoolExecutor / fork": partial(stdlib_executor, "fork"),
    "ProcessPoolExecutor / forkserver": partial(stdlib_executor, "forkserver"),
    "loky": loky,
    "pebble / fork": partial(pebble, "fork"),
    "mpire / fork": mpire,
    "ray": ray,
    "dask": dask,
}

STDLIB_POOL = "multiprocessing.Pool / fork"
STDLIB_EXECUTOR = "ProcessPoolExecutor / fork"


@contextmanager
def opened(case: str, workers: int = WORKERS) -> Iterator[Pool]:
    """The pool of a case, with all its workers at work."""
    if case != "ray":
        hide_main()  # Ray finds by it where the program's modules are
    with POOLS[case](workers) as pool:
        pool.results([pool.submit(work.pause, 0.1) for _ in range(workers)])
        yield pool


def hide_main() -> None:
    """Workers that start anew import the main module, which is the bench here, and would be a program's own."""
    vars(sys.modules["__main__"]).pop("__file__", None)
