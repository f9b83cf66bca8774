"""What is tested: library, how it is called, the file, and the most that may be fetched for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from ecosystem import read_arrays as arrays
from ecosystem import read_tables as tables
from ecosystem import read_text as text
from ecosystem import read_videos as videos
from ecosystem.objects import CHUNKS, FEATURES, TABLES

# The long video of the sample: 66 s, 25.6 MiB.
VIDEO = "v2/full_scale/4e27f8b9-fb1f-4cf1-b529-a3e1cc5ce682.mp4"
CSV, JSON, LINES = (f"v2/{TABLES}/{name}" for name in ("table.csv", "records.json", "rows.jsonl"))
PARQUET, TAR = f"v2/{TABLES}/table.parquet", f"v2/{TABLES}/samples.tar"
NPY, NPZ, HDF5 = (f"v2/{TABLES}/{name}" for name in ("array.npy", "arrays.npz", "features.h5"))
PT, PTS, ZARR = f"v2/{TABLES}/features.pt", f"v2/{FEATURES}", f"v2/{CHUNKS}"

Most = float | str | None


@dataclass(frozen=True, slots=True)
class Case:
    """One way to read one file.

    `mount` and `url` are for a path of a mount and for `ego4d://`: the most MiB that the server may
    send, from an empty cache, or the error that the library raises, or None if not applicable.
    `read` gets the path and returns what is compared with the result for a copy. `library` is what
    is imported. `copy` reads the copy if `read` cannot. `needs` names another library.
    """

    library: str
    how: str
    read: Callable[[str], Any]
    file: str
    mount: Most
    url: Most
    copy: Callable[[str], Any] | None = None
    needs: str = ""

    @property
    def copy_reader(self) -> Callable[[str], Any]:
        """How the copy is read."""
        return self.copy or self.read

    @property
    def id(self) -> str:
        """A name that no other case has."""
        return f"{self.library}: {self.how}"

    @property
    def is_light(self) -> bool:
        """Whether it needs no more than the development: then the tests include it."""
        return self.library in _LIGHT and not self.needs

    def can_run(self) -> bool:
        """Return whether the library is installed."""
        return all(find_spec(name) for name in (self.library, self.needs) if name not in _PROGRAMS)


_PROGRAMS = {"", "ffmpeg"}
_LIGHT = {"fsspec", "json", "numpy", "pandas", "av", "cv2", "decord", "ffmpeg"}
CASES = (
    Case("fsspec", "`open(path).read()`", text.fsspec_read, VIDEO, 27, 27),
    Case("fsspec", "`cat_file(path, a, a + 1000)`", text.fsspec_cat_file, VIDEO, 2, 2),
    Case("fsspec", "`cat_ranges` of 400 ranges in 4 MB", text.fsspec_cat_ranges, VIDEO, 6, 6),
    Case("fsspec", '`open("simplecache::" + path)`', text.fsspec_blockcache, VIDEO, None, 27),
    Case("fsspec", "`for line in open(path)`", text.lines, LINES, 1, 1),
    Case("fsspec", '`for line in open(path, "r")`', text.text_lines, LINES, 1, 1),
    Case("json", "`load(file)`", text.json_load, JSON, 4, 4),
    Case("orjson", "`loads(file.read())`", text.orjson_loads, JSON, 4, 4),
    Case("ijson", '`items(file, "videos.item")`', text.ijson_items, JSON, 4, 4),
    Case("upath", "`UPath(path).read_bytes()`", text.upath_read_bytes, PT, 4, 4),
    Case("upath", '`UPath(path).glob("*.pt")`', text.upath_glob, PTS, 1, 1),
    Case("smart_open", "`open(path)`", text.smart_open_path, PT, 4, "NotImplementedError"),
    Case("numpy", "`load(file)`", arrays.numpy_load, NPY, 9, 9),
    Case("numpy", '`load(path, mmap_mode="r")`', arrays.numpy_mmap, NPY, 4, "FileNotFoundError"),
    Case("numpy", '`load(file)["one"]`, of an .npz', arrays.numpy_load_npz, NPZ, 6, 6),
    Case("pandas", "`read_csv(path)`", tables.pandas_read_csv, CSV, 4, 4),
    Case("pandas", "`read_json(path, lines=True)`", tables.pandas_read_json, LINES, 1, 1),
    Case(
        *("pandas", "`read_parquet(path, columns=…)`", tables.pandas_read_parquet, PARQUET, 6, 6),
        needs="pyarrow",
    ),
    Case("pyarrow", "`read_table(path)`", tables.pyarrow_uri, PARQUET, 6, "ArrowInvalid"),
    Case(
        *("pyarrow", "`read_table(name, filesystem=fs)`"),
        *(tables.pyarrow_filesystem, PARQUET, 6, 6),
    ),
    Case(
        *("pyarrow", "`dataset(name, filesystem=fs)`", tables.pyarrow_dataset, PARQUET, 6, 6),
    ),
    Case(
        *("polars", "`read_parquet(path)`"),
        *(tables.polars_read_parquet, PARQUET, 6, "FileNotFoundError"),
    ),
    Case(
        *("polars", "`scan_parquet(path, storage_options=…)`"),
        *(tables.polars_storage_options, PARQUET, 6, "FileNotFoundError"),
    ),
    Case("polars", "`read_parquet(file)`", tables.polars_file, PARQUET, 20, 20),
    Case(
        *("polars", "`scan_pyarrow_dataset(dataset)`"),
        *(tables.polars_pyarrow_dataset, PARQUET, 6, 6),
        needs="pyarrow",
    ),
    Case("duckdb", "`read_parquet('path')`", tables.duckdb_unregistered, PARQUET, 6, "IOException"),
    Case(
        *("duckdb", "of a pyarrow dataset"),
        *(tables.duckdb_of_pyarrow, PARQUET, None, 6),
    ),
    Case("dask", "`read_parquet(path)`", tables.dask_read_parquet, PARQUET, 6, 6, needs="pyarrow"),
    Case("dask", "`read_csv(path, blocksize=…)`", tables.dask_read_csv, CSV, 4, 4, needs="pyarrow"),
    Case(
        *("datasets", '`load_dataset("parquet", streaming=True)`'),
        *(tables.datasets_parquet, PARQUET, 6, 6),
    ),
    Case(
        *("datasets", '`load_dataset("json", streaming=True)`', tables.datasets_json, LINES, 1, 1),
    ),
    Case(
        *("datasets", '`load_dataset("webdataset", streaming=True)`'),
        *(tables.datasets_webdataset, TAR, 5, 5),
    ),
    Case("webdataset", "`WebDataset(path)`", arrays.webdataset_url, TAR, 5, "ValueError"),
    Case(
        *("webdataset", "the same, with `ego4d` in `gopen_schemes`"),
        *(arrays.webdataset_registered, TAR, 4.5, 4.5),
    ),
    Case("h5py", "`File(path)`", arrays.h5py_path, HDF5, 4, "FileNotFoundError"),
    Case("h5py", "`File(file)`", arrays.h5py_file, HDF5, 4, 4),
    Case("zarr", "`open_array(path)`", arrays.zarr_array, ZARR, 8, 8),
    Case("torch", "`load(file)`", arrays.torch_load, PT, 4, 4),
    Case("torch", "`load(path, mmap=True)`", arrays.torch_load_mmap, PT, 4, "FileNotFoundError"),
    Case(
        *("torch", "`load(file, mmap=True)`", arrays.torch_load_mmap_file, PT),
        *("ValueError", "ValueError", arrays.torch_load_mmap),
    ),
    Case("torch", "`DataLoader`, no worker", arrays.loader_in_process, PTS, 2, 2),
    Case("torch", "`DataLoader`, 4 workers, fork", arrays.loader_fork, PTS, 2, 2),
    Case("torch", "`DataLoader`, 4 workers, spawn", arrays.loader_spawn, PTS, 2, 2),
    Case("torch", "`DataLoader`, 4 workers, forkserver", arrays.loader_forkserver, PTS, 2, 2),
    Case("av", "`open(path)`", videos.av_open_path, VIDEO, 4, "ProtocolNotFoundError"),
    Case("av", "`open(file)`", videos.av_open, VIDEO, 4, 4),
    Case("cv2", "`VideoCapture(path)`", videos.opencv_path, VIDEO, 6, "OSError"),
    Case(
        *("cv2", "`VideoCapture(file)`", videos.opencv_file, VIDEO, None, 6),
        videos.opencv_path,
    ),
    Case("decord", "`VideoReader(path)`", videos.decord_path, VIDEO, 27, "RuntimeError"),
    Case("decord", "`VideoReader(file)`", videos.decord_file, VIDEO, 27, 27),
    Case(
        *("imageio", '`imread(path, plugin="pyav")`'),
        *(videos.imageio_path, VIDEO, 4, "FileNotFoundError"),
    ),
    Case("imageio", '`imread(file, plugin="pyav")`', videos.imageio_file, VIDEO, 4, 4),
    Case(
        *("torchcodec", "`VideoDecoder(path)`, approximate"),
        *(videos.torchcodec_path, VIDEO, 6, "RuntimeError"),
    ),
    Case(
        *("torchcodec", "`VideoDecoder(file)`, approximate"),
        *(videos.torchcodec_approximate, VIDEO, 6, 6),
    ),
    Case(
        *("torchcodec", "`VideoDecoder(file)`, exact", videos.torchcodec_exact, VIDEO, 27, 27),
    ),
    Case(
        *("pytorchvideo", "`EncodedVideo.from_path(path)`"),
        *(videos.pytorchvideo_path, VIDEO, 27, "FileNotFoundError"),
    ),
    Case(
        *("pytorchvideo", "`EncodedVideoPyAV(file)`", videos.pytorchvideo_file, VIDEO, 6, 6),
    ),
    Case("ffmpeg", "`-ss 30 -i path`", text.ffmpeg_path, VIDEO, 4, "CalledProcessError"),
    Case("ffmpeg", "`-i pipe:0`", text.ffmpeg_stdin, VIDEO, 27, 27),
    Case(
        *("ego4d", "`readers.PyAvReader(path)`"),
        *(videos.official_reader, VIDEO, 27, "ProtocolNotFoundError"),
        needs="pytorchvideo",
    ),
    Case(
        *("ego4d", "`dataset.VideoDataset([path])`"),
        *(videos.official_dataset, VIDEO, 27, "ProtocolNotFoundError"),
        needs="pytorchvideo",
    ),
    Case(
        *("ego4d", "`dataset.LabelledFeatureDset(path)`"),
        *(videos.official_features, HDF5, 17, "FileNotFoundError"),
        needs="h5py",
    ),
)
FACES = ("mount", "url")


def most(case: Case, face: str) -> Most:
    """Return the bound of a case on one face."""
    return case.mount if face == "mount" else case.url
