"""Read tables with one library each; `path` is a path of a mount or a URL."""

from __future__ import annotations

from typing import Any

import fsspec
import numpy as np

COLUMN = "second"  # one of eight in table.parquet


def pandas_read_csv(path: str) -> Any:
    import pandas as pd

    return pd.read_csv(path).to_numpy()


def pandas_read_json(path: str) -> Any:
    import pandas as pd

    return pd.read_json(path, lines=True).to_numpy().tolist()


def pandas_read_parquet(path: str) -> Any:
    import pandas as pd

    return pd.read_parquet(path, columns=[COLUMN]).to_numpy()


def pyarrow_uri(path: str) -> Any:
    from pyarrow import parquet

    return parquet.read_table(path, columns=[COLUMN])[COLUMN].to_numpy()


def pyarrow_filesystem(path: str) -> Any:
    from pyarrow import parquet

    fs, name = fsspec.url_to_fs(path)
    return parquet.read_table(name, columns=[COLUMN], filesystem=fs)[COLUMN].to_numpy()


def pyarrow_dataset(path: str) -> Any:
    from pyarrow import dataset

    fs, name = fsspec.url_to_fs(path)
    rows = dataset.dataset(name, filesystem=fs).to_table(columns=[COLUMN])
    return rows[COLUMN].to_numpy()


def polars_read_parquet(path: str) -> Any:
    import polars as pl

    return pl.read_parquet(path, columns=[COLUMN])[COLUMN].to_numpy()


def polars_storage_options(path: str) -> Any:
    import polars as pl

    options = {"version": "v2_1"} if "://" in path else None
    frame = pl.scan_parquet(path, storage_options=options).select(COLUMN).collect()
    return frame[COLUMN].to_numpy()


def polars_file(path: str) -> Any:
    import polars as pl

    with fsspec.open(path) as file:
        return pl.read_parquet(file, columns=[COLUMN])[COLUMN].to_numpy()


def polars_pyarrow_dataset(path: str) -> Any:
    import polars as pl
    from pyarrow import dataset

    fs, name = fsspec.url_to_fs(path)
    frame = pl.scan_pyarrow_dataset(dataset.dataset(name, filesystem=fs))
    return frame.select(COLUMN).collect()[COLUMN].to_numpy()


def duckdb_of_pyarrow(path: str) -> Any:
    import duckdb
    from pyarrow import dataset

    fs, name = fsspec.url_to_fs(path)
    with duckdb.connect() as connection:
        connection.register("rows", dataset.dataset(name, filesystem=fs))
        return connection.sql(f"SELECT {COLUMN} FROM rows ORDER BY {COLUMN}").fetchall()  # noqa: S608


def duckdb_unregistered(path: str) -> Any:
    import duckdb

    with duckdb.connect() as connection:
        return connection.sql(f"SELECT {COLUMN} FROM read_parquet('{path}')").fetchall()  # noqa: S608


def dask_read_parquet(path: str) -> Any:
    from dask import dataframe

    frame = dataframe.read_parquet(path, columns=[COLUMN])
    return frame.compute(scheduler="threads").to_numpy()


def dask_read_csv(path: str) -> Any:
    from dask import dataframe

    return dataframe.read_csv(path, blocksize="1MiB").compute(scheduler="threads").to_numpy()


def datasets_parquet(path: str) -> Any:
    rows = _streamed("parquet", path, columns=[COLUMN]).with_format("numpy")
    return np.concatenate([batch[COLUMN] for batch in rows.iter(50_000)])


def datasets_json(path: str) -> list[Any]:
    return list(_streamed("json", path))


def datasets_webdataset(path: str) -> list[Any]:
    return [sample["__key__"] for sample in _streamed("webdataset", path)]


def _streamed(kind: str, path: str, **options: Any) -> Any:
    from datasets import load_dataset

    return load_dataset(kind, data_files=path, split="train", streaming=True, **options)
