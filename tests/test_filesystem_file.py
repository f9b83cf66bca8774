"""Open files of `ego4d://` behave as buffered local files, and read each byte once."""

from __future__ import annotations

import errno
import io
import os
import pickle
from contextlib import contextmanager
from itertools import product

import fsspec
import pytest
from fsspec.spec import AbstractBufferedFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE
from kit.data import seeded

LINES = b"".join(b'{"number": %d, "text": "%s"}\n' % (n, b"x" * (n % 99)) for n in range(30_000))
LARGE = seeded("file", 8 * BLOCK_SIZE + 99)
FILES = {"lines.json": LINES, "large.pt": LARGE, "empty.json": b"", "short.json": b"a\nbc\n\nd"}


@pytest.fixture
def top(release) -> str:
    return f"{release.version}/annotations"


@pytest.fixture
def fs(open_fs, release):
    release.dataset("annotations", FILES)
    return open_fs(version=release.version, datasets=["annotations"])


@contextmanager
def reads_of_the_vfs(fs, monkeypatch):
    """Collect the ranges that are read from the VFS."""
    found = []
    original = fs.vfs.read_into

    def read_into(handle, offset, view):
        count = original(handle, offset, view)
        found.append(range(offset, offset + count))
        return count

    with monkeypatch.context() as patched:
        patched.setattr(fs.vfs, "read_into", read_into)
        yield found


def counts(fs) -> tuple[int, int]:
    metrics = fs.vfs.session.metrics
    return metrics.requests["get"], metrics.bytes_fetched


LINE_READERS = {
    "iteration": list,
    "readline": lambda file: list(iter(file.readline, b"")),
    "readlines": lambda file: file.readlines(),
    "readuntil": lambda file: list(iter(file.readuntil, b"")),
    "text": lambda file: [line.encode() for line in io.TextIOWrapper(file, newline="\n")],
    "short reads": lambda file: b"".join(iter(lambda: file.read(50), b"")).splitlines(
        keepends=True
    ),
}


@pytest.mark.parametrize("call", LINE_READERS)
def test_lines_are_read_through_a_buffer_and_cost_what_large_reads_cost(fs, top, call, monkeypatch):
    """The VFS is read once for each part, in order, so its read-ahead sees one sequential run."""
    with fs.open(f"{top}/lines.json") as file, reads_of_the_vfs(fs, monkeypatch) as reads:
        assert LINE_READERS[call](file) == LINES.splitlines(keepends=True)
    if call != "readuntil":  # which steps back in its buffer
        covered = [part for part in reads if part]
        assert [part.start for part in covered[1:]] == [part.stop for part in covered[:-1]]
        assert covered[-1].stop == len(LINES)
        assert len(reads) <= len(LINES) / PART_SIZE + 8
    assert counts(fs)[1] == len(LINES)


def test_small_reads_of_a_large_file_send_the_requests_of_large_ones(fs, top, release):
    with fs.open(f"{top}/large.pt") as file:
        while file.read(10_000):
            pass
    by_small_reads = counts(fs)
    release.dataset("imu", {"large.pt": LARGE})
    other = fsspec.filesystem(
        "ego4d", version=release.version, datasets=["imu"], skip_instance_cache=True
    )
    with other.open(f"{release.version}/imu/large.pt") as file:
        handle = file.raw._handle
        for start in range(0, len(LARGE), PART_SIZE):
            other.vfs.read(handle, start, PART_SIZE)
    assert by_small_reads == counts(other)
    assert by_small_reads[1] == len(LARGE)
    other.close()


@pytest.mark.parametrize("offset", [3 * BLOCK_SIZE + PART_SIZE - 9, 5 * BLOCK_SIZE + 17])
def test_a_small_read_costs_what_it_costs_without_a_buffer(fs, top, offset, monkeypatch):
    """The buffer never reaches into another part, which would be another request."""
    with fs.open(f"{top}/large.pt") as file, reads_of_the_vfs(fs, monkeypatch) as reads:
        file.seek(offset)
        assert file.read(9) == LARGE[offset : offset + 9]
        (part,) = reads
    assert part.start // PART_SIZE == (part.stop - 1) // PART_SIZE
    assert len(part) <= PART_SIZE // 8


def test_a_large_read_fills_the_buffer_of_the_caller(fs, top, monkeypatch):
    buffer = bytearray(4 * BLOCK_SIZE)
    with fs.open(f"{top}/large.pt") as file, reads_of_the_vfs(fs, monkeypatch) as reads:
        assert file.readinto(buffer) == len(buffer)
        assert file.read() == LARGE[len(buffer) :]
        assert reads == [range(len(buffer)), range(len(buffer), len(LARGE))]
    assert buffer == LARGE[: len(buffer)]


STEPS = st.one_of(
    st.tuples(st.just("read"), st.sampled_from([0, 1, 7, 5000, PART_SIZE + 3, -1, None])),
    st.tuples(st.just("readline"), st.sampled_from([-1, 0, 1, 40, None])),
    st.tuples(st.just("readlines"), st.sampled_from([None, 1, 5000])),
    st.tuples(st.just("seek"), st.integers(0, len(LINES) + 99)),
    st.tuples(st.just("seek"), st.integers(-len(LINES), 50), st.just(os.SEEK_END)),
    st.tuples(st.just("tell")),
    st.tuples(st.just("__next__")),
    st.tuples(st.just("readinto"), st.sampled_from([0, 1, 70_000, 2 * PART_SIZE])),
)


def outcome(file, name: str, *arguments: object) -> object:
    if name == "readinto":
        buffer = bytearray(*arguments)
        return file.readinto(buffer), bytes(buffer)
    try:
        return getattr(file, name)(*arguments)
    except StopIteration:
        return "the end"


@pytest.mark.parametrize("name", FILES)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEPS, max_size=12))
def test_any_calls_give_what_a_local_file_gives(fs, top, name, steps):
    local = io.BufferedReader(io.BytesIO(FILES[name]))
    with fs.open(f"{top}/{name}") as file:
        for step in steps:
            if step[0] == "seek" and len(step) == 3:
                step = ("seek", max(step[1], -len(FILES[name])), os.SEEK_END)  # noqa: PLW2901
            assert outcome(file, *step) == outcome(local, *step), step
            assert file.tell() == file.loc == local.tell()


def test_calls_that_return_what_is_there(fs, top):
    """`read1`, `readinto1` and `peek` return some bytes, at most one read of the VFS."""
    with fs.open(f"{top}/large.pt") as file:
        seen = file.peek(10)
        assert len(seen) >= 10
        assert LARGE.startswith(seen)
        assert file.tell() == 0
        part = file.read1()
        buffer = bytearray(100)
        count = file.readinto1(buffer)
        assert 0 < count <= 100
        assert part + buffer[:count] == LARGE[: len(part) + count]


def test_readuntil_finds_separators_wherever_its_steps_end(fs, top):
    data = FILES["short.json"]
    with fs.open(f"{top}/short.json") as file:
        for separator, blocks in product((b"\n", b"\n\n", b"bc", b"missing"), (None, 1, 2)):
            at = data.find(separator)
            stop = at + len(separator) if at >= 0 else len(data)
            assert file.readuntil(separator, blocks) == data[:stop]
            assert file.tell() == stop
            assert file.read() == data[stop:]
            file.seek(0)


CLOSED_CALLS = {
    **dict.fromkeys(("read", "readline", "readlines", "readuntil", "tell", "__next__"), ()),
    **dict.fromkeys(("peek", "read1", "readable", "seekable", "flush", "__enter__"), ()),
    **dict.fromkeys(("readinto", "readinto1"), (bytearray(1),)),
    "seek": (0,),
}


def test_a_closed_file_raises_value_error(fs, top):
    with fs.open(f"{top}/short.json") as file:
        raw = file.raw
        assert file.read(1) == b"a"
    file.close()
    assert file.closed
    calls = [(file, *call) for call in CLOSED_CALLS.items()]
    of_raw = {name: CLOSED_CALLS[name] for name in ("tell", "seek", "readinto", "readable")}
    calls += [(raw, *call) for call in [*of_raw.items(), ("readall", ())]]
    for each, name, arguments in calls:
        with pytest.raises(ValueError, match="closed"):
            getattr(each, name)(*arguments)


def test_a_wrong_seek_is_refused_and_moves_nothing(fs, top):
    with fs.open(f"{top}/short.json") as file:
        for offset, whence in ((-1, 0), (-1, 1), (-100, 2), (0, 9)):
            with pytest.raises(ValueError, match=r"seek|whence"):
                file.seek(offset, whence)
        assert file.read(2) == b"a\n"


def test_a_detached_file_is_the_raw_one(fs, top):
    file = fs.open(f"{top}/short.json")
    raw = file.detach()
    with pytest.raises(ValueError, match="detached"):
        file.read()
    with raw:
        assert raw.readall() == FILES["short.json"]


def test_a_file_has_what_files_of_fsspec_have(fs, top):
    path = f"{top}/short.json"
    with fs.open(path) as file:
        assert isinstance(file, AbstractBufferedFile)
        assert isinstance(file, io.BufferedReader)
        names = {name for name in dir(AbstractBufferedFile) if not name.startswith("_")}
        assert names - set(dir(file)) == {"DEFAULT_BLOCK_SIZE"}
        assert (file.path, file.full_name) == (path, f"ego4d://{path}")
        assert (file.mode, file.size, file.blocksize) == ("rb", 7, BLOCK_SIZE)
        assert file.info() == file.details == fs.info(path)
        assert not hasattr(file, "name")  # libraries would open it on the local disk
        file.name = "given"
        assert file.name == "given"
        assert (file.commit(), file.discard()) == (None, None)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
        with pytest.raises(io.UnsupportedOperation):
            file.fileno()


def test_a_pickled_file_opens_again_at_its_position(fs, top):
    with fs.open(f"{top}/short.json") as file:
        file.read(2)
        copy = pickle.loads(pickle.dumps(file))  # noqa: S301
    with copy:
        assert copy.read() == FILES["short.json"][2:]
    copy.fs.close()


def test_a_forked_child_reads_on_in_a_file_of_its_parent(fs, top):
    """Each has its own position; the child reads what is not in the buffer by its own tree."""
    with fs.open(f"{top}/large.pt") as file:
        assert file.read(10) == LARGE[:10]
        pid = os.fork()
        if not pid:
            try:
                os._exit(0 if file.read() == LARGE[10:] else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert file.read() == LARGE[10:]


def test_a_file_shows_one_version_or_an_error(fs, top, release):
    """What is in the buffer belongs to the version that was opened, and what follows is refused."""
    with fs.open(f"{top}/large.pt") as file:
        assert file.read(10) == LARGE[:10]
        release.put("annotations/large.pt", seeded("replaced", len(LARGE)))
        assert file.read(10) == LARGE[10:20]
        file.seek(6 * BLOCK_SIZE)
        with pytest.raises(OSError) as caught:  # noqa: PT011
            file.read(10)
        assert caught.value.errno == errno.ESTALE
        assert caught.value.filename == f"{top}/large.pt"


def test_a_block_cache_of_fsspec_reads_through(fs, top, tmp_path):
    cached = fsspec.filesystem("blockcache", fs=fs, cache_storage=str(tmp_path / "blocks"))
    with cached.open(f"{top}/lines.json") as file:
        assert file.read(100) == LINES[:100]
        assert file.cache._fetch(200, 300) == LINES[200:300]
        assert list(file) == LINES[100:].splitlines(keepends=True)
