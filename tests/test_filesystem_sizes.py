"""`ego4d://` with a wrong size from the store or the index: whole files or an error."""

from __future__ import annotations

import pytest

from ego4dfs.store import breaker, retry
from ego4dfs.vfs import VFS
from kit.gateway import Gateway, Reply

DATA = bytes(range(256)) * 12_000
DATA_BYTES = len(DATA)


@pytest.fixture
def gateway(server, licensee, monkeypatch):
    with Gateway(server.endpoint_url) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        yield between


@pytest.fixture
def fs(gateway, open_fs, release):
    del gateway
    release.dataset("imu", {"a.csv": DATA})
    return open_fs(version=release.version, datasets=["imu"])


@pytest.mark.fault(
    area="answers",
    fault="a HEAD response with a wrong size",
    face="ego4d://",
    sees="cat_file is whole, and so is a file once it is opened",
    deadline="at once",
)
@pytest.mark.parametrize("off", [-137, 137])
def test_a_wrong_size_truncates_no_file(fs, gateway, release, off):
    gateway.faults.head_size_off = off
    path = f"{release.version}/imu/a.csv"
    assert fs.info(path)["size"] == len(DATA) + off
    with fs.open(path) as file:
        assert file.size == len(DATA)
        assert file.read() == DATA
    assert fs.info(path)["size"] == len(DATA)


def test_an_empty_file_with_a_wrong_size_is_empty_once_it_is_read(fs, gateway, release):
    release.dataset("imu", {"a.csv": DATA, "empty.csv": b""})
    gateway.faults.head_size_off = 137
    path = f"{release.version}/imu/empty.csv"
    assert fs.info(path)["size"] == 137
    assert fs.cat_file(path) == b""
    with fs.open(path) as file:
        assert file.read() == b""
    assert fs.info(path)["size"] == 0


def test_cat_file_retries_after_a_wrong_size(fs, gateway, release):
    gateway.faults.head_size_off = -137
    path = f"{release.version}/imu/a.csv"
    assert fs.info(path)["size"] == len(DATA) - 137
    assert fs.cat_file(path) == DATA


def test_cat_file_reads_bytes_past_a_size_that_is_too_small(fs, gateway, release):
    gateway.faults.head_size_off = -137
    path = f"{release.version}/imu/a.csv"
    assert fs.info(path)["size"] == len(DATA) - 137
    assert fs.cat_file(path, len(DATA) - 100) == DATA[-100:]


@pytest.mark.parametrize(
    ("start", "end", "gets"),
    [
        (0, 0, 0),
        (5, 3, 0),
        (None, 0, 0),
        (-3, 0, 0),
        (-3, -5, 0),
        (5, 10, 1),
        (DATA_BYTES + 5, DATA_BYTES + 9, 1),
        (5, -DATA_BYTES, 1),
    ],
)
def test_a_range_costs_no_request_to_confirm_a_size_that_cannot_matter(
    fs, gateway, release, start, end, gets
):
    path = f"{release.version}/imu/a.csv"
    assert fs.info(path)["size"] == len(DATA)
    gateway.reset()
    assert fs.cat_file(path, start, end) == DATA[start:end]
    assert [method for method, _, _ in gateway.log] == ["GET"] * gets


@pytest.mark.fault(
    area="answers",
    fault="a captive portal answers in the store's place",
    face="ego4d://",
    sees="OSError meanwhile; afterwards everything works, and nothing of its answers was kept",
    deadline="5 s, in 5 attempts",
)
def test_a_captive_portal_leaves_nothing_behind(fs, gateway, release, monkeypatch):
    monkeypatch.setattr(retry, "MAX_WAIT_S", 0.0)
    monkeypatch.setattr(breaker, "OPEN_S", 0.0)
    path = f"{release.version}/imu/a.csv"
    assert fs.exists(path)
    gateway.faults.reply = Reply(200, {"Content-Type": "text/html"}, b"<html>log in")
    for ask in (fs.info, fs.cat_file, fs.open):
        with pytest.raises(OSError, match="not the store's"):
            ask(path)
    gateway.faults.reply = None
    assert fs.info(path)["size"] == len(DATA)
    assert fs.cat_file(path) == DATA


def test_blocks_of_an_object_do_not_serve_it_under_another_size(fs, release):
    """If all blocks are cached, no answer of the store shows that the size is wrong."""
    path = f"{release.version}/imu/a.csv"
    assert fs.cat_file(path) == DATA
    vfs: VFS = fs.vfs
    url = vfs.resolve(path).url
    facts = vfs.session.facts.get(url)
    vfs.session.facts.remove(url)
    vfs.session.facts.record(url, type(facts)(facts.size - 137, facts.etag, "", facts.mtime_ns))
    assert fs.cat_file(path) == DATA
