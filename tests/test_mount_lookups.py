"""The requests of programs that open files of a mount whose facts are unknown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ego4dfs.mount.status import STATUS_PATH
from kit.data import seeded
from kit.processes import wait_until

pytestmark = pytest.mark.fuse

SIZE = 20_000
FILES = {f"{number:03}.pt": seeded(f"lookups {number}", SIZE) for number in range(120)}
READ = "import sys, pathlib; [pathlib.Path(p).read_bytes() for p in sys.argv[1:]]"


@pytest.fixture
def root(mount, release, libfuse) -> Path:
    release.dataset("annotations", FILES)
    flags = ("--version", release.version, "--datasets", "annotations", "--libfuse", libfuse)
    return mount(*flags, "--emulate", "rtt=20ms")


def requests(root: Path) -> tuple[int, int]:
    found = json.loads((root / STATUS_PATH.strip("/")).read_text())["requests"]
    return found["head"], found["get"]


def test_files_that_processes_open_cost_one_request_each(root, release):
    paths = [root / release.version / "annotations" / name for name in FILES]
    jobs = [[sys.executable, "-c", READ, *map(str, paths[n::4])] for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda job: subprocess.run(job, check=True, timeout=60), jobs))
    heads, gets = requests(root)
    assert heads <= 4
    assert gets <= len(FILES)
    assert [path.read_bytes() for path in paths] == list(FILES.values())


def test_one_file_that_a_process_reads_costs_no_request_for_others(root, release):
    (root / release.version / "annotations" / "007.pt").read_bytes()
    assert requests(root) == (1, 1)


def test_a_walk_requests_the_sizes_of_all_files_and_no_bytes(root, release):
    top = root / release.version / "annotations"
    sizes = [os.stat(top / name).st_size for name in FILES]
    assert set(sizes) == {SIZE}
    wait_until(lambda: requests(root) == (len(FILES), 0))
