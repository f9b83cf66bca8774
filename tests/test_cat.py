"""`ego4dfs cat`: the bytes of a file, or one line about what is wrong."""

from __future__ import annotations

import subprocess

import pytest

from ego4dfs import cli as program
from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE
from ego4dfs.cli.output import ExitCode
from ego4dfs.errors import ObjectChanged
from ego4dfs.vfs import VFS
from kit.cli import EGO4DFS
from kit.data import seeded

LARGE = seeded("cat", 20 * BLOCK_SIZE + 99)
FILES = {"large.pt": LARGE, "text.json": b"0123456789\r\n\xff\0", "empty.json": b""}


@pytest.fixture
def cat(licensee, release, capfdbinary):
    """Run the command in this process; returns exit code, stdout and stderr."""
    release.dataset("annotations", FILES)
    release.metadata(b"{}")

    def run(name: str, *arguments: str) -> tuple[int, bytes, str]:
        path = name.format(top=f"{release.version}/annotations")
        code = program.main(["cat", path, "--version", release.version, *arguments])
        out, err = capfdbinary.readouterr()
        lines = [line for line in err.decode().splitlines() if "using it anyway" not in line]
        return code, out, "\n".join(lines)

    return run


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("form", ["{top}/", "/{top}//", "ego4d://{top}/"])
def test_it_writes_the_bytes_of_a_file_unchanged(cat, name, form):
    assert cat(form + name) == (0, FILES[name], "")


@pytest.mark.parametrize(
    ("given", "place"),
    [
        *(("0-4", slice(0, 5)), ("3-3", slice(3, 4)), ("5-", slice(5, None))),
        *(("-3", slice(-3, None)), ("-999", slice(None)), ("0-", slice(None))),
        ("8-1000", slice(8, None)),
    ],
)
def test_a_range_includes_its_last_byte(cat, given, place):
    assert cat("{top}/text.json", f"--range={given}") == (0, FILES["text.json"][place], "")


def test_a_range_fetches_its_parts(cat, monkeypatch):
    fetched = []
    original = VFS.close

    def close(self):
        original(self)
        fetched.append(self.session.metrics.bytes_fetched)

    monkeypatch.setattr(VFS, "close", close)
    first, last = 9 * BLOCK_SIZE + 5, 17 * BLOCK_SIZE + 8
    code, out, _ = cat("{top}/large.pt", "--range", f"{first}-{last}")
    assert (code, out == LARGE[first : last + 1]) == (0, True)
    assert fetched[0] <= last - first + 1 + BLOCK_SIZE + PART_SIZE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{top}/nothing",), "/nothing: no such file or directory in this selection"),
        (("{top}/text.json/x",), "/x: no such file or directory in this selection"),
        (("{top}",), "/annotations: is a directory"),
        (("{top}/text.json", "--range", "500-"), "--range: begins at 500, and "),
        *(
            (("{top}/text.json", f"--range={wrong}"), f"--range: '{wrong}' is not a range of bytes")
            for wrong in ("9-3", "x", "-", "-0", "1-2-3", "1:2")
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_a_hint(cat, arguments, message):
    code, out, err = cat(*arguments)
    assert (code, out) == (ExitCode.USAGE, b"")
    assert message in err.splitlines()[0]
    assert len(err.splitlines()) <= 2


def test_a_missing_object_fails(cat, release):
    release.manifest("annotations", f"video_uid,type,s3_path\nx,file,{release.url('gone.json')}\n")
    code, out, err = cat("{top}/gone.json")
    assert (code, out) == (ExitCode.FAILURE, b"")
    assert "gone.json" in err.splitlines()[0]


def test_an_object_that_is_replaced_before_its_first_byte_is_written_anew(
    cat, release, monkeypatch
):
    other = seeded("other", len(LARGE))
    replace_it = [lambda: release.put("annotations/large.pt", other)]
    original = VFS.read_into

    def read_into(self, *arguments):
        while replace_it:
            replace_it.pop()()
        return original(self, *arguments)

    monkeypatch.setattr(VFS, "read_into", read_into)
    code, out, err = cat("{top}/large.pt")
    assert (code, out == other, err) == (0, True, "")


def test_an_object_that_is_replaced_later_is_an_error(cat, monkeypatch):
    """What was written before is of the old version."""
    original = VFS.read_into

    def read_into(self, handle, offset, view):
        if offset:
            raise ObjectChanged("large.pt: was replaced")
        return original(self, handle, offset, view)

    monkeypatch.setattr(VFS, "read_into", read_into)
    code, out, err = cat("{top}/large.pt")
    assert (code, err) == (ExitCode.FAILURE, "ego4dfs: large.pt: was replaced")
    assert out == LARGE[: len(out)]


def test_a_reader_that_stops_ends_it_quietly(licensee, release):
    release.dataset("annotations", FILES)
    path = f"{release.version}/annotations/large.pt"
    command = [*EGO4DFS, "cat", path, "--version", release.version]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout.read(1000) == LARGE[:1000]
        running.stdout.close()
        err = running.stderr.read().decode()
        assert running.wait(60) == 141
    assert [line for line in err.splitlines() if "using it anyway" not in line] == []


def test_it_reads_what_a_mount_has_cached(shared_mount):
    name = "narration.json"
    path = f"{shared_mount.release.version}/annotations/{name}"
    assert (shared_mount.directory / name).read_bytes() == shared_mount.files[name]
    command = [*EGO4DFS, "cat", path, "--version", shared_mount.release.version]
    done = subprocess.run(command, capture_output=True, env=shared_mount.env, check=True)
    assert done.stdout == shared_mount.files[name]
