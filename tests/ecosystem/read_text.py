"""Read text and whole files with one library each; `path` is a path of a mount or a URL."""

from __future__ import annotations

import io
import json
import subprocess
from typing import Any

import fsspec


def fsspec_read(path: str) -> bytes:
    with fsspec.open(path) as file:
        return file.read()


def fsspec_cat_file(path: str) -> bytes:
    fs, name = fsspec.url_to_fs(path)
    return fs.cat_file(name, 13_000_000, 13_001_000)


def fsspec_cat_ranges(path: str) -> list[bytes]:
    fs, name = fsspec.url_to_fs(path)
    starts = list(range(1_000, 4_000_000, 10_000))
    return fs.cat_ranges([name] * len(starts), starts, [start + 1_000 for start in starts])


def fsspec_blockcache(path: str) -> bytes:
    with fsspec.open(f"simplecache::{path}") as file:
        return file.read()


def lines(path: str) -> list[bytes]:
    with fsspec.open(path) as file:
        return list(file)


def text_lines(path: str) -> list[str]:
    with fsspec.open(path, "r") as file:
        return list(file)


def json_load(path: str) -> Any:
    with fsspec.open(path) as file:
        return json.load(file)


def orjson_loads(path: str) -> Any:
    import orjson

    with fsspec.open(path) as file:
        return orjson.loads(file.read())


def ijson_items(path: str) -> list[Any]:
    import ijson

    with fsspec.open(path) as file:
        return [str(item) for item in ijson.items(file, "videos.item")]


def upath_read_bytes(path: str) -> bytes:
    from upath import UPath

    return UPath(path).read_bytes()


def upath_glob(path: str) -> list[str]:
    from upath import UPath

    return sorted(child.name for child in UPath(path).glob("*.pt"))


def smart_open_path(path: str) -> bytes:
    import smart_open

    with smart_open.open(path, "rb") as file:
        return file.read()


def ffmpeg_path(path: str) -> bytes:
    options = ["-v", "error", "-ss", "30", "-i", path, "-t", "2", "-f", "md5", "-"]
    return subprocess.run(["ffmpeg", *options], check=True, capture_output=True).stdout


def ffmpeg_stdin(path: str) -> bytes:
    options = ["-v", "error", "-i", "pipe:0", "-t", "2", "-f", "md5", "-"]
    with fsspec.open(path) as file, io.BytesIO(file.read()) as whole:
        line = ["ffmpeg", *options]
        return subprocess.run(line, input=whole.read(), check=True, capture_output=True).stdout
