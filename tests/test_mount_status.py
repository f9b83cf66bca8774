"""The status file in a mount: as long as `stat` says, valid JSON, mappable, and up to date."""

from __future__ import annotations

import json
import mmap

import pytest

from ego4dfs.mount.status import STATUS_BYTES, padded, read_status
from kit.data import MIB, seeded
from kit.mounts import status


@pytest.fixture
def root(mount, release):
    release.dataset("annotations", {"a.bin": seeded("a", MIB)})
    return mount("--version", release.version, "--datasets", "annotations")


def as_promised(path):
    """Read only as many bytes as `stat` reports, as curl, tar and rsync do."""
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        data = file.read(size)
        assert (len(data), file.read(1)) == (size, b"")
    return json.loads(data)


@pytest.mark.fault(
    area="mount",
    fault="programs that read only as many bytes as `stat` reported an hour ago",
    face="mount",
    sees="all of the status file, as valid JSON",
    deadline="at once",
)
@pytest.mark.fuse
def test_programs_that_trust_the_size_of_the_status_file_read_all_of_it(root):
    path = root / ".ego4dfs/status.json"
    before = as_promised(path)
    next(root.rglob("a.bin")).read_bytes()
    after = as_promised(path)
    assert after["bytes_served"] >= before["bytes_served"] + MIB


@pytest.mark.fuse
def test_the_manifest_is_as_long_as_its_size_says(root):
    manifest = next(root.rglob("manifest.csv"))
    assert len(manifest.read_bytes()) == manifest.stat().st_size


@pytest.mark.fuse
def test_the_status_file_can_be_mapped(root):
    with (root / ".ego4dfs/status.json").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        assert json.loads(mapped[:])["pid"] == status(root)["pid"]


@pytest.mark.fuse
def test_each_open_shows_the_counters_of_now_while_others_hold_the_file(root):
    path = root / ".ego4dfs/status.json"
    with path.open("rb") as held:
        first = json.loads(held.read())
        next(root.rglob("a.bin")).read_bytes()
        held.seek(0)
        held.read()
        assert status(root)["bytes_served"] >= first["bytes_served"] + MIB
        assert read_status(root)["uptime_s"] > first["uptime_s"]


@pytest.mark.parametrize("length", [0, 10, 3000, 5000])
def test_a_status_is_padded_or_truncated_to_its_size(length):
    counters = {"pid": 1, "last_error": "\n\x1b" * (length // 2), "offline": False}
    data = padded(counters, STATUS_BYTES)
    found = json.loads(data)
    assert len(data) == STATUS_BYTES
    assert data.endswith(b"\n")
    assert (found["pid"], found["offline"]) == (1, False)
    kept = found["last_error"].removesuffix("...")
    assert counters["last_error"].startswith(kept)
    assert len(kept) >= min(length, 500)
