"""Mounts as the kernel knows them, and their end, also of those whose process was killed."""

from __future__ import annotations

import subprocess
from pathlib import Path


def mountpoints(below: Path) -> list[Path]:
    """Return a directory and those below it that are mounted on, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    found = [Path(line.split()[4]) for line in lines]
    return [path for path in reversed(found) if path == below or below in path.parents]


def unmount(mountpoint: Path, *, lazy: bool = False) -> bool:
    """Unmount and return whether that went well; `lazy` also takes one away that is busy."""
    command = ["fusermount3", "-uz" if lazy else "-u", str(mountpoint)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
