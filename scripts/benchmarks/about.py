"""When, where and with what a run was made."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

import ego4dfs
from benchmarks import peers

_ROOT = Path(ego4dfs.__file__).parents[1]  # what is measured; PYTHONPATH may name another checkout


def machine(wan_missing: str, command: str, rounds: int) -> dict[str, str]:
    """Return what a reader has to know to compare with another run."""
    cpu = _after_colon(Path("/proc/cpuinfo"), "model name") or platform.machine()
    memory = int((_after_colon(Path("/proc/meminfo"), "MemTotal") or "0").split()[0]) >> 20
    tools = [
        peers.ego4dfs(),
        peers.official(),
        peers.rclone(),
        peers.aws(),
        peers.s3fs(),
        peers.bindfs(),
    ]
    return {
        "command": f"`{command}`",
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
        "rounds": str(rounds),
        "machine": f"{os.cpu_count()} × {cpu}, {memory} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}",
        "versions": "; ".join(
            f"{tool.name}: {tool.missing or tool.version}".replace("|", "/") for tool in tools
        ),
        "distant server": wan_missing or "nginx, 30 ms to the first byte, 80 MB/s a connection",
    }


def _after_colon(path: Path, name: str) -> str:
    lines = path.read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _commit() -> str:
    """Return the commit, with a plus sign when files differ from it."""
    words = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
