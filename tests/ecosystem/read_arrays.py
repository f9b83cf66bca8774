"""Read arrays and archives with one library each; `path` is a path of a mount or a URL."""

from __future__ import annotations

from typing import Any

import fsspec
import numpy as np


def numpy_load(path: str) -> Any:
    with fsspec.open(path) as file:
        return np.load(file)


def numpy_mmap(path: str) -> Any:
    return np.array(np.load(path, mmap_mode="r")[1000:1010])


def numpy_load_npz(path: str) -> Any:
    with fsspec.open(path) as file, np.load(file) as arrays:
        return arrays["one"]


def h5py_path(path: str) -> Any:
    import h5py

    with h5py.File(path) as file:
        return file["features"][100:110]


def h5py_file(path: str) -> Any:
    import h5py

    with fsspec.open(path) as opened, h5py.File(opened) as file:
        return file["features"][100:110]


def zarr_array(path: str) -> Any:
    import zarr

    return zarr.open_array(path, mode="r", zarr_format=2)[:600]


def webdataset_url(path: str) -> list[str]:
    import webdataset

    return [sample["__key__"] for sample in webdataset.WebDataset(path, shardshuffle=False)]


def webdataset_registered(path: str) -> list[str]:
    from webdataset.gopen import gopen_schemes

    gopen_schemes["ego4d"] = lambda url, *_, **__: fsspec.open(url).open()
    return webdataset_url(path)


def torch_load(path: str) -> Any:
    import torch

    with fsspec.open(path) as file:
        return torch.load(file).numpy()


def torch_load_mmap(path: str) -> Any:
    import torch

    return torch.load(path, mmap=True)[:10].numpy()


def torch_load_mmap_file(path: str) -> Any:
    import torch

    with fsspec.open(path) as file:
        return torch.load(file, mmap=True)[:10].numpy()


class Features:
    """The features of a directory, as a map-style dataset."""

    def __init__(self, directory: str) -> None:
        self.fs, path = fsspec.url_to_fs(directory)
        self.names = sorted(self.fs.glob(f"{path}/*.pt"))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Any:
        import torch

        with self.fs.open(self.names[index]) as file:
            return torch.load(file)


def loader_in_process(directory: str) -> Any:
    return _loaded(directory, workers=0, start=None)


def loader_fork(directory: str) -> Any:
    return _loaded(directory, workers=4, start="fork")


def loader_spawn(directory: str) -> Any:
    return _loaded(directory, workers=4, start="spawn")


def loader_forkserver(directory: str) -> Any:
    return _loaded(directory, workers=4, start="forkserver")


def _loaded(directory: str, *, workers: int, start: str | None) -> Any:
    from torch.utils.data import DataLoader

    loader = DataLoader(Features(directory), 4, num_workers=workers, multiprocessing_context=start)
    return np.concatenate([batch.numpy() for batch in loader])
