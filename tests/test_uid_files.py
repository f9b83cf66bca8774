"""Files of uids from other programs: they work, or one line says why not."""

from __future__ import annotations

import os
import threading

import pytest

from ego4dfs.catalog import uids_in
from ego4dfs.config import resolve, text_files
from ego4dfs.errors import ConfigError

ONE, TWO = (f"{n:08x}-0000-4000-8000-000000000000" for n in (1, 2))
TABLE = f"video_uid,start\n{ONE},1\n{TWO},2\n"


@pytest.mark.fault(
    area="input",
    fault="a CSV or JSON of uids in another form: UTF-16, CR line ends, huge fields, open quotes",
    face="all",
    sees="its uids are read",
    deadline="at once",
)
@pytest.mark.parametrize(
    "content",
    [
        TABLE.encode(),
        TABLE.encode("utf-8-sig"),
        TABLE.encode("utf-16"),
        b"\xfe\xff" + TABLE.encode("utf-16-be"),
        TABLE.replace("\n", "\r").encode(),
        TABLE.replace("\n", "\r\n").encode(),
        f"\n\n{TABLE}".encode(),
        f'note,video_uid\n{"n" * 200_000},{ONE}\n"{"n," * 100_000}",{TWO}\n'.encode(),
        f'note,video_uid\n"open,{ONE}\nx,{TWO}\n'.encode(),
        f"note,video_uid\n\0\0,{ONE}\nx,{TWO}\n".encode(),
        f'[{{"video_uid": "{ONE}"}}, {{"video_uid": "{TWO}"}}]'.encode("utf-16"),
    ],
)
@pytest.mark.parametrize("size", [4, 1 << 20])
def test_uids_are_found_in_any_form_of_file(content, size):
    found = uids_in(content[at : at + size] for at in range(0, len(content), size))
    assert found.videos == {ONE, TWO}


def test_a_file_without_a_table_contains_no_uids():
    for content in (b"\0" * 5_000_000, os.urandom(1 << 20), b'"' * 5_000_000, b""):
        assert not uids_in([content]).videos


def uids(path) -> tuple[str, ...]:
    return resolve({"video_uid_file": path}, environ={}).video_uids


def refused(**given) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        resolve(given, environ={})
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_list_of_uids_may_have_any_unicode_and_line_ends(tmp_path, encoding, end):
    (tmp_path / "uids").write_bytes(f"{ONE}{end}{TWO}{end}".encode(encoding))
    assert uids(tmp_path / "uids") == (ONE, TWO)


@pytest.mark.fault(
    area="input",
    fault="a list of uids or a config file with NULs, or a device, a directory, a huge file",
    face="all",
    sees="one line that names the file and what is wrong with it; exit code 2",
    deadline="at once",
)
def test_a_file_that_is_not_a_list_of_uids_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "_TEXT_BYTES", 1000)
    (tmp_path / "nul").write_bytes(ONE.encode() + b"\0" * 100)
    (tmp_path / "huge").write_bytes(b"x " * 1000)
    assert "it is not a text file" in str(refused(video_uid_file=tmp_path / "nul"))
    assert "larger than" in str(refused(video_uid_file=tmp_path / "huge"))
    assert "there is no file" in str(refused(video_uid_file=tmp_path))
    for option in ("video_uid_file", "config_path"):
        assert "is a device" in str(refused(**{option: "/dev/zero"}))
        assert refused(**{option: "/proc/self/mem"}).hint


@pytest.mark.parametrize("content", [b"[" * 200_000, b"\0" * 900, b"\xff\xfe{", b"", b"nul"])
def test_a_config_file_that_is_not_json_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "config").write_bytes(content)
    assert "cannot be read as JSON" in str(refused(config_path=tmp_path / "config"))


def test_a_config_file_may_be_utf_16(tmp_path):
    (tmp_path / "config").write_bytes('{"version": "v1"}'.encode("utf-16"))
    assert resolve({"config_path": tmp_path / "config"}, environ={}).version == "v1"


def test_a_pipe_is_read_when_its_writer_starts(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Timer(0.2, (tmp_path / "pipe").write_text, [f"{ONE}\n{TWO}\n"])
    writer.start()
    assert uids(tmp_path / "pipe") == (ONE, TWO)
    writer.join()


@pytest.mark.fault(
    area="input",
    fault="a pipe without a writer as a file of uids",
    face="all",
    sees="one line that says so; exit code 2",
    deadline="30 s",
)
def test_a_pipe_that_stays_silent_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "PIPE_WAIT_S", 0.1)
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe, and no data arrived" in str(refused(video_uid_file=tmp_path / "pipe"))


@pytest.fixture
def without_home(monkeypatch):
    """Run as a user without HOME and without an entry in /etc/passwd, as in containers."""
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)


@pytest.mark.fault(
    area="input",
    fault="a user without a home directory",
    face="all",
    sees="all works with --cache-dir; without it one line names that option",
    deadline="at once",
)
def test_without_a_home_only_a_cache_directory_must_be_named(without_home, tmp_path):
    error = refused()
    assert "HOME is not set" in str(error)
    assert "--cache-dir" in error.hint
    assert resolve({"cache_dir": tmp_path}, environ={}).cache_dir == tmp_path
    assert resolve({}, environ={"XDG_CACHE_HOME": "/c"}).cache_dir.parts[:2] == ("/", "c")
    assert "without ~" in refused(cache_dir="~/x").hint
