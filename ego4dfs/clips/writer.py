"""Writing of one clip: an MP4 with some seconds of a video."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.datasets import CLIPS, PRIMARY
from ego4dfs.errors import MediaError, ProcessLimit, os_error_text
from ego4dfs.files import Folder
from ego4dfs.media import Cut, cut, outside
from ego4dfs.media.encode import Encoder
from ego4dfs.media.encode_files import reader_of
from ego4dfs.media.locate import Read
from ego4dfs.times import plain_seconds
from ego4dfs.vfs.video import Video

_OF_OTHER_UIDS = (PRIMARY, CLIPS)
"""No uid of one is in the other; those of other datasets are in full_scale too."""


@dataclass(frozen=True, slots=True)
class Clip:
    """The seconds [start_s, end_s) of a video, and the file that gets them."""

    video: Video
    start_s: float
    end_s: float
    file: Path

    def cut(self) -> Cut:
        """Cut it. Raises ValueError, with the reason, if it is no window of the video."""
        reason = outside(self.video.index, self.start_s, self.end_s)
        if reason:
            raise ValueError(reason)
        try:
            return cut(self.video.index, self.start_s, self.end_s)
        except ValueError as error:
            raise ValueError("no picture begins in it") from error


def clip_name(path: str, start_s: float, end_s: float, *, exact: bool = False) -> str:
    """Return the name of the file of a clip of the video at a path of the tree.

    That is `UID_START-END.mp4`, for other datasets than full_scale and clips with the dataset, and
    for an exact clip with `exact`: `UID_START-END.video_540ss.exact.mp4`. So no clip has the name
    of another one with other pictures.
    """
    _, *directories, name = path.split("/")
    dataset = "-".join(directories)
    stem = f"{name.removesuffix('.mp4')}_{plain_seconds(start_s)}-{plain_seconds(end_s)}"
    kinds = [dataset] if dataset not in _OF_OTHER_UIDS else []
    kinds += ["exact"] if exact else []
    return ".".join([stem, *kinds, "mp4"])


def clip_folder(directory: Path) -> Folder:
    """Open a directory of clips, without what killed processes left. Raises OSError."""
    folder = Folder.at(directory)
    folder.remove_unfinished()
    return folder


def write_clip(
    folder: Folder,
    name: str,
    made: Cut,
    read: Read,
    encoder: Encoder | None = None,
    on_time: Callable[[float], None] = lambda _: None,
) -> Cut:
    """Write a clip, cut as `made`, to the file `name` of a folder, and return what was written.

    With an `encoder` it is encoded anew. `read` returns bytes of the video. `on_time` gets the
    seconds that are done, several times. The file appears as a whole, or not at all.

    Raises OSError if it cannot be written, MediaError if the video is damaged or cannot be read,
    ProcessLimit, and what else `read` and `on_time` raise.
    """
    read = _guarded(read)
    if encoder is None:
        folder.write_atomic(name, _content(made, read, on_time))
        return made
    # In the directory of the clip, so that a full disk is that of the clip.
    with tempfile.TemporaryFile(dir=folder.path) as file:
        encoded = encoder.encode(made, read, file, on_time)
        folder.write_atomic(name, encoded.content(reader_of(file)))
    return encoded


def _guarded(read: Read) -> Read:
    """Return `read` with MediaError for its OSErrors: those of the clip's file are others."""

    def guarded(offset: int, length: int) -> bytes:
        try:
            return read(offset, length)
        except ProcessLimit:
            raise
        except OSError as error:
            reason = os_error_text(error)
            raise MediaError(f"it cannot be read: {reason}") from error

    return guarded


def _content(made: Cut, read: Read, on_time: Callable[[float], None]) -> Iterator[bytes]:
    done = 0
    for piece in made.content(read):
        yield piece
        done += len(piece)
        on_time(made.seconds * done / made.size)
