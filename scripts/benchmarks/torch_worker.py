"""A process that reads one epoch of windows by a DataLoader of torch; `workers` has the protocol.

Its job has a `dataset` of DATASETS, with its `options`; the `windows`: where a file is, the seconds
at which the window begins and ends in the video, and a number; and how many `workers` read them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import xxhash
from torch.utils.data import DataLoader, Dataset

from benchmarks.window_worker import READERS
from ego4dfs import Ego4D
from ego4dfs.torch import WindowDataset

_BATCH = 4

Window = Sequence[Any]


def main() -> None:
    """Read the epoch, and answer with the checksum of each tensor, by the number of its window."""
    job = json.loads(sys.stdin.readline())
    dataset = DATASETS[job["dataset"]](job["windows"], **job["options"])
    method = "fork" if job["workers"] else None
    loader = DataLoader(
        dataset,
        batch_size=_BATCH,
        num_workers=job["workers"],
        multiprocessing_context=method,
        collate_fn=list,
    )
    print("ready", flush=True)
    sys.stdin.readline()
    begin, checksums = time.monotonic(), {}
    for batch in loader:
        for frames, window in batch:
            checksums[window[3]] = xxhash.xxh3_128_hexdigest(frames.numpy())
    answer = {"begin": begin, "end": time.monotonic(), "checksums": checksums}
    print(json.dumps(answer), flush=True)
    sys.stdin.read()  # whoever measures this process looks at it before it ends


class _Paths(Dataset):  # type: ignore[misc]
    """Windows of files, decoded by PyAV alone; a file is a whole video or a clip of the window."""

    def __init__(self, windows: Sequence[Window], *, are_clips: bool = False) -> None:
        self._windows = windows
        self._are_clips = are_clips
        self._read = READERS["PyAV"]()

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Window]:
        window = self._windows[index]
        path, begin_s = window[:2]
        pictures: Any = self._read(path, begin_s, begin_s if self._are_clips else 0)
        return torch.from_numpy(pictures), window


def _by_url(windows: Sequence[Window], **options: Any) -> WindowDataset:
    return WindowDataset(windows, ego4d=Ego4D(**options))


DATASETS: dict[str, Callable[..., Dataset]] = {"PyAV": _Paths, "WindowDataset": _by_url}


if __name__ == "__main__":
    main()
