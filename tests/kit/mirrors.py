"""A mirror of three small datasets in a directory, and options that name it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

BUCKET = "ego4d-consortium-sharing"
UIDS = ["0a000000-0000-4000-8000-000000000000", "0b000000-0000-4000-8000-000000000000"]


@pytest.fixture(scope="module")
def mirror(tmp_path_factory) -> Path:
    """Two datasets with benchmarks, one with annotations."""
    root = tmp_path_factory.mktemp("mirror")
    base = root / BUCKET / "public/v2"
    (base / "o").mkdir(parents=True)
    tables = {
        "full_scale": "video_uid,type,s3_path,benchmarks,split_fho",
        "clips": "exported_clip_uid,type,s3_path,benchmarks,split_fho",
        "annotations": "file_uid,type,s3_path,benchmarks,annotation",
    }
    for dataset, header in tables.items():
        (base / dataset).mkdir()
        last = ["nlq", "vq"] if dataset == "annotations" else ["train", "val"]
        rows = [header]
        for uid, benchmark, word in zip(UIDS, ("[FHO]", "[EM|VQ]"), last, strict=True):
            name = f"{dataset}-{uid}.csv"
            (base / "o" / name).write_bytes(b"x")
            rows.append(f"{uid},file,s3://{BUCKET}/public/v2/o/{name},{benchmark},{word}")
        (base / dataset / "manifest.csv").write_text("\n".join([*rows, ""]))
    (base / "ego4d.json").write_bytes(b"{}")
    return root


@pytest.fixture
def options(mirror, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.WARNING, "ego4dfs")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in {"SOURCE": mirror, "VERSION": "v2", "CACHE_DIR": tmp_path / "cache"}.items():
        monkeypatch.setenv(f"EGO4DFS_{name}", str(value))
    return {"source": str(mirror), "version": "v2", "cache_dir": str(tmp_path / "cache")}
