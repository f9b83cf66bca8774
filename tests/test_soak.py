"""The soak test keeps every promise for a while, ends clean, and would report broken promises."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kit.mounts import mounts_below
from kit.soak import fuse_timeout, schedule
from kit.soak.flat import USED
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
    def samples(rss_mib: float, pid: int) -> list[Sample]:
        return [Sample(0.0, pid, rss_mib, 20, 5, 30)] * 10

    whole = samples(50, 1) + samples(90, 1) + samples(100, 1) + samples(110, 1)
    again = samples(50, 1) + samples(90, 1) + samples(100, 1) + samples(60, 2)
    report = str(Outcome("run", samples={"mount 0": whole, "mount 1": again}))
    [first, second] = [line.split("  ") for line in report.splitlines() if "mount" in line]
    assert [cell.strip() for cell in first if cell][1:] == [
        "1",
        "50 100 110 (+10%) ≤110",
        "20 20 20 (+0%) ≤20",
        "5 5 5 (+0%) ≤5",
        "30 30 30 (+0%) ≤30",
    ]
    assert [cell.strip() for cell in second if cell][1:] == [
        "2",
        "50 100 60 ≤100",
        "20 20 20 ≤20",
        "5 5 5 ≤5",
        "30 30 30 ≤30",
    ]


def used(minutes: float, seed: int, leaks: str = "", per_minute: float = 0.0) -> list[Sample]:
    """Return samples as those of a mount: what is used follows faults of seconds."""
    rng = random.Random(seed)
    busy, found = 0, []
    for second in range(int(minutes * 60)):
        if second % 2 == 0:  # another fault: of three in forty, all connections end
            busy = 0 if rng.random() < 3 / 40 else max(0, min(23, busy + rng.randint(-6, 6)))
        sample = Sample(second, 1, 118 + busy * rng.random(), 21 + (busy > 20), 2 + busy, 42)
        kept = int(per_minute * second / 60)
        found.append(replace(sample, **{leaks: getattr(sample, leaks) + kept}) if leaks else sample)
    return found


@pytest.mark.parametrize("minutes", [7.1, 20.0])
@pytest.mark.parametrize("seed", range(20))
def test_a_leak_is_found_and_the_effect_of_faults_is_none(minutes, seed):
    """One socket or file in a minute is found; of threads and memory, 5 % in a quarter."""
    assert Outcome("run", samples={"mount 0": used(minutes, seed)}).is_right
    leaks = {"sockets": 1, "files": 1, "threads": 12 / minutes, "rss_mib": 40 / minutes}
    for what, per_minute in leaks.items():
        outcome = Outcome("run", samples={"mount 0": used(minutes, seed, what, per_minute)})
        [line] = outcome.broken["not flat in the second half"]
        assert line.startswith(f"mount 0: {USED[what]}: ")
        assert not outcome.is_right


def test_what_a_process_uses_is_compared_in_long_runs_of_one_process_only():
    long = used(7.1, 1, "sockets", 1)
    assert not Outcome("run", samples={"mount 0": long}).is_right
    assert Outcome("run", samples={"mount 0": long[: len(long) // 2]}).is_right
    again = [*long[:-1], replace(long[-1], pid=2)]
    assert Outcome("run", samples={"mount 0": again}).is_right
