"""A mount that the kernel would abort after some seconds ends its calls before that."""

from __future__ import annotations

import errno
import mmap
import os
import threading
import time

import pytest

from ego4dfs.blocks import Extent
from ego4dfs.errors import StoreUnavailable
from ego4dfs.mount import kernel_timeout
from ego4dfs.reader.flight import Flight
from ego4dfs.reader.flights import ByteBudget
from ego4dfs.runtime.deadline import ATTEMPT_S, Deadline, call_remaining_s, call_within
from kit.gateway import Faults, Gateway
from kit.mounts import status
from kit.server import environment
from kit.soak.fuse_timeout import request_timeout, why_not

KERNEL_S = 15  # the least that the kernel takes


@pytest.mark.parametrize(
    ("default", "largest", "limit_s"),
    [("0", "0", None), ("60", "0", 45.0), ("600", "60", 45.0), ("15", "0", 10.0), ("", "", None)],
)
def test_the_limit_is_read_from_the_kernel(
    tmp_path, monkeypatch, caplog, default, largest, limit_s
):
    monkeypatch.setattr(kernel_timeout, "SETTINGS", tmp_path)
    for name, value in (("default", default), ("max", largest)):
        if value:
            (tmp_path / f"{name}_request_timeout").write_text(f"{value}\n")
    assert kernel_timeout.call_limit_s() == limit_s
    assert ("may end the mount" in caplog.text) == (limit_s == 10.0)


def test_a_deadline_is_not_after_the_end_of_the_call():
    with call_within(100.0):
        assert 50.0 < Deadline.after(4000.0).remaining_s <= 100.0
        assert call_remaining_s() <= 100.0
    assert Deadline.after(4000.0).remaining_s > 3000.0


def test_a_call_within_another_ends_with_the_earlier_one():
    with call_within(100.0):
        with call_within(1.0):
            assert call_remaining_s() <= 1.0
        with call_within(1000.0):
            assert 1.0 < call_remaining_s() <= 100.0
        assert 1.0 < call_remaining_s() <= 100.0
    assert call_remaining_s() == float("inf")


def test_a_call_that_ends_leaves_the_flight_to_other_readers():
    flight = Flight(Extent("key", 0, 4))
    found = bytearray(4)
    other = threading.Thread(target=flight.read_into, args=(0, memoryview(found)))
    other.start()
    with pytest.raises(StoreUnavailable), call_within(0.1):
        flight.read_into(0, memoryview(bytearray(4)))
    flight.append(memoryview(b"data"))
    other.join()
    assert found == b"data"


def test_a_call_that_ends_does_not_wait_for_memory():
    budget = ByteBudget(10)
    assert budget.acquire(10, wait=True)
    began_s = time.monotonic()
    with pytest.raises(StoreUnavailable), call_within(0.1):
        budget.acquire(1, wait=True)
    assert time.monotonic() - began_s < 5.0


def test_a_call_begins_no_attempt_that_would_outlast_it(store, gateway, bucket):
    url = bucket.put("0", b"data")
    gateway.faults = Faults(slow_down_every=1, retry_after_s=30)
    began_s = time.monotonic()
    with pytest.raises(StoreUnavailable), call_within(ATTEMPT_S + 0.5):
        store.head(url)
    assert time.monotonic() - began_s < 10.0


@pytest.mark.fuse
@pytest.mark.slow
@pytest.mark.fault(
    area="mount",
    fault="the kernel aborts mounts that do not answer (fs.fuse.default_request_timeout), while"
    " the store asks to slow down",
    face="mount",
    sees="the read fails with EIO; the mount stays",
    deadline="a quarter of the kernel's time limit before its end, 5 s or more",
)
def test_the_kernel_does_not_abort_a_mount_whose_store_throttles(
    server, release, mount, tmp_path, transport
):
    release.dataset("annotations", {"a.json": b"x" * 4096})
    with Gateway(server.endpoint_url) as front:
        env = environment(server, tmp_path / "home", transport, AWS_ENDPOINT_URL_S3=front.url)
        with request_timeout(KERNEL_S):
            root = mount("--version", release.version, "--datasets", "annotations", env=env)
        path = root / release.version / "annotations/a.json"
        assert path.stat().st_size == 4096
        if why_not():  # then the kernel aborts no mount
            return
        front.faults = Faults(slow_down_every=1, retry_after_s=60)
        began_s = time.monotonic()
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            read_direct(path)
        assert time.monotonic() - began_s < KERNEL_S
        front.faults = Faults()
        assert status(root)["throttled"]


def read_direct(path) -> int:
    """Read by one request: for pages the kernel would ask twice."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 4096) as buffer:
            return os.preadv(fd, [buffer], 0)
    finally:
        os.close(fd)
