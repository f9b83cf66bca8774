"""`ego4dfs near`: the content of a near tier, shown, verified and removed."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from kit.cli import complaint
from kit.gateway import Faults, Reply
from kit.near import BUCKET, PROFILE, read, written

CONTENT = b"a" * 1000


@pytest.fixture
def filled(near, release):
    """A near tier with a small file."""
    release.metadata(b"{}")
    release.dataset("clips", {"a.pt": CONTENT})
    vfs = near.node("first", version=release.version, datasets=["clips"])
    read(vfs, f"/{release.version}/clips/a.pt")
    written(vfs)


@pytest.fixture
def run(near, filled, run_here):
    """Run `ego4dfs near`."""
    options = ["--near", f"s3://{BUCKET}/{near.prefix}", "--near-profile", PROFILE]
    options += ["--near-endpoint", near.gateway.url]
    return lambda *words, **more: run_here("near", *words, *options, **more)


def test_info_counts_objects_by_kind(near, run):
    found = json.loads(run("info", "--json").stdout)
    assert found["url"] == f"s3://{BUCKET}/{near.prefix}"
    kinds = ("chunks", "facts", "tables", "media", "manifests", "leases")
    assert [found[kind]["objects"] for kind in kinds] == [1, 1, 1, 0, 1, 0]
    assert 1000 < found["chunks"]["bytes"] < 1100
    assert found["oldest"].startswith("20")
    lines = run("info").stdout.splitlines()
    assert lines[0].split() == [found["url"], "objects", "size"]
    assert lines[1].split()[:2] == ["chunks", "1"]
    assert lines[-1].startswith("The oldest was written at 20")


def test_verify_removes_what_is_damaged(near, run):
    [key] = near.keys("chunks")
    near.put(key, b"?" + near.content(key)[1:])
    done = run("verify", "--json", check=False)
    assert (done.returncode, json.loads(done.stdout)) == (1, {"sound": 3, "damaged": 1})
    assert near.keys("chunks") == []
    again = run("verify").stdout.splitlines()
    assert again[1].split() == ["sound", "3"]


@pytest.mark.parametrize(("hours", "left"), [(-900, 4), (0, 4), (2, 0)])
def test_clear_removes_what_is_old_by_the_clock_of_the_store(near, run, hours, left):
    now = datetime.now(timezone.utc) + timedelta(hours=hours)
    near.gateway.faults.headers = {"Date": f"{now:%a, %d %b %Y %H:%M:%S} GMT"}
    assert run("clear", "--older-than", "1h").stdout == f"{4 - left} objects removed\n"
    assert len(near.keys("")) == left


def test_only_what_needs_ages_needs_the_time_of_the_server(near, run):
    written = b"<LastModified>2020-01-01T00:00:00Z</LastModified>"
    one = b"<Contents><Key>a</Key><Size>1</Size>" + written + b"</Contents>"
    near.gateway.faults = Faults(
        reply=Reply(200, body=b"<ListBucketResult>" + one + b"</ListBucketResult>")
    )
    assert "shows no ages" in complaint(run("clear", "--older-than", "1h", check=False))
    assert run("clear").stdout == "1 objects removed\n"


def test_clear_removes_what_is_old_or_all(near, run):
    assert run("clear", "--older-than", "1h").stdout == "0 objects removed\n"
    assert len(near.keys("")) == 4
    assert json.loads(run("clear", "--json").stdout) == {"objects": 4}
    assert near.keys("") == []
    assert run("info").stdout.splitlines()[1].split() == ["chunks", "0", "0", "B"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no action was given"),
        (["prune"], "there is no action prune"),
        (["info", "--older-than", "1h"], "--older-than: only with clear"),
        (["clear", "--older-than", "soon"], "--older-than: expected a duration"),
        (["info"], "no near tier was given"),
    ],
)
def test_what_cannot_be_meant_is_refused(licensee, run_here, words, message):
    done = run_here("near", *words, check=False)
    assert done.returncode == 2
    assert message in complaint(done)


@pytest.mark.parametrize(("status", "code"), [(403, 4), (503, 1), (404, 1)])
def test_a_near_tier_that_refuses_is_an_error_with_its_url(near, run, status, code):
    near.gateway.faults = Faults(reply=Reply(status))
    done = run("info", check=False)
    assert done.returncode == code
    assert f"s3://{BUCKET}/{near.prefix}: answers {status}" in complaint(done)


def test_a_near_tier_that_is_not_there_is_an_error_with_the_remedy(near, run):
    near.gateway.faults = Faults(reply=Reply(404, body=b"<Code>NoSuchBucket</Code>"))
    assert "create the bucket first" in complaint(run("info", check=False))
    near.gateway.stop()
    assert "Connection refused\n  hint: check the server" in complaint(run("info", check=False))
