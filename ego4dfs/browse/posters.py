"""Posters: a small picture of each video, fetched or decoded when a page shows it."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ego4dfs.api.window_io import BUFFER_BYTES, WindowIO
from ego4dfs.config import Config
from ego4dfs.datasets import known_names, version_directory
from ego4dfs.errors import Ego4DError, MediaError, NotFound
from ego4dfs.media.still import first_picture
from ego4dfs.runtime.recent import Recent
from ego4dfs.vfs import VFS
from ego4dfs.vfs.tree import join
from ego4dfs.vfs.video import ExactFile, current
from ego4dfs.vfs.window_file import WindowFile

if TYPE_CHECKING:
    from ego4dfs.media import Cut

WIDTH = 320
_MEMORY_BYTES = 32 << 20
_PREVIEW_BYTES = 1 << 20  # those of Ego4D have about 50 kB
_DATASET = "viz"
_SHORT_S = 1 / 30


class Posters:
    """JPEGs of videos; the last used ones are kept in memory. Safe from several threads.

    The picture is Ego4D's own one, in the dataset viz, if that is selected. Else it is the first
    one of the video, decoded with PyAV: its index and one key frame are fetched.
    """

    def __init__(self, vfs: VFS, config: Config) -> None:
        """Read from `vfs`."""
        self._vfs = vfs
        self._has_previews = _DATASET in (config.datasets or known_names())
        self._directory = join(version_directory(config.version), _DATASET)
        self._kept = Recent[bytes](_MEMORY_BYTES)

    def poster(self, uid: str, path: str) -> bytes:
        """Return the poster of the video at a path.

        Raises NotFound without PyAV, MediaError for a video that cannot be decoded, and StoreError.
        """
        found = self._kept.get(uid)
        if found is None:
            found = self._preview(uid) or self._first_picture(path)
            self._kept.put(uid, found, len(found))
        return found

    def _preview(self, uid: str) -> bytes:
        if not self._has_previews:
            return b""
        try:
            handle = self._vfs.open(join(self._directory, f"{uid}_small.jpg"), reads_ahead=False)
            if handle.size > _PREVIEW_BYTES:
                return b""
            return self._vfs.read(handle, 0, handle.size)
        except Ego4DError:  # the dataset is refused, or has none of this video
            return b""

    def _first_picture(self, path: str) -> bytes:
        if find_spec("av") is None:
            raise NotFound("pictures are decoded with PyAV: pip install 'ego4dfs[video]'")
        video, made = current(self._vfs, path, _start)
        with io.BufferedReader(WindowIO(WindowFile(video, made)), BUFFER_BYTES) as file:
            return first_picture(file, WIDTH)


def _start(file: ExactFile) -> tuple[ExactFile, Cut]:
    """Cut the first picture out of a video."""
    first_s = file.read_index().start_s
    try:
        return file, file.cut(first_s, first_s + _SHORT_S)
    except ValueError as error:
        raise MediaError(f"{file.handle.path}: {error}") from error
