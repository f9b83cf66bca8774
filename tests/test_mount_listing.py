"""How many calls the kernel needs for a directory whose files are known."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kit.cli import EGO4DFS
from kit.processes import wait_until

pytestmark = pytest.mark.fuse

MANY = 600
COUNTED = """
import sys
from pathlib import Path
from ego4dfs.cli import main
from ego4dfs.mount.operations import Operations

def counted(name):
    call = getattr(Operations, name)
    def count(operations, path, *arguments, **keywords):
        if "/clips" in path:  # other tests look at the status of all mounts
            with open(sys.argv[1], "a") as calls:
                calls.write(name + "\\n")
        return call(operations, path, *arguments, **keywords)
    return count

for name in ("getattr", "getxattr", "names", "readdir"):
    setattr(Operations, name, counted(name))
main(["mount", *sys.argv[2:], "--foreground"])
"""


@pytest.mark.parametrize("again", [False, True])
def test_known_files_are_listed_with_few_calls(
    release, licensee, mount, tmp_path, libfuse, again, spawn
):
    """Attributes come with the names on libfuse 3, and stay with the kernel on both."""
    release.dataset("clips", {f"{number}.mp4": bytes(number) for number in range(MANY)})
    arguments = ("--version", release.version, "--datasets", "clips")
    first = mount(*arguments)
    sizes = _sizes(first / release.version / "clips")
    assert sizes == {**{f"{number}.mp4": number for number in range(MANY)}} | {
        "manifest.csv": sizes["manifest.csv"]
    }
    mount.unmount(first)
    calls = tmp_path / "calls"
    flags = (str(first), "--libfuse", libfuse, *arguments)
    process = spawn([sys.executable, "-c", COUNTED, str(calls), *flags])
    try:
        wait_until(lambda: os.path.ismount(first))
        for _ in range(1 + again):
            before = _count(calls)
            assert _sizes(first / release.version / "clips") == sizes
        few = libfuse == "3" or again
        assert _count(calls) - before <= (20 if few else MANY + 20)
    finally:
        subprocess.run([*EGO4DFS, "unmount", str(first)], check=True, timeout=60)
        process.wait(60)


def _sizes(directory: Path) -> dict[str, int]:
    return {entry.name: entry.stat().st_size for entry in os.scandir(directory)}


def _count(calls: Path) -> int:
    return len(calls.read_text().splitlines()) if calls.exists() else 0
