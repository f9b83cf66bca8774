"""Libraries with their own tables of schemes open `ego4d://` after `ego4dfs.register`."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile

import pytest
import smart_open
import webdataset
from iopath.common.file_io import g_pathmgr

import ego4dfs
from ego4dfs import integrations
from ego4dfs.errors import ConfigError
from ego4dfs.integrations import filesystem

LINES = b"one\ntwo\n"
SAMPLES = {f"{number:03}": b"x" * number for number in range(40)}


@pytest.fixture
def top(licensee, release):
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as tar:
        for name, data in SAMPLES.items():
            member = tarfile.TarInfo(f"{name}.bin")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    release.dataset("annotations", {"lines.json": LINES, "shard.tar": shard.getvalue()})
    names = ego4dfs.register(version=release.version, datasets=["annotations"])
    assert names == ("webdataset", "smart_open", "iopath")
    yield f"ego4d://{release.version}/annotations"
    filesystem.current().close()


def test_webdataset_reads_shards(top):
    dataset = webdataset.WebDataset(f"{top}/shard.tar", shardshuffle=False)
    assert {sample["__key__"]: sample["bin"] for sample in dataset} == SAMPLES


def test_smart_open_reads_bytes_and_lines(top, release):
    with smart_open.open(f"{top}/lines.json", "rb") as file:
        assert file.read() == LINES
    with smart_open.open(f"{top}/lines.json") as file:
        assert list(file) == ["one\n", "two\n"]
    with smart_open.open(f"{top}/lines.json", transport_params={"metadata": False}) as file:
        assert file.readline() == "one\n"
    with pytest.raises(OSError, match="Read-only"):
        smart_open.open(f"{top}/lines.json", "wb")


def test_iopath_reads_and_lists(top):
    with g_pathmgr.open(f"{top}/lines.json") as file:
        assert file.read() == LINES.decode()
    assert sorted(g_pathmgr.ls(top)) == ["lines.json", "manifest.csv", "shard.tar"]
    found = [
        (call(top), call(f"{top}/lines.json"), call(f"{top}/nothing"))
        for call in (g_pathmgr.exists, g_pathmgr.isfile, g_pathmgr.isdir)
    ]
    assert found == [(True, True, False), (False, True, False), (True, False, False)]
    with pytest.raises(OSError, match="Read-only"):
        g_pathmgr.open(f"{top}/lines.json", "w")


def test_a_later_call_replaces_the_options(top, release):
    assert ego4dfs.register("webdataset", version=release.version) == ("webdataset",)
    assert filesystem.current().config.datasets == ()


def test_what_cannot_be_registered_is_an_error(licensee, monkeypatch):
    with pytest.raises(ConfigError, match="nothing to register") as raised:
        ego4dfs.register("fsspec")
    assert "webdataset" in raised.value.hint
    with pytest.raises(ConfigError, match="datset"):
        ego4dfs.register(datset="clips")
    monkeypatch.setattr(integrations, "_is_installed", lambda _: False)
    assert ego4dfs.register() == ()
    with pytest.raises(ImportError, match="pip install iopath"):
        ego4dfs.register("iopath")


def test_no_library_is_imported_before_it_is_registered():
    code = (
        "import sys, ego4dfs, ego4dfs.integrations;"
        "sys.exit(any(name in sys.modules for name in ('webdataset', 'smart_open', 'iopath')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
