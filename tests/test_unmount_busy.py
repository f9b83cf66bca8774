"""What `ego4dfs unmount` does while programs use the mount, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from ego4dfs.errors import MountError
from ego4dfs.files.mountinfo import MountEntry
from ego4dfs.mount import mountpoint
from kit.clock import Clock

pytestmark = pytest.mark.first_pass

ENTRY = MountEntry(Path("/mp"), "fuse.ego4dfs", "0:50")
OTHER = MountEntry(Path("/mp"), "ext4", "0:51")
PROGRAM = {7: "cat (pid 7)"}


@pytest.fixture
def unmount(monkeypatch) -> Callable[..., list[float]]:
    """Unmount with these answers and users, one after the other; the last ones stay.

    Returns the seconds at which it was tried.
    """

    def run(
        failures: Iterable[str],
        users: Iterable[Mapping[int, str]] = ({},),
        mounted: Iterable[MountEntry | None] = (ENTRY,),
        look_s: float = 0.0,
    ) -> list[float]:
        clock, tried = Clock(0.0), []
        answers, using, entries = ([*given] for given in (failures, users, mounted))

        def following(given: list) -> object:
            return given.pop(0) if len(given) > 1 else given[0]

        def umount(*_: object, **__: object) -> object:
            tried.append(clock.now_s)
            return following(answers)

        def look(*_: object, **__: object) -> object:
            clock.now_s += look_s
            return following(using)

        def sleep(seconds: float) -> None:
            clock.now_s += seconds

        monkeypatch.setattr(mountpoint, "umount", umount)
        monkeypatch.setattr(mountpoint, "programs_using", look)
        monkeypatch.setattr(mountpoint, "mounted_at", lambda _: following(entries))
        monkeypatch.setattr(mountpoint, "time", SimpleNamespace(monotonic=clock, sleep=sleep))
        mountpoint._unmount_or_raise(ENTRY, lazy=False, exclude=0)
        return tried

    return run


def test_programs_that_use_it_for_a_moment_do_not_keep_it(unmount):
    """As those that look at all mounts do: here each of them comes when the one before leaves."""
    users = [{number: f"status (pid {number})"} for number in range(40) for _ in range(2)]
    assert len(unmount([*["busy"] * 80, ""], users)) == 81


@pytest.mark.parametrize("look_s", [0.0, 3.0])
def test_a_program_is_named_when_it_was_seen_twice_in_a_second(unmount, look_s):
    """However long a look at all programs takes: after one nobody knows who stays."""
    assert len(unmount(["busy", ""], [PROGRAM], look_s=look_s)) == 2
    with pytest.raises(MountError, match=r"in use by cat \(pid 7\)$"):
        unmount(["busy"], [{}, {8: "ls (pid 8)"}, PROGRAM], look_s=look_s)


def test_a_mount_that_stays_busy_without_a_program_is_an_error(unmount):
    with pytest.raises(MountError, match="a program in another namespace"):
        unmount(["busy"])
    assert unmount([*["busy"] * 99, ""])[-1] < mountpoint._BUSY_S


def test_another_failure_is_an_error_at_once(unmount):
    with pytest.raises(MountError, match="/mp: no permission"):
        unmount(["no permission"])


@pytest.mark.parametrize("after", [None, OTHER])
def test_a_mount_that_another_command_has_unmounted_is_left_alone(unmount, after):
    """Also if something else is mounted there since."""
    assert unmount(["busy"], [PROGRAM], [ENTRY, after]) == [0.0]
    assert unmount(["cannot be unmounted: Invalid argument"], [{}], [ENTRY, after]) == [0.0]
