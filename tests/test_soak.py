"""The soak test keeps every promise for a while, ends clean, and would report broken promises."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kit.mounts import mounts_below
from kit.processes import wait_until
from kit.soak import fuse_timeout, schedule
from kit.soak.flat import USED
from kit.soak.reader_process import Task
from kit.soak.readers import ReadingProcess
from kit.soak.report import HANG_S, Outcome
from kit.soak.resources import Sample

MINUTES = 0.5  # scripts/soak takes minutes; 5 and more are the long form
KIT = Path(__file__).parent


@pytest.mark.fuse
@pytest.mark.slow
@pytest.mark.first_pass  # scripts/soak takes any libfuse and transport
@pytest.mark.timeout(400)
@pytest.mark.fault(
    area="network",
    fault="every fault of this table that a gateway can make, while mounts and readers are killed,"
    " keys renewed, networks changed and databases locked",
    face="all",
    sees="right bytes or an error; every call ends; all bounds hold; nothing is left behind",
    deadline="40 s",
)
def test_a_soak_run_keeps_every_promise(tmp_path, libfuse, transport):
    limit = fuse_timeout.TIMEOUT
    before = limit.read_text() if limit.exists() else ""
    options = ("--libfuse", libfuse, "--transport", transport, "--seed", "1")
    done = subprocess.run(
        [sys.executable, "-m", "kit.soak", str(MINUTES), *options],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": f"{KIT}:{KIT.parent}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=390,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [name for name in (*schedule.FAULTS, *schedule.ACTIONS) if name not in done.stdout] == []
    assert os.listdir(tmp_path) == []
    assert mounts_below(tmp_path) == []
    assert before == (limit.read_text() if limit.exists() else "")


def test_the_seed_determines_faults_actions_and_operations():
    for timeline in (schedule.faults, schedule.actions):
        assert timeline(1, 300.0) == timeline(1, 300.0) != timeline(2, 300.0)

    def drawn(seed: int, face: str) -> list[tuple[str, float]]:
        operations = [schedule.operation(face, seed, "reader", number) for number in range(500)]
        return [(kind, rng.random()) for kind, rng in operations]

    for face, kinds in (
        ("mount", schedule.MOUNT_OPERATIONS),
        ("fsspec", schedule.FSSPEC_OPERATIONS),
    ):
        assert drawn(1, face) == drawn(1, face) != drawn(2, face)
        assert {kind for kind, _ in drawn(1, face)} == set(kinds)


@pytest.mark.parametrize("seconds", [30.0, 300.0])
def test_each_fault_and_each_action_occurs(seconds):
    assert {event.name for event in schedule.faults(7, seconds)} == set(schedule.FAULTS)
    assert {event.name for event in schedule.actions(7, seconds)} == set(schedule.ACTIONS)
    assert all(event.at_s < seconds for event in schedule.faults(7, seconds))


def test_a_broken_promise_is_reported_and_fails_the_run():
    assert Outcome("run").is_right
    for field in ("hangs", "aborted", "violations", "unreadable", "failed", "left"):
        outcome = Outcome("run", **{field: ["what happened"]})
        assert not outcome.is_right
        assert "what happened" in str(outcome)
    outcome = Outcome("run")
    outcome.load.compare("file", b"right", b"wrong")
    outcome.load.compare("file", b"shor", b"short")
    assert (len(outcome.load.wrong_bytes), len(outcome.load.false_ends)) == (1, 1)
    assert not outcome.is_right
    outcome = Outcome("run")
    outcome.load.slowest["pread"] = HANG_S + 1
    assert "pread: 51.0 s" in str(outcome)
    assert not outcome.is_right


def test_the_change_of_a_process_is_shown_if_it_was_not_started_again():
    def sample(at_s: float, rss_mib: float, pid: int = 1) -> Sample:
        return Sample(at_s, pid, rss_mib, 20, 5, 30)

    whole = [sample(*one) for one in ((0, 50), (1, 130), (2, 100), (3, 105), (4, 111), (5, 110))]
    again = [sample(0, 50), sample(2, 100), sample(4, 60, 2)]
    rests = [(2.0, 3.0), (4.0, 5.0)]
    report = str(Outcome("run", samples={"mount 0": whole, "mount 1": again}, rests=rests))
    rows = [line.split("  ") for line in report.splitlines() if line.startswith("mount")]
    [first, second] = [[cell.strip() for cell in row if cell][1:] for row in rows]
    assert first == [
        "1",
        "50 100 110 (+10%) ≤130",
        "20 20 20 (+0%) ≤20",
        "5 5 5 (+0%) ≤5",
        "30 30 30 (+0%) ≤30",
    ]
    assert second == ["2", "50 100 60 ≤100", "20 20 20 ≤20", "5 5 5 ≤5", "30 30 30 ≤30"]
    short = str(Outcome("run", samples={"mount 0": whole}))
    assert "50 ≤130" in short


def used(minutes: float, seed: int, leaks: str = "", per_minute: float = 0.0) -> list[Sample]:
    """Return samples as those of a mount: what it uses follows the faults, except at rest."""
    rng = random.Random(seed)
    busy, found = 0, []
    for second in range(int(minutes * 60)):
        if second % 2 == 0:  # another fault: of three in forty, all connections end
            busy = 0 if rng.random() < 3 / 40 else max(0, min(23, busy + rng.randint(-6, 6)))
        now = 0 if any(start <= second <= stop for start, stop in rests_of(minutes)) else busy
        sample = Sample(second, 1, 118 + now + rng.random(), 21 + now // 8, 2 + now, 15 + now)
        kept = int(per_minute * second / 60)
        found.append(replace(sample, **{leaks: getattr(sample, leaks) + kept}) if leaks else sample)
    return found


def rests_of(minutes: float) -> list[tuple[float, float]]:
    return [(30 * minutes - 15, 30 * minutes), (60 * minutes - 15, 60 * minutes)]


@pytest.mark.parametrize("minutes", [5, 20])
@pytest.mark.parametrize("seed", range(20))
def test_a_leak_is_found_and_the_effect_of_faults_is_none(minutes, seed):
    """One in a minute; of memory, in long runs, a twentieth of it from one rest to the other."""
    rests = rests_of(minutes)
    assert Outcome("run", samples={"mount 0": used(minutes, seed)}, rests=rests).is_right
    leaks = {"sockets": 1, "files": 1, "threads": 1}
    if minutes == 20:
        leaks["rss_mib"] = 1
    for what, per_minute in leaks.items():
        samples = {"mount 0": used(minutes, seed, what, per_minute)}
        outcome = Outcome("run", samples=samples, rests=rests)
        [line] = outcome.broken["growth from rest to rest"]
        assert line.startswith(f"mount 0: {USED[what]}: ")
        assert not outcome.is_right


def test_what_a_process_keeps_is_compared_if_it_is_one_process():
    leaking = used(5, 1, "sockets", 1)
    assert Outcome("run", samples={"mount 0": leaking}).is_right
    again = [replace(sample, pid=1 + (sample.at_s > 200)) for sample in leaking]
    assert Outcome("run", samples={"mount 0": again}, rests=rests_of(5)).is_right


def test_a_reading_process_begins_nothing_while_it_rests(tmp_path):
    """Its operations fail at once here, for lack of a mount, and are counted."""
    env = {**os.environ, "PYTHONPATH": f"{KIT}:{KIT.parent}"}
    reader = ReadingProcess(Task("reader", str(tmp_path), 1, 1, "", 5.0, False), env)

    def operations() -> int:
        return sum(reader.found()[-1]["operations"].values())

    def has_stopped() -> bool:
        before = operations()
        time.sleep(2.5)  # it reports each second
        return operations() == before

    try:
        wait_until(operations)
        reader.rest()
        wait_until(has_stopped)
        rested = operations()
        reader.read_on()
        wait_until(lambda: operations() > rested)
        assert reader.end()
    finally:
        reader.close()
