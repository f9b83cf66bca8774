"""Replacement of threads, clock, randomness, disk calls and S3 client in the modules of ego4dfs.

Every module of ego4dfs uses them as `threading.Lock()`, `time.monotonic()` and so on. So the names
`threading`, `time`, `queue` and `random` in those modules are the seam: the product has no code for
the simulation, and pays nothing for it.
"""

from __future__ import annotations

import concurrent.futures._base
import queue
import random
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import diskcache.core
import tenacity

import ego4dfs.session
import ego4dfs.sqlite
import ego4dfs.store.obstore_s3
import ego4dfs.vfs  # noqa: F401 - with it all modules that a VFS uses
from ego4dfs import sqlite
from ego4dfs.runtime import deadline
from simulation.primitives import RLock, queue_module, threading_module, time_module
from simulation.scheduler import Scheduler

_LIBRARIES = (tenacity, diskcache.core, concurrent.futures._base)


def _modules() -> list[ModuleType]:
    ours = [m for name, m in list(sys.modules.items()) if name.partition(".")[0] == "ego4dfs"]
    return [*ours, *_LIBRARIES]


@contextmanager
def replaced(
    scheduler: Scheduler, seed: int, others: Mapping[ModuleType, Mapping[str, Any]]
) -> Iterator[None]:
    """Run ego4dfs on a scheduler; `others` are further names to replace, by module."""
    by_identity = {
        id(threading): threading_module(scheduler),
        id(time): time_module(scheduler),
        id(queue): queue_module(scheduler),
        id(random): random.Random(f"{seed} product"),
        id(sqlite.fork_lock): RLock(scheduler),
        id(deadline._call): threading_module(scheduler).local(),
    }
    saved: list[tuple[ModuleType, str, Any]] = []
    missing = object()

    def replace(module: ModuleType, name: str, value: Any) -> None:
        saved.append((module, name, module.__dict__.get(name, missing)))
        setattr(module, name, value)

    try:
        for module in _modules():
            for name, value in list(module.__dict__.items()):
                if id(value) in by_identity:
                    replace(module, name, by_identity[id(value)])
        for module, names in others.items():
            for name, value in names.items():
                replace(module, name, value)
        yield
    finally:
        for module, name, value in reversed(saved):
            if value is missing:
                delattr(module, name)
            else:
                setattr(module, name, value)
