"""No call of fsspec that needs names only sends a HEAD request."""

from __future__ import annotations

import fsspec
import pytest

FILES = {f"{name}.csv": name.encode() for name in ("one", "two", "three", "four")}


@pytest.fixture
def fs(licensee, release):
    release.dataset("imu", FILES)
    release.metadata(b"{}")
    opened = fsspec.filesystem(
        "ego4d", version=release.version, datasets=["imu"], skip_instance_cache=True
    )
    yield opened
    opened.close()


NAMES = {
    "glob": lambda fs, top: fs.glob(f"{top}/*.csv"),
    "glob below": lambda fs, top: fs.glob(f"ego4d://{top.split('/')[0]}/**"),
    "glob without magic": lambda fs, top: fs.glob(f"{top}/one.csv"),
    "find": lambda fs, _: fs.find(""),
    "find with directories": lambda fs, _: fs.find("", withdirs=True),
    "find a file": lambda fs, top: fs.find(f"{top}/one.csv"),
    "walk": lambda fs, _: list(fs.walk("")),
    "walk from below": lambda fs, _: list(fs.walk("", topdown=False)),
    "expand": lambda fs, top: fs.expand_path(top, recursive=True),
}


@pytest.mark.parametrize("call", NAMES.values(), ids=NAMES)
def test_names_cost_no_head(fs, release, call):
    assert call(fs, f"{release.version}/imu")
    assert fs.vfs.session.metrics.requests["head"] == 0


DETAILS = {
    "glob": lambda fs, top: fs.glob(f"{top}/*.csv", detail=True),
    "find": lambda fs, top: fs.find(top, detail=True),
    "find, told by position": lambda fs, top: fs.find(top, None, False, True),
    "walk": lambda fs, top: next(fs.walk(top, detail=True))[2],
}


@pytest.mark.parametrize("call", DETAILS.values(), ids=DETAILS)
def test_details_are_returned_on_request(fs, release, call):
    found = {info["name"]: info["size"] for info in call(fs, f"{release.version}/imu").values()}
    for name, data in FILES.items():
        assert found[f"{release.version}/imu/{name}"] == len(data)


def test_names_and_details_are_of_the_same_files(fs, release):
    top = f"{release.version}/imu"
    assert fs.find(top) == list(fs.find(top, detail=True))
    assert fs.glob(f"{top}/t*") == list(fs.glob(f"{top}/t*", detail=True))
    assert fs.find(f"{top}/one.csv") == [f"{top}/one.csv"]
    assert fs.find(f"{top}/nothing") == fs.glob(f"{top}/nothing") == []
    with pytest.raises(FileNotFoundError):
        list(fs.walk(f"{top}/nothing", on_error="raise"))
