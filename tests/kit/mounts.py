"""Mounts made by the real command and unmounted after the test, and the counters of a mount."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ego4dfs.files.mountinfo import mounted_at, mounts
from kit.cli import EGO4DFS, run_cli
from kit.data import MIB, seeded
from kit.processes import is_running, wait_until
from kit.server import Release, environment, new_version


@pytest.fixture(scope="session")
def libfuse(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--libfuse"))


class Mounts:
    """Mounts made by the real command, in processes of their own, and unmounted at the end.

    `directory` holds the mountpoints.
    """

    def __init__(self, directory: Path, libfuse: str) -> None:
        self.directory = directory
        self._libfuse = libfuse
        self._mounted: list[Path] = []

    def __call__(self, *arguments: str, env: Mapping[str, str] | None = None) -> Path:
        """Mount in the background and return the mountpoint."""
        mountpoint = self.directory / f"mount{len(self._mounted)}"
        mountpoint.mkdir()
        self._mounted.append(mountpoint)
        run_cli("mount", str(mountpoint), "--libfuse", self._libfuse, *arguments, env=env)
        return mountpoint

    def again(
        self, mountpoint: Path, *arguments: str, env: Mapping[str, str] | None = None
    ) -> Path:
        """Mount on a mountpoint that was unmounted."""
        run_cli("mount", str(mountpoint), "--libfuse", self._libfuse, *arguments, env=env)
        return mountpoint

    def adopt(self, mountpoint: Path) -> None:
        """Unmount this one at the end, too; the test mounts it itself."""
        self._mounted.append(mountpoint)

    def unmount(self, mountpoint: Path) -> None:
        """Unmount as a user does."""
        run_cli("unmount", str(mountpoint))

    def clear(self) -> list[Path]:
        """Unmount what is still mounted, by force, and return it."""
        remaining = [path for path in self._mounted if is_mounted(path)]
        for path in remaining:
            subprocess.run([*EGO4DFS, "unmount", str(path)], check=False, timeout=60)
            if is_mounted(path):
                subprocess.run(["umount", "-l", str(path)], check=False, timeout=60)
        return remaining


@pytest.fixture
def mount(licensee: Mapping[str, str], tmp_path: Path, libfuse: str) -> Iterator[Mounts]:
    """Mount with the real command; mounts that remain after the test are unmounted."""
    del licensee
    mounts = Mounts(tmp_path, libfuse)
    yield mounts
    mounts.clear()


def status(mountpoint: Path) -> dict[str, Any]:
    """Read the live counters of a mount."""
    return json.loads((mountpoint / ".ego4dfs/status.json").read_bytes())


def kill_mount(mountpoint: Path) -> None:
    """End the process of a mount by SIGKILL; the mountpoint stays, dead."""
    pid = status(mountpoint)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))


@contextmanager
def frozen(mountpoint: Path) -> Iterator[int]:
    """Stop the process of a mount, and continue it at the end; yields its pid."""
    pid = status(mountpoint)["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        if is_running(pid):
            os.kill(pid, signal.SIGCONT)


def is_mounted(mountpoint: Path) -> bool:
    """Return whether it is in the kernel's mount table; reading that cannot hang."""
    return mounted_at(mountpoint) is not None


def mounts_below(directory: Path, process: int | str = "self") -> list[Path]:
    """Return the mountpoints at and below a directory, in mounting order."""
    found = (mount.mountpoint for mount in mounts(process))
    return [path for path in found if path.is_relative_to(directory)]


@dataclass(frozen=True)
class SharedMount:
    """One mount for the tests that only read; `files` are the bytes that `directory` shows."""

    mounts: Mounts
    root: Path
    directory: Path
    files: Mapping[str, bytes]
    release: Release
    env: Mapping[str, str]


@pytest.fixture(scope="session")
def shared_mount(server, tmp_path_factory, libfuse, transport) -> Iterator[SharedMount]:
    own = tmp_path_factory.mktemp("shared")
    env = environment(server, own / "home", transport)
    release = Release(server, new_version())
    files = {
        "narration.json": json.dumps({"needle": list(range(5000))}, indent=0).encode(),
        "nothing.json": b"",
        "odd.pt": seeded("odd", 3 * MIB + 17),
        "large.mp4": seeded("large", 24 * MIB + 1),
    }
    manifest = release.dataset("annotations", files)
    release.metadata(b'{"videos": []}\n')
    mounts = Mounts(own, libfuse)
    try:
        arguments = ("--version", release.version, "--datasets", "annotations")
        root = mounts(*arguments, env=env)
        directory = root / release.version / "annotations"
        yield SharedMount(
            mounts, root, directory, {**files, "manifest.csv": manifest}, release, env
        )
    finally:
        mounts.clear()
