"""Small objects in formats that Ego4D does not have, made for the tests of libraries."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ego4dfs.demo.features import tensor_file

# Datasets of Ego4D of which the sample has no files; they show the objects of this module.
TABLES, FEATURES, CHUNKS = "social_test", "omnivore_video_swinl", "paco_frames"
ROWS = 250_000
_COLUMNS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def _numbers(*shape: int) -> Any:
    return np.random.default_rng(12).normal(size=shape)


def _csv() -> bytes:
    lines = (",".join(f"{value:.6f}" for value in row) for row in _numbers(40_000, 8).tolist())
    return "\n".join([",".join(_COLUMNS), *lines, ""]).encode()


def _json() -> bytes:
    passes = [{"timestamp_sec": i / 3, "narration_text": f"#C C opens {i}"} for i in range(40_000)]
    return json.dumps({"videos": passes}).encode()


def _json_lines() -> bytes:
    rows = ({"uid": f"{number:08}", "second": number / 7} for number in range(10_000))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet() -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table(dict(zip(_COLUMNS, _numbers(8, ROWS), strict=True)))
    parquet.write_table(table, buffer := io.BytesIO(), row_group_size=ROWS // 4)
    return buffer.getvalue()


def _tar() -> bytes:
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w") as archive:
        for number in range(64):
            for ending, data in (("json", b"{}"), ("bin", _numbers(8_192).tobytes())):
                member = tarfile.TarInfo(f"{number:04}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _npy() -> bytes:
    np.save(buffer := io.BytesIO(), _numbers(4_000, 256))
    return buffer.getvalue()


def _npz() -> bytes:
    np.savez(buffer := io.BytesIO(), one=_numbers(1_000, 256), other=_numbers(4_000, 256))
    return buffer.getvalue()


def _hdf5() -> bytes:
    import h5py

    with h5py.File(buffer := io.BytesIO(), "w") as file:
        file.create_dataset("features", data=_numbers(8_000, 256), chunks=(100, 256))
    return buffer.getvalue()


def _features() -> bytes:
    return tensor_file(_numbers(400, 2_304).astype(np.float32))


def _small_features() -> bytes:
    return tensor_file(_numbers(10, 2_304).astype(np.float32))


def _zarr() -> dict[str, bytes]:
    """Return the files of an array, which lie flat beside each other, as those of a dataset do."""
    import zarr

    with tempfile.TemporaryDirectory() as directory:
        array = zarr.create_array(
            directory, shape=(4_000, 256), chunks=(500, 256), dtype="f8", zarr_format=2
        )
        array[:] = _numbers(4_000, 256)
        return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


_MAKERS: dict[str, Callable[[], bytes]] = {
    "table.csv": _csv,
    "records.json": _json,
    "rows.jsonl": _json_lines,
    "table.parquet": _parquet,
    "samples.tar": _tar,
    "array.npy": _npy,
    "arrays.npz": _npz,
    "features.h5": _hdf5,
    "features.pt": _features,
}


def make(paths: set[str]) -> dict[str, dict[str, bytes]]:
    """Return the files that are named as `dataset/name` or `dataset`, by dataset and name."""
    made: dict[str, dict[str, bytes]] = {}
    for dataset, _, name in (path.partition("/") for path in sorted(paths)):
        if name in _MAKERS:
            made.setdefault(dataset, {})[name] = _MAKERS[name]()
    if FEATURES in paths:
        made[FEATURES] = {f"{number:04}.pt": _small_features() for number in range(16)}
    if CHUNKS in paths:
        made[CHUNKS] = _zarr()
    return made
