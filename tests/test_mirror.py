"""`ego4dfs mirror`: files are written to a near tier before anybody reads them."""

import json

import pytest

from ego4dfs.near.chunks import CHUNK_BYTES, decoded
from kit.cli import complaint, unwarned
from kit.data import MIB, seeded
from kit.gateway import Faults, Reply
from kit.near import BUCKET, PROFILE, read

FILES = {"a.pt": seeded("a", 58_000), "b.mp4": seeded("b", 11 * MIB + 5), "empty.csv": b""}
CHUNKS = sum(-(-len(data) // CHUNK_BYTES) for data in FILES.values())
TOTAL = sum(map(len, FILES.values()))


@pytest.fixture
def mirror(near, release, run_here):
    """Run `ego4dfs mirror` for a dataset of three files."""
    release.dataset("clips", FILES)
    words = ["--version", release.version, "--datasets", "clips", "--no-metadata"]
    words += ["--to", f"s3://{BUCKET}/{near.prefix}", "--near-profile", PROFILE]
    words += ["--near-endpoint", near.gateway.url, "--endpoint-url", near.far.url]
    words += ["--retry-for", "0"]
    return lambda *more, **options: run_here("mirror", "-y", *words, *more, **options)


def report(done):
    return json.loads(done.stdout)


def test_nodes_read_what_was_mirrored_without_s3(near, release, mirror):
    found = report(mirror("--json"))
    assert (found["done"], found["skipped"], found["fetched_bytes"]) == (2, 1, TOTAL)
    assert found["output_directory"] == f"s3://{BUCKET}/{near.prefix}"
    assert len(near.keys("chunks")) == CHUNKS
    near.far.stop()
    vfs = near.node("node", version=release.version, datasets=["clips"], metadata=False)
    for name, data in FILES.items():
        if data:
            assert read(vfs, f"/{release.version}/clips/{name}") == data
    assert vfs.session.metrics.bytes_fetched == 0


def test_nodes_know_the_sizes_of_what_was_mirrored(near, release, mirror):
    mirror()
    near.remove("tables")
    mirror()  # which finds everything there
    near.far.reset()
    vfs = near.node("node", version=release.version, datasets=["clips"], metadata=False)
    for name, data in FILES.items():
        assert vfs.stat(f"/{release.version}/clips/{name}").size == len(data)
    assert near.far.methods["HEAD"] == 1  # for the empty file


def test_what_is_there_is_not_fetched_again(near, mirror):
    mirror()
    assert mirror().stdout.splitlines()[-1] == "Nothing was missing there."
    keys = near.keys("chunks")
    near.put(keys[0], near.content(keys[0])[:-1])
    near.far.reset()
    found = report(mirror("--json"))
    content = decoded(keys[0].removeprefix(f"{near.prefix}/"), near.content(keys[0]))
    assert (found["done"], found["skipped"]) == (1, 2)
    assert found["fetched_bytes"] == len(content)


def test_shards_share_the_files(near, mirror):
    done = [report(mirror("--json", "--shard", f"{index}/2"))["fetched_bytes"] for index in (0, 1)]
    assert sum(done) == TOTAL
    assert all(size < TOTAL for size in done)


def test_a_dry_run_writes_nothing(near, mirror):
    found = report(mirror("--json", "--dry-run"))
    assert found["datasets"][0]["files"] == len(FILES)
    assert near.keys("") == []


def test_a_near_tier_that_is_full_is_an_error_with_the_command_that_continues(near, mirror):
    near.gateway.faults = Faults(reply=Reply(507), method="PUT")
    done = mirror(check=False)
    assert done.returncode in {1, 3}
    assert f"the near tier s3://{BUCKET}/{near.prefix}: answers 507" in done.stderr
    assert "ego4dfs mirror" in done.stderr.splitlines()[-1]
    assert "Traceback" not in unwarned(done.stderr)


def test_without_a_near_tier_there_is_nothing_to_do(licensee, run_here):
    done = run_here("mirror", check=False)
    assert done.returncode == 2
    assert "no near tier was given" in complaint(done)
