"""Reads through `ego4d://` in the ways of programs: each operation compares what it reads."""

from __future__ import annotations

import random

import fsspec

from kit.data import Seeded
from kit.load import Load
from kit.soak.files import DIRECTORIES, READ_DATASETS, VIDEO, size_of
from kit.soak.mount_reader import any_path, any_range, name_of, note_lost


class FsspecReader:
    """The operations on one filesystem of fsspec, which its threads share."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._fs = fsspec.filesystem(
            "ego4d", version="v1", datasets=list(READ_DATASETS), skip_instance_cache=True
        )

    def run(self, kind: str, rng: random.Random) -> None:
        """Run one operation; an OSError is counted as a valid result."""
        with self._load.operation(f"ego4d:// {kind}"):
            try:
                getattr(self, f"_{kind.replace(' ', '_')}")(rng)
            except FileNotFoundError as error:
                note_lost(self._load, str(error.filename))
                raise

    def close(self) -> None:
        """Close the filesystem."""
        self._fs.close()

    def _compare(self, path: str, offset: int, count: int, found: bytes) -> None:
        wanted = Seeded(name_of(path)).part(offset, count)
        self._load.compare(f"ego4d://: {path}: {offset}+{count}", found, wanted)

    def _cat_file(self, rng: random.Random) -> None:
        path = any_path(rng)
        offset, count = any_range(path, rng)
        if rng.random() < 0.2:
            with self._load.call("ego4d:// cat_file: whole"):
                found = self._fs.cat_file(f"v1/{path}")
            self._compare(path, 0, size_of(path), found)
        else:
            with self._load.call("ego4d:// cat_file"):
                found = self._fs.cat_file(f"v1/{path}", offset, offset + count)
            self._compare(path, offset, count, found)

    def _cat_ranges(self, rng: random.Random) -> None:
        paths = [any_path(rng) for _ in range(6)]
        ranges = [any_range(path, rng) for path in paths]
        starts = [offset for offset, _ in ranges]
        stops = [offset + count for offset, count in ranges]
        with self._load.call("ego4d:// cat_ranges"):
            results = self._fs.cat_ranges(
                [f"v1/{path}" for path in paths], starts, stops, on_error="return"
            )
        errors = [result for result in results if isinstance(result, Exception)]
        for path, (offset, count), found in zip(paths, ranges, results, strict=True):
            if not isinstance(found, Exception):
                self._compare(path, offset, count, found)
        if errors:
            raise errors[0]

    def _open(self, rng: random.Random) -> None:
        path = any_path(rng)
        with self._load.call("ego4d:// open"):
            file = self._fs.open(f"v1/{path}", block_size=rng.choice((4096, 1 << 20)))
        with file:
            for _ in range(rng.randint(1, 5)):
                offset, count = any_range(path, rng)
                file.seek(offset)
                with self._load.call("ego4d:// open: read"):
                    found = file.read(count)
                self._compare(path, offset, count, found)
            if file.size != size_of(path):
                self._load.note(self._load.wrong_sizes, f"ego4d://: {path}: {file.size}")

    def _head_and_tail(self, rng: random.Random) -> None:
        """Read the end and the beginning, as readers of indexes do."""
        path = any_path(rng)
        size = size_of(path)
        count = min(size, 70_000)
        with self._load.call("ego4d:// head and tail: open"):
            file = self._fs.open(f"v1/{path}")
        with file:
            file.seek(-count, 2)
            with self._load.call("ego4d:// head and tail: tail"):
                found = file.read()
            self._compare(path, size - count, count, found)
            file.seek(0)
            with self._load.call("ego4d:// head and tail: head"):
                found = file.read(1000)
            self._compare(path, 0, min(size, 1000), found)

    def _find(self, rng: random.Random) -> None:
        """List a directory; no name may be missing."""
        directory = rng.choice(list(DIRECTORIES))
        with self._load.call("ego4d:// find"):
            found = {name_of(path) for path in self._fs.find(f"v1/{directory}")}
        lost = set(DIRECTORIES[directory]) - found
        extra = found - set(DIRECTORIES[directory]) - {"manifest.csv", VIDEO}
        if lost or extra:
            self._load.note(self._load.unexpected, f"find: lost {lost}, extra {extra}")
