"""Parallel map over threads, in order and with little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from threadpoolctl import threadpool_limits

A = TypeVar("A")
B = TypeVar("B")


def ordered_map(work: Callable[[A], B], items: Iterable[A], threads: int) -> Iterator[B]:
    """Yield results in the order of the items, so that sums don't depend on the threads.

    Only a few items are read ahead. BLAS uses one thread, since each item has its own.
    """
    source = iter(items)
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(work, item) for item in islice(source, threads + 1)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(work, item) for item in islice(source, 1)]
