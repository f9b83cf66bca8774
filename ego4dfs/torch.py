"""PyTorch datasets of windows and features of Ego4D, for `torch.utils.data.DataLoader`.

Pictures are uint8 tensors of shape (pictures, height, width, 3), in RGB. Needs torch, and PyAV,
torchcodec or decord: `pip install 'ego4dfs[torch]'`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ego4dfs.api import Ego4D
from ego4dfs.api.shards import Order, Position, window_digest, window_list
from ego4dfs.errors import ConfigError

try:
    import torch
    from torch.utils.data import Dataset, IterableDataset, get_worker_info
except ImportError as error:
    raise ImportError("ego4dfs.torch needs torch: pip install 'ego4dfs[torch]'") from error

if TYPE_CHECKING:
    from ego4dfs.api.shards import Window

Transform = Callable[[torch.Tensor], Any]
Decode = Callable[[Ego4D, str, float, float], torch.Tensor]

_TORCHCODEC: dict[str, Any] = {"dimension_order": "NHWC", "device": "cpu"}
_TIME_TOLERANCE_S = 0.001  # a time base rounds less than this

__all__ = ["FeatureDataset", "WindowDataset", "WindowStream"]


class WindowDataset(Dataset):  # type: ignore[misc]
    """Windows by index, each as (pictures, window).

    `windows` is a frame of `Ego4D.windows`, or a sequence of (uid, start_s, end_s, ...), which are
    returned as they are; of a frame, the columns video_uid, start_s, end_s and text. Pictures are a
    uint8 tensor (pictures, height, width, 3), in RGB, bit for bit those of the `decoder` for the
    whole video: "pyav", "torchcodec" or "decord", which round colours differently. With a
    `transform`, what it makes of the tensor takes its place.

    A batch is fetched at once, `ahead` windows at a time. An item raises as `Ego4D.frames` does.
    Raises ImportError without the decoder.
    """

    def __init__(
        self,
        windows: Any,
        transform: Transform | None = None,
        *,
        decoder: str = "pyav",
        ego4d: Ego4D | None = None,
        ahead: int = 16,
    ) -> None:
        """Read from `ego4d`, or from a new one without options."""
        self.windows = window_list(windows)
        self.ego4d = ego4d if ego4d is not None else Ego4D()
        self._transform = transform
        self._decoder = decoder
        self._ahead = ahead
        _decode_of(decoder)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> tuple[Any, Window]:
        window = self.windows[index]
        frames = _decode_of(self._decoder)(self.ego4d, *window[:3])
        return (self._transform(frames) if self._transform else frames), window

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Window]]:
        """Return several items; DataLoader calls this for a batch."""
        return list(self.in_order(indices))

    def in_order(self, indices: Sequence[int]) -> Iterator[tuple[Any, Window]]:
        """Yield items in this order, and fetch the next ones while they are decoded."""
        ahead = ((*self.windows[index][:3], index) for index in indices)
        for *_, index in self.ego4d.prefetch_windows(ahead, ahead=self._ahead):
            yield self[index]


class WindowStream(IterableDataset):  # type: ignore[misc]
    """Windows in an order of its own, each as (pictures, window), and fetched ahead.

    The arguments are those of WindowDataset, and: `shuffle`, an order that follows from `seed` and
    the epoch, or else that of `windows`; `rank` of `world_size` processes, by default those of
    torch.distributed if it is initialised. Each rank has as many windows: those at the front of the
    order come twice if they cannot be divided. Workers of a rank divide its windows.

    `set_epoch` also reaches workers that are running. `state_dict` and `load_state_dict` are those
    that torchdata's StatefulDataLoader calls: a resumed iteration goes on after the last window
    that was yielded. Raises ConfigError for a rank outside of [0, world_size), and for a state of
    other windows, or of another seed or number of ranks.
    """

    def __init__(  # noqa: PLR0913 - each by its name
        self,
        windows: Any,
        transform: Transform | None = None,
        *,
        decoder: str = "pyav",
        ego4d: Ego4D | None = None,
        ahead: int = 16,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """Divide the windows among ranks now, and among workers when they iterate."""
        self.dataset = WindowDataset(windows, transform, decoder=decoder, ego4d=ego4d, ahead=ahead)
        if (rank is None) != (world_size is None):
            raise ConfigError("rank and world_size belong together: give both, or none")
        if rank is None or world_size is None:
            rank, world_size = _distributed()
        order = Order(len(self.dataset), rank, world_size, seed if shuffle else None)
        self._position = Position(order, window_digest(self.dataset.windows))
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return self._position.order.length

    def __iter__(self) -> Iterator[tuple[Any, Window]]:
        worker = get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        with self._position.iteration(int(self._epoch), number, count) as indices:
            for item in self.dataset.in_order(indices):
                self._position.advance()
                yield item

    def set_epoch(self, epoch: int) -> None:
        """Use the order of an epoch from the next iteration on."""
        self._epoch.fill_(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration of this process is."""
        return self._position.state(int(self._epoch))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next iteration go on from a state."""
        self.set_epoch(self._position.resume(state))


class FeatureDataset(Dataset):  # type: ignore[misc]
    """Features by index, each as (tensor, uid): the tensor that `torch.load` reads.

    `uids` are those of videos, and `dataset` is that of `Ego4D.features`. A batch is read by one
    call. An item raises as `Ego4D.features` does.
    """

    def __init__(
        self,
        uids: Sequence[str],
        dataset: str = "",
        transform: Transform | None = None,
        *,
        ego4d: Ego4D | None = None,
    ) -> None:
        """Read from `ego4d`, or from a new one without options."""
        self.uids = list(map(str, uids))
        self.ego4d = ego4d if ego4d is not None else Ego4D()
        self._dataset = dataset
        self._transform = transform

    def __len__(self) -> int:
        return len(self.uids)

    def __getitem__(self, index: int) -> tuple[Any, str]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, str]]:
        """Return several items; DataLoader calls this for a batch."""
        uids = [self.uids[index] for index in indices]
        found = self.ego4d.features(uids, self._dataset)
        return [(self._transformed(torch.from_numpy(values)), uid) for uid, values in found]

    def _transformed(self, values: torch.Tensor) -> Any:
        return self._transform(values) if self._transform else values


def _pyav(ego4d: Ego4D, uid: str, start_s: float, end_s: float) -> torch.Tensor:
    return torch.from_numpy(ego4d.frames(uid, start_s, end_s))


def _torchcodec(ego4d: Ego4D, uid: str, start_s: float, end_s: float) -> torch.Tensor:
    """Return the pictures at `frame_times`.

    With seek_mode="exact", torchcodec loses the last pictures of a window whose key frame is before
    its start. With "approximate" it has them all, but it refuses or repeats pictures that are not
    evenly spaced. For those it gets the times of all pictures, which takes it longer: 0.5 s for a
    video of 24 minutes.
    """
    from torchcodec.decoders import VideoDecoder  # noqa: PLC0415 - one of three

    times = torch.from_numpy(ego4d.frame_times(uid, start_s, end_s))
    with ego4d.window(uid, start_s, end_s) as file, suppress(RuntimeError):
        decoder = VideoDecoder(file, seek_mode="approximate", **_TORCHCODEC)
        shown = decoder.metadata.begin_stream_seconds, decoder.metadata.end_stream_seconds
        found = decoder.get_frames_played_in_range(*shown)
        seconds = found.pts_seconds + start_s
        if len(seconds) == len(times) and torch.allclose(
            seconds, times, rtol=0, atol=_TIME_TOLERANCE_S
        ):
            return found.data
    with ego4d.fs.open(ego4d.path(uid)) as file:
        mappings = ego4d.frame_mappings(uid)
        decoder = VideoDecoder(file, custom_frame_mappings=mappings, **_TORCHCODEC)
        return decoder.get_frames_played_at(times + _TIME_TOLERANCE_S).data


def _decord(ego4d: Ego4D, uid: str, start_s: float, end_s: float) -> torch.Tensor:
    import decord  # noqa: PLC0415 - one of three

    with ego4d.window(uid, start_s, end_s) as file:
        reader = decord.VideoReader(io.BytesIO(file.read()), num_threads=1)
    # It also counts the pictures before the window, and returns the last one for each of them.
    count = len(ego4d.frame_times(uid, start_s, end_s))
    return torch.from_numpy(reader.get_batch(range(count)).asnumpy())


_DECODERS: dict[str, tuple[Decode, str, str]] = {
    "pyav": (_pyav, "av", "ego4dfs[video]"),
    "torchcodec": (_torchcodec, "torchcodec", "torchcodec"),
    "decord": (_decord, "decord", "decord"),
}


def _decode_of(decoder: str) -> Decode:
    """Return a decoder. Raises ConfigError for an unknown one, ImportError for a missing one."""
    if decoder not in _DECODERS:
        raise ConfigError(f"decoder={decoder!r}: it is one of {', '.join(_DECODERS)}")
    decode, module, package = _DECODERS[decoder]
    if find_spec(module) is None:
        raise ImportError(f"decoder={decoder!r} needs {module}: pip install '{package}'")
    return decode


def _distributed() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
