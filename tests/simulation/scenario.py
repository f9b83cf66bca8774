"""What happens in one run: mounts start, programs read, faults come and go, and all ends well."""

from __future__ import annotations

import random

from ego4dfs.errors import CacheError, Ego4DError, StoreUnavailable
from ego4dfs.runtime.deadline import CLOSE_S, THROTTLED_S
from ego4dfs.vfs import VFS, open_vfs
from simulation.reader import Reader
from simulation.scheduler import Process
from simulation.trouble import Trouble
from simulation.world import Mount, World

SETTLE_S = 120.0
"""How long after the end of all faults everything must be readable."""
HANG_S = 2000.0
"""No call may take so long, whatever the store does."""
_RETRY_S = 10.0


class Scenario:
    """The main task of a run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._readers: list[Reader] = []
        self._processes = 0

    @property
    def calls(self) -> int:
        return sum(reader.calls for reader in self._readers)

    @property
    def errors(self) -> int:
        return sum(reader.errors for reader in self._readers)

    def watch(self) -> None:
        """End the run when a call hangs."""
        for call in self._world.oracle.calls.values():
            if self._world.scheduler.now_s - call.began_s > HANG_S:
                self._world.oracle.fail(f"{call.text} hangs since {call.began_s:.0f} s")
                self._world.is_over = True

    def run(self) -> None:
        """Run all phases."""
        world = self._world
        for mount in world.mounts:
            self.start(mount)
        trouble = Trouble(world, self)
        world.scheduler.spawn(trouble.run, "trouble")
        world.scheduler.wait(world.seconds)
        world.is_ending = True
        trouble.stop()
        world.scheduler.wait(SETTLE_S)
        for mount in world.mounts:
            while mount.vfs is None:
                if world.scheduler.failures:  # perhaps the thread that would open it
                    return
                world.scheduler.wait(_RETRY_S)
            self._in_process(mount, "check", lambda vfs, m=mount: self._check(m, vfs))
        for mount in world.mounts:
            self._close(mount)
        world.is_over = True

    def start(self, mount: Mount) -> None:
        """Start a process that opens the VFS, and programs that read through it."""
        self._processes += 1
        mount.process = Process(self._processes)
        name = f"mount {self._processes}"
        self._world.scheduler.spawn(lambda: self._mount(mount), name, mount.process)

    def kill(self, mount: Mount) -> None:
        """End a process as kill -9 does."""
        assert mount.process is not None
        self._world.disk.close(mount.process)
        self._world.scheduler.kill(mount.process)
        self._world.disk.unlock(mount.process)
        mount.vfs = None

    def restart(self, mount: Mount) -> None:
        """Unmount: close the VFS while programs read, then end the process."""
        if mount.vfs is not None:
            self._close(mount)
        self.kill(mount)

    def _mount(self, mount: Mount) -> None:
        world = self._world
        while True:
            try:
                vfs = open_vfs(world.config())
                break
            except (Ego4DError, OSError) as error:
                self._check_start(error)
                world.scheduler.wait(_RETRY_S)
        mount.vfs = vfs
        number = mount.process.number if mount.process else 0
        for index in range(0 if world.is_ending else world.readers):
            dice = random.Random(f"{world.seed} reader {number} {index}")
            reader = Reader(world, vfs, f"p{number}.{index}", dice)
            self._readers.append(reader)
            world.scheduler.spawn(reader.run, f"reader {number}.{index}")

    def _check_start(self, error: Exception) -> None:
        """End the run if a VFS cannot be opened long after the faults that could be the reason."""
        world = self._world
        # The directory has another name in each run.
        text = repr(error).replace(str(world.directory), "CACHE")
        world.scheduler.note(f"not mounted: {text}")
        is_disk = isinstance(error, (CacheError, OSError))
        latest_s = world.faults.latest_disk_s() if is_disk else world.faults.latest_store_s()
        if world.scheduler.now_s > latest_s + (60 if is_disk else SETTLE_S):
            what = "the cache" if is_disk else "the VFS"
            world.oracle.fail(f"{what} cannot be opened: {error!r}")
            world.is_over = True

    def _close(self, mount: Mount) -> None:
        """Close a VFS, which takes a bounded time whatever hangs."""
        world = self._world
        began_s = world.scheduler.now_s
        world.faults.note(StoreUnavailable, "", began_s)
        self._in_process(mount, "close", VFS.close)
        took_s = world.scheduler.now_s - began_s
        if took_s > CLOSE_S + 0.5:
            world.oracle.fail(f"close took {took_s:.1f} s")

    def _in_process(self, mount: Mount, name: str, call) -> None:
        """Run something in the process of a mount, and wait for its end."""
        vfs, world = mount.vfs, self._world
        assert vfs is not None
        task = world.scheduler.spawn(lambda: call(vfs), name, mount.process)
        while not task.is_done:
            task.joining.append(world.scheduler.current)
            world.scheduler.wait()

    def _check(self, mount: Mount, vfs: VFS) -> None:
        """Check that all faults have left nothing behind."""
        world = self._world
        assert mount.process is not None
        number = mount.process.number
        reader = Reader(world, vfs, f"p{number}.end", random.Random(0))
        self._readers.append(reader)
        reader.listdir()
        for path, url in world.files.items():
            if reader.is_readable(path):
                self._check_proof(vfs, reader, path, number)
                outcome = reader.attempt("stat", url, lambda p=path: vfs.stat(p))
                sizes = {version.size for version in world.objects.versions[url]}
                if outcome is not None and outcome[1].size not in sizes:
                    world.oracle.fail(f"{path}: its size stays {outcome[1].size}")
            world.oracle.cache(world.directory, world.cache_bytes)
        self._check_rest(vfs, number)

    def _check_proof(self, vfs: VFS, reader: Reader, path: str, number: int) -> None:
        """Check that bytes that were sent wrong are dropped, where an ETag proves it."""
        world = self._world
        url = world.files[path]
        version = world.objects.current(url)
        flips = world.objects.flips.get((url, version.etag), {})
        ours = any(process == number for sent in flips.values() for _, process in sent)
        fits = version.size + (2 << 20) < world.cache_bytes
        # What two processes have fetched in parts, one of them compares with its own evidence.
        is_alone = len(world.mounts) == 1
        is_compared = is_alone and version.is_provable and world.verify == "auto" and fits
        if not ours or not is_compared:
            return
        for _ in range(3):
            world.scheduler.wait(10.0)
            reader.is_readable(path)
        handle = reader.open(path)
        got = vfs.read(handle, 0, version.size) if handle is not None else b""
        verifier = vfs.session.reader._verifier
        is_doubted = verifier is None or verifier.doubted
        if got != version.data and not is_doubted and not vfs.session.reader.downloads.unstored:
            world.oracle.fail(f"{path}: wrong bytes are never dropped")

    def _check_rest(self, vfs: VFS, number: int) -> None:
        """Check that no request, memory or thread is left after a while.

        A reader may wait for a slow request for minutes, and then read on.
        """
        world = self._world
        downloads = vfs.session.reader.downloads
        until_s = world.scheduler.now_s + 2 * THROTTLED_S
        world.scheduler.wait(60.0)
        while downloads.in_flight != downloads.unstored and world.scheduler.now_s < until_s:
            world.scheduler.wait(60.0)
        if downloads.in_flight != downloads.unstored:
            left = f"{downloads.in_flight} flights, {downloads.unstored} unstored"
            world.oracle.fail(f"p{number}: {left}")
        unstored = sum(map(len, downloads._unstored))
        if downloads.memory_bytes != unstored:
            world.oracle.fail(f"p{number}: {downloads.memory_bytes} bytes, {unstored} unstored")
        process = world.scheduler.current.process if world.scheduler.current else None
        if process is not None and world.scheduler.count(process) > 12:
            names = world.scheduler.names(process)
            world.oracle.fail(f"p{number}: threads are left: {names}")
