"""One soak run: all parts started, the schedule followed, everything read once more, and ended."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from kit.cli import run_cli
from kit.faulty_mounts import FaultyMounts, faulty_mounts
from kit.mounts import is_mounted, status
from kit.processes import is_running, wait_until
from kit.random_reads import read_all
from kit.soak import fuse_timeout, schedule
from kit.soak.actions import REQUEST_TIMEOUT_S, Injector
from kit.soak.files import publish
from kit.soak.network import Network
from kit.soak.reader_process import Task
from kit.soak.readers import ReadingProcess
from kit.soak.report import HANG_S, Outcome
from kit.soak.resources import Resources

CACHE_MIB = 64
FSSPEC_PROCESSES = 4
THREADS_OF_MOUNT, THREADS_OF_FSSPEC = 3, 1
START_S = 180.0  # for the readers on a busy machine
COMPARED_FROM_S = 300.0  # in half of it, a leak of one a minute is two; pools are full after it
REST_S = 60.0  # pools end idle connections after 40 s at most, and threads after 30 s
MEASURED_S = 15.0  # the end of a rest
PROGRESS_EVERY_S = 10.0
ABORTED = ("ENOTCONN", "ECONNABORTED")


def run(
    directory: Path, network: Network, *, seconds: float, seed: int, libfuse: str, transport: str
) -> Outcome:
    """Read for `seconds` under faults and actions; return what happened."""
    outcome = Outcome(f"soak: {seconds:.0f} s, seed {seed}, libfuse {libfuse}, {transport}")
    with ExitStack() as stack:
        stand = stack.enter_context(
            faulty_mounts(directory, libfuse=libfuse, transport=transport, host=network.host)
        )
        digest = publish(stand.release, directory)
        outcome.notes += _notes(network, digest)
        stand.env["EGO4DFS_CACHE_SIZE"] = f"{CACHE_MIB}MiB"
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            del stand.env[name]  # the file has them, so that they can be renewed
        injector = Injector(stand, network, outcome.load, seed)
        readers = _start_readers(stack, injector.roots, stand, seed, digest)
        injector.readers = readers
        resources = _watch(stack, stand, injector)
        for part in range(parts := 2 if seconds >= COMPARED_FROM_S else 1):
            _follow(injector, readers, seed + part, seconds / parts)
            if parts > 1:
                _rest(outcome, injector, readers, resources)
        outcome.hangs += [f"{reader.name} does not end" for reader in readers if not reader.end()]
        injector.end_faults()
        _sum_up(outcome, injector, readers)
        read_all(injector.roots[0] / "v1/clips", outcome.load, outcome.unreadable)
        resources.stop()
        outcome.samples, outcome.largest = resources.samples, resources.largest
        outcome.violations += [f"{what} ({n} times)" for what, n in resources.violations.items()]
        outcome.largest["evictions"] = status(injector.roots[0])["evictions"]
        outcome.left += _unmount(injector)
        outcome.violations += _check_cache(stand)
    outcome.left += _left(directory)
    return outcome


def _notes(network: Network, digest: str) -> list[str]:
    notes = []
    if network.refusal:
        notes.append(f"network changes: connections are abandoned only; {network.refusal}")
    else:
        notes.append("network changes: the source address is removed, in a network namespace")
    refusal = fuse_timeout.why_not()
    notes.append(
        f"fs.fuse.default_request_timeout: not set; {refusal}"
        if refusal
        else f"fs.fuse.default_request_timeout: {REQUEST_TIMEOUT_S} s for these mounts"
    )
    if not digest:
        notes.append("video: av is not installed; no frames are decoded")
    return notes


def _start_readers(
    stack: ExitStack, roots: Sequence[Path], stand: FaultyMounts, seed: int, digest: str
) -> list[ReadingProcess]:
    mounts = [
        Task(f"mount {number}", str(root), seed, THREADS_OF_MOUNT, digest, HANG_S, number == 0)
        for number, root in enumerate(roots)
    ]
    others = [
        Task(f"ego4d:// {number}", "", seed, THREADS_OF_FSSPEC, "", HANG_S)
        for number in range(FSSPEC_PROCESSES)
    ]
    readers = [ReadingProcess(task, stand.env) for task in (*mounts, *others)]
    for reader in readers:
        stack.callback(reader.close)
    wait_until(lambda: all(reader.has_begun for reader in readers), START_S)
    return readers


def _watch(stack: ExitStack, stand: FaultyMounts, injector: Injector) -> Resources:
    def processes() -> dict[str, int]:
        mounts = {f"mount {number}": pid for number, pid in enumerate(injector.pids)}
        return {**mounts, **{r.name: r.pid for r in injector.readers[2:]}}

    resources = Resources(processes, stand.front, stand.cache, CACHE_MIB << 20)
    stack.callback(resources.stop)
    return resources


def _follow(
    injector: Injector, readers: Sequence[ReadingProcess], seed: int, seconds: float
) -> None:
    """Run faults and actions at their times, until `seconds` have passed; show the progress.

    On a busy machine it takes longer: until each action has occurred once.
    """
    began_s = time.monotonic()
    over, interrupted = threading.Event(), threading.Event()

    def follow(events: Sequence[schedule.Event], act: Callable[[str, int], None]) -> None:
        occurred: set[str] = set()
        for number, event in enumerate(events):
            is_over = over.wait(max(0.0, began_s + event.at_s - time.monotonic()))
            if interrupted.is_set() or (is_over and event.name in occurred):
                return
            act(event.name, number)
            occurred.add(event.name)

    threads = [
        threading.Thread(
            target=follow,
            args=(schedule.faults(seed, seconds), lambda name, _: injector.begin_fault(name)),
        ),
        threading.Thread(target=follow, args=(schedule.actions(seed, seconds), injector.act)),
    ]
    for thread in threads:
        thread.start()
    try:
        while (passed_s := time.monotonic() - began_s) < seconds:
            time.sleep(min(PROGRESS_EVERY_S, seconds - passed_s))
            _show(time.monotonic() - began_s, seconds, injector, readers)
    except BaseException:
        interrupted.set()
        raise
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _rest(
    outcome: Outcome,
    injector: Injector,
    readers: Sequence[ReadingProcess],
    resources: Resources,
) -> None:
    """Let all processes rest until pools have ended what is idle: no connection may be left."""
    injector.end_faults()
    for reader in readers:
        reader.rest()
    time.sleep(REST_S)
    now_s = resources.now_s
    outcome.rests.append((now_s - MEASURED_S, now_s))
    if left := resources.connections():
        outcome.violations.append(f"{left} connections are open after {REST_S:.0f} s of rest")
    for reader in readers:
        reader.read_on()


def _show(
    passed_s: float, seconds: float, injector: Injector, readers: Sequence[ReadingProcess]
) -> None:
    found = [report for reader in readers for report in reader.found()]
    wrong = sum(len(report["wrong_bytes"]) + len(report["false_ends"]) for report in found)
    print(
        f"soak: {passed_s:.0f} of {seconds:.0f} s, "
        f"{sum(sum(report['operations'].values()) for report in found)} operations, "
        f"{sum(sum(report['failed'].values()) for report in found)} with errors, "
        f"{injector.faults.total()} faults, {injector.actions.total()} actions, "
        f"{wrong} wrong; now: {injector.fault}",
        file=sys.stderr,
        flush=True,
    )


def _sum_up(outcome: Outcome, injector: Injector, readers: Sequence[ReadingProcess]) -> None:
    injector.check_mounts()
    for reader in readers:
        for found in reader.found():
            outcome.load.add(found)
            for name, count in found["errors"].items():
                outcome.errors[name, reader.name] += count
            kind, waited_s = found["waiting"]
            if waited_s > HANG_S:
                outcome.hangs.append(f"{reader.name}: {kind} has waited for {waited_s:.0f} s")
    # The second mount is killed and unmounted; the first one may never be gone.
    errors = [found["errors"] for found in readers[0].found()]
    for name in ABORTED:
        if count := sum(found.get(name, 0) for found in errors):
            outcome.aborted.append(f"{readers[0].name}: {count} × {name}")
    outcome.aborted += injector.aborted
    outcome.failed += injector.failed
    outcome.faults, outcome.actions = injector.faults, injector.actions


def _unmount(injector: Injector) -> list[str]:
    """Unmount both as a user does; return what is left of them."""
    left = []
    for root, pid in zip(injector.roots, injector.pids, strict=True):
        done = run_cli("unmount", str(root), check=False)
        if done.returncode:
            left.append(f"{root}: {done.stderr.strip()}")
        if is_mounted(root):
            left.append(f"{root} is mounted")
        if is_running(pid):
            left.append(f"{root}: process {pid}")
    return left


def _check_cache(stand: FaultyMounts) -> list[str]:
    """Return damaged blocks, and files that the index does not count, as `cache verify` has it."""
    found = json.loads(run_cli("cache", "verify", "--json", env=stand.env, check=False).stdout)
    return [f"cache verify: {found[kind]} {kind}" for kind in ("damaged", "stray") if found[kind]]


def _left(directory: Path) -> list[str]:
    """Return the processes that the run has left, by its directory in what they were given."""
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            ours = bytes(directory) in command + (process / "environ").read_bytes()
        except OSError:
            continue
        if ours and is_running(int(process.name)):
            left.append(f"process {process.name}: {command!r}")
    return left
