"""The task that makes trouble: faults of the store and the disk, replaced objects, kills."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from ego4dfs.cache import CacheAdmin
from ego4dfs.errors import CacheError
from simulation.disk import blocks, damage, forget, locked, tamper
from simulation.faults import CHURN, DISK, KINDS, STORE, Fault
from simulation.world import Mount, World

if TYPE_CHECKING:
    from simulation.scenario import Scenario

_PROBABILITIES = (1.0, 1.0, 0.5, 0.2, 0.05)


class Trouble:
    """Causes faults until `stop`. Each seed has some kinds of faults, and its own pace."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        self._world = world
        self._scenario = scenario
        self._dice = world.faults.dice
        self._gap_s = world.seconds / world.events
        self._duration_s = self._gap_s * self._dice.choice((0.1, 0.5, 2.0))
        self._kinds = self._choice_of_kinds()
        self._churns = self._dice.random() < 0.5
        self._locks: list[Iterator[None]] = []
        self._is_stopped = False

    def _choice_of_kinds(self) -> list[str]:
        """Return the kinds of one run: one, a few, or all."""
        if self._world.kinds:
            return list(self._world.kinds)
        kinds = list(KINDS)
        draw = self._dice.random()
        if draw < 0.3:
            return [self._dice.choice(list(STORE))]
        return kinds if draw > 0.7 else self._dice.sample(kinds, 4)

    def run(self) -> None:
        world = self._world
        if self._dice.random() < 0.5:
            self._cause(self._dice.choice(self._kinds))
        while not self._is_stopped:
            world.scheduler.wait(self._dice.expovariate(1 / self._gap_s))
            if not self._is_stopped:
                self._cause(self._dice.choice(self._kinds))
                if self._churns and self._dice.random() < 0.5:
                    self._cause(self._dice.choice(CHURN))

    def stop(self) -> None:
        """End all faults, and start what was killed."""
        self._is_stopped = True
        self._world.faults.stop()
        for lock in self._locks:
            next(lock, None)
        for mount in self._world.mounts:
            if mount.process is not None:
                mount.process.thread_limit_reached = False

    def _cause(self, kind: str) -> None:
        world = self._world
        world.scheduler.note(f"trouble: {kind}")
        seconds = self._dice.expovariate(1 / self._duration_s)
        if kind in STORE or kind in DISK:
            url = "" if self._dice.random() < 0.5 else self._dice.choice(list(world.files.values()))
            amounts = {"slow": self._dice.choice((200.0, 2e3, 2e4, 3e5))}
            amount = amounts.get(kind, self._dice.choice((-137.0, 137.0, -1e9, 1.0)))
            probability = self._dice.choice(_PROBABILITIES)
            until_s = world.scheduler.now_s + seconds
            is_disk = kind in DISK
            world.faults.add(Fault(kind, "" if is_disk else url, probability, until_s, amount))
            return
        world.faults.counts[kind] += 1
        self._happen(kind, seconds)

    def _happen(self, kind: str, seconds: float) -> None:
        world, dice = self._world, self._dice
        mount = dice.choice(world.mounts)
        events: dict[str, Callable[[], object]] = {
            "replace": lambda: world.replace(dice.choice(list(world.files.values()))),
            "cut a block": lambda: self._damage(kind),
            "remove a block": lambda: self._damage(kind),
            "remove the blocks": lambda: self._damage("remove a block", share=1.0),
            "clear the cache": lambda: self._clear(mount),
            "tamper with facts": lambda: tamper(world.directory, dice),
            "lock the index": lambda: self._lock("v1/blocks/cache.db", seconds),
            "lock the facts": lambda: self._lock("v1/sources/*/facts.sqlite", seconds),
            "no threads": lambda: world.scheduler.spawn(
                lambda: self._limit(mount, seconds), "limit"
            ),
        }
        if kind in events:
            events[kind]()
        elif mount.process is not None:
            world.scheduler.spawn(lambda: self._end(mount, kind, seconds), "killer")

    def _damage(self, how: str, share: float | None = None) -> None:
        share = share if share is not None else self._dice.choice((0.1, 0.5))
        for path in blocks(self._world.directory):
            if self._dice.random() < share:
                damage(path, self._dice, how)

    def _clear(self, mount: Mount) -> None:
        if mount.vfs is not None:
            admin = mount.vfs.session.cache.admin
            world = self._world
            world.scheduler.spawn(lambda: _clear(admin), "clear", mount.process)

    def _lock(self, pattern: str, seconds: float) -> None:
        lock = locked(self._world.directory, pattern)
        next(lock)
        self._locks.append(lock)
        world = self._world
        ends_s = max(world.scheduler.now_s + seconds, world.faults.last_fired_s.get("lock", 0.0))
        world.faults.last_fired_s["lock"] = ends_s

        def release() -> None:
            world.scheduler.wait(seconds)
            next(lock, None)

        world.scheduler.spawn(release, "lock")

    def _limit(self, mount: Mount, seconds: float) -> None:
        process = mount.process
        if process is None:
            return
        process.thread_limit_reached = True
        self._world.scheduler.wait(min(seconds, 30.0))
        process.thread_limit_reached = False

    def _end(self, mount: Mount, kind: str, seconds: float) -> None:
        """Kill or unmount a process, and start another one after a while."""
        process, mount.process = mount.process, None
        if process is None:
            return  # another event has ended it
        vfs, mount.vfs = mount.vfs, None
        old = Mount(process, vfs)
        if kind == "restart":
            self._scenario.restart(old)
        else:
            self._scenario.kill(old)
        if all(m.process is None for m in self._world.mounts):
            if kind == "damage a block":
                self._damage(kind)
            elif kind == "forget":
                forget(self._world.directory)
        self._world.scheduler.wait(min(seconds, 20.0))
        self._scenario.start(mount)


def _clear(admin: CacheAdmin) -> None:
    """Clear the cache, as the command does; it fails while the index cannot be used."""
    with suppress(CacheError, sqlite3.Error):
        admin.clear()
