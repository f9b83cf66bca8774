"""Threads that read for an event loop: a slot is held until the read has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TypeVar

from ego4dfs.errors import ProcessLimit
from ego4dfs.runtime.daemon_threads import DaemonThreadPool

_Result = TypeVar("_Result")


class Threads:
    """At most `limit` reads at a time. The others wait in the event loop, in their order."""

    def __init__(self, name: str, limit: int) -> None:
        self._pool = DaemonThreadPool(name)
        self._limit = limit
        self._slots = asyncio.Semaphore(limit)

    async def run(self, read: Callable[[], _Result]) -> _Result:
        """Return what `read` returns.

        If the caller is cancelled, a read that has not begun is not done; one that runs has its
        slot until it ends. Raises ProcessLimit if no thread can be started.
        """
        await self._slots.acquire()
        future: Future[_Result] = Future()
        future.add_done_callback(partial(self._free, asyncio.get_running_loop()))
        if not self._pool.submit(partial(_settle, future, read), limit=self._limit):
            future.set_exception(ProcessLimit("no thread can be started"))
        return await asyncio.wrap_future(future)

    def _free(self, loop: asyncio.AbstractEventLoop, _: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._slots.release)


def _settle(future: Future[_Result], read: Callable[[], _Result]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(read())
    except BaseException as error:  # noqa: BLE001 - raised in the event loop
        future.set_exception(error)
    finally:
        del future  # else a cycle: its exception refers to this frame
