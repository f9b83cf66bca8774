"""Ego4D: videos, annotations and windows of one version of Ego4D, by uid and seconds."""

from __future__ import annotations

import inspect
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ego4dfs.annotations import read_windows
from ego4dfs.api import tables
from ego4dfs.api.feature_files import FeatureFiles, dataset_of
from ego4dfs.api.video_files import VideoFiles
from ego4dfs.api.window_io import BUFFER_BYTES, WindowIO
from ego4dfs.api.window_prefetch import prefetched
from ego4dfs.api.window_rows import WindowRow, WindowRows
from ego4dfs.catalog.metadata import Metadata, read_metadata
from ego4dfs.config.values import closest
from ego4dfs.datasets import CLIPS, METADATA, PRIMARY, VIDEO_DATASETS
from ego4dfs.errors import ConfigError, MediaError, NotFound, ObjectChanged
from ego4dfs.filesystem import Ego4DFileSystem
from ego4dfs.filesystem.options import PARAMETERS
from ego4dfs.filesystem.read_many import MAX_BYTES, check_on_error, handled
from ego4dfs.manifest import Entry
from ego4dfs.media import Cut
from ego4dfs.media.decode import Pictures, decode_pictures
from ego4dfs.vfs import VFS, named_file
from ego4dfs.vfs.tree import join
from ego4dfs.vfs.video import ExactFile, current
from ego4dfs.vfs.window_file import WindowFile

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

AHEAD = 16
AHEAD_BYTES = 256 << 20

_ANNOTATIONS = "annotations"

AnyPath = str | os.PathLike[str]
AnyWindow = TypeVar("AnyWindow", bound=Sequence[Any])


class Ego4D:
    """Videos, annotations and windows of Ego4D, by uid and seconds.

    The options are those of Ego4DFileSystem, `fs`; the environment and the config file apply.
    Without `datasets`, videos are those of full_scale, and clips those of clips.

    Opens lazily: the first use, not the constructor, reads credentials and the network. Safe from
    several threads. It can be pickled, and a forked child opens its own session, on the same
    cache: so it works in the workers of a DataLoader.

    A window is the pictures that begin at `start_s` or later and before `end_s`, in seconds of the
    video or clip, with their sound. `end_s` may be 0.5 s after the end. Methods with a window raise
    NotFound for a uid that is not selected, ConfigError for times that are no window of this video,
    MediaError for a video without a usable index, and StoreError for bytes that cannot be fetched.
    """

    def __init__(self, **options: Any) -> None:
        """Take the options. Raises ConfigError for a wrong one."""
        for name in options:
            if name not in PARAMETERS:
                hint = closest(name, PARAMETERS)
                raise ConfigError(f"{name} of Ego4D: there is no such option", hint=hint)
        self._options = options
        self._found: tuple[VFS, VideoFiles] | None = None
        self._found_features: dict[str, tuple[VFS, FeatureFiles]] = {}
        self.fs = Ego4DFileSystem(**options, skip_instance_cache=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self._options), ()

    def __enter__(self) -> Ego4D:  # noqa: PYI034 - Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish writes to the cache and close all connections; a later use opens them again."""
        self.fs.close()

    def videos(self) -> pd.DataFrame:
        """Return the selected videos, one row each, with what ego4d.json says of them.

        Raises ConfigError if the datasets and filters have none.
        """
        return tables.video_frame(self._selected(has_clips=False), self._metadata())

    def clips(self) -> pd.DataFrame:
        """Return the selected clips, one row each, with their seconds in the parent video.

        Raises ConfigError if the datasets and filters have none.
        """
        return tables.clip_frame(self._selected(has_clips=True), self._metadata())

    def annotations(self, name: AnyPath) -> pd.DataFrame:
        """Return an annotation, one row for each record that has a window or should have one.

        `name` is a file on disk or in the tree, or the name of an annotation, such as `nlq_train`.
        The columns are `row`, those of `windows`, `problem` (why the row is not in `windows`, or
        empty), and the fields of the records as they are in the file. Raises NotFound if there is
        no such file, and ConfigError if it is not of a known kind.
        """
        return tables.annotation_frame(self._rows(name))

    def windows(self, name: AnyPath) -> pd.DataFrame:
        """Return the windows of an annotation, one row each, in the seconds of the videos.

        Columns: `video_uid`, `start_s`, `end_s`, `text`, and if the row is of a clip `clip_uid`,
        `clip_start_s` and `clip_end_s`. Rows without a usable window are logged as a warning.
        Arguments and errors are those of `annotations`.
        """
        return tables.window_frame(self._rows(name), str(name))

    def features(
        self,
        uids: Iterable[str] | None = None,
        dataset: str = "",
        *,
        ordered: bool = True,
        on_error: str = "raise",
    ) -> Iterator[tuple[str, Any]]:
        """Yield uids of videos with their features: the array in the `.pt` file of each.

        An array has the shape, the numbers and their type as `torch.load` returns them: of
        `omnivore_video_swinl_fp16` float16, (windows, 1536). Without uids, those are all selected
        ones. `dataset` may be left out if one dataset of features is selected. Files are read many
        at a time, as `fs.read_many` does with `ordered` and `on_error`, which take effect here,
        too. Raises ConfigError for an unclear dataset; the errors of a uid are NotFound, OSError,
        and MediaError for a file that holds no tensor.
        """
        check_on_error(on_error)
        files = self._feature_files(dataset_of(dataset, self.fs.config.datasets))
        wanted = files if uids is None else uids
        return handled(files.read(self.fs, wanted, ordered=ordered, max_bytes=MAX_BYTES), on_error)

    def path(self, uid: str) -> str:
        """Return the path of a video or clip in the tree, as `v2/full_scale/<uid>.mp4`.

        Raises NotFound for a uid that is not selected.
        """
        return self._files.path(str(uid))

    def url(self, uid: str) -> str:
        """Return the URL of a video or clip for fsspec, as `ego4d://v2/full_scale/<uid>.mp4`."""
        return f"ego4d://{self.path(uid)}"

    def window(self, uid: str, start_s: float, end_s: float) -> io.BufferedReader:
        """Open a window as a file: a small MP4, the one that `ego4dfs clip` writes.

        It is read as it is needed. Read it in the process that opened it, in one thread at a time.
        Reads raise StoreError.
        """
        return _as_file(WindowFile(*self._cut(uid, start_s, end_s)))

    def frames(self, uid: str, start_s: float, end_s: float) -> Pictures:
        """Return the pictures of a window: uint8, (pictures, height, width, 3), RGB.

        They are bit for bit those that PyAV decodes from the whole video, and all in memory: an
        hour of 1920x1080 has 670 GB. Raises MediaError for pictures that cannot be decoded, and
        ImportError without PyAV (`ego4dfs[video]`).
        """
        try:
            return self._decode(uid, start_s, end_s)
        except ObjectChanged:  # no picture was returned yet
            return self._decode(uid, start_s, end_s)

    def frame_times(self, uid: str, start_s: float, end_s: float) -> NDArray[np.float64]:
        """Return when the pictures of `frames` begin, in seconds of the video, ascending."""
        video, _ = self._cut(uid, start_s, end_s)
        return video.read_index().picture_times(float(start_s), float(end_s))

    def frame_mappings(self, uid: str) -> str:
        """Return the pictures of a video for torchcodec: JSON with `pts`, `duration`, `key_frame`.

        `VideoDecoder(file, custom_frame_mappings=ego4d.frame_mappings(uid))` has exact frames and
        times without a scan of the whole file. A minute of video has about 80 kB. Raises NotFound,
        MediaError and StoreError.
        """
        index = current(self.fs.vfs, self.path(uid), ExactFile.read_index)
        return json.dumps({"frames": index.video.frames()})

    def prefetch_windows(
        self, windows: Iterable[AnyWindow], *, ahead: int = AHEAD, max_bytes: int = AHEAD_BYTES
    ) -> Iterator[AnyWindow]:
        """Yield windows in order, each when its bytes are cached, and fetch the next ones.

        A window is a tuple (uid, start_s, end_s, ...); it is yielded as it is. Up to `ahead` of the
        next ones are fetched, of `max_bytes` in all. A window that cannot be fetched is yielded,
        too, and `frames` or `window` raises its error: so one of them does not end the iteration.
        The threads end with the iterator. Raises ConfigError for limits below 1.
        """
        if ahead < 1 or max_bytes < 1:
            raise ConfigError(f"ahead={ahead}, max_bytes={max_bytes}: each must be at least 1")
        return prefetched(
            windows, lambda w: WindowFile(*self._cut(*w[:3])), ahead=ahead, max_bytes=max_bytes
        )

    def _feature_files(self, dataset: str) -> FeatureFiles:
        vfs, found = self.fs.vfs, self._found_features.get(dataset)
        if found is None or found[0] is not vfs:
            found = vfs, FeatureFiles(vfs.session.catalog, dataset)
            self._found_features[dataset] = found
        return found[1]

    @property
    def _files(self) -> VideoFiles:
        vfs, found = self.fs.vfs, self._found
        if found is None or found[0] is not vfs:  # another one after a fork and after `close`
            optional = () if self.fs.config.datasets else (CLIPS,)
            found = vfs, VideoFiles(vfs.session.catalog, self._datasets, optional)
            self._found = found
        return found[1]

    @property
    def _datasets(self) -> tuple[str, ...]:
        return self.fs.config.datasets or VIDEO_DATASETS

    def _selected(self, *, has_clips: bool) -> list[tuple[str, str, Entry]]:
        found = list(self._files.each(has_clips=has_clips))
        if not found:
            kind, needed = ("clips", CLIPS) if has_clips else ("videos", PRIMARY)
            raise ConfigError(
                f"no {kind} are selected in {' '.join(self._datasets)}",
                hint=f'name a dataset that has some, such as datasets=["{needed}"]',
            )
        return found

    def _metadata(self) -> Metadata:
        try:
            return read_metadata(named_file(self.fs.vfs.session, self.fs.config, METADATA))
        except FileNotFoundError as error:
            raise ConfigError(f"{METADATA} is left out by metadata=False") from error
        except ConfigError as error:
            raise ConfigError(f"{METADATA}: {error}", hint=error.hint) from error

    def _rows(self, name: AnyPath) -> Iterator[WindowRow]:
        session = self.fs.vfs.session
        rows = WindowRows(session.catalog, self._files)
        try:
            file = named_file(session, self.fs.config, _location(name))
            yield from rows.of(read_windows(file))
        except FileNotFoundError as error:
            raise NotFound(f"{name}: {error.strerror}") from error
        except OSError as error:
            raise ConfigError(f"{name}: {error.strerror or error}") from error
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}", hint=error.hint) from error

    def _cut(self, uid: str, start_s: float, end_s: float) -> tuple[ExactFile, Cut]:
        """Open a video, and cut a window out of it. Raises as the methods with a window do."""
        try:
            start_s, end_s = float(start_s), float(end_s)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{uid}: {start_s!r} to {end_s!r} are not seconds") from error
        path = self.path(uid)
        try:
            return current(self.fs.vfs, path, lambda file: (file, file.cut(start_s, end_s)))
        except ValueError as error:
            raise ConfigError(f"{uid}: {error}") from error

    def _decode(self, uid: str, start_s: float, end_s: float) -> Pictures:
        video, made = self._cut(uid, start_s, end_s)
        try:
            with _as_file(WindowFile(video, made)) as file:
                return decode_pictures(file, made.pictures)
        except MediaError as error:
            raise MediaError(f"{uid}, {start_s} s to {end_s} s: {error}") from error


def _as_file(file: WindowFile) -> io.BufferedReader:
    return io.BufferedReader(WindowIO(file), BUFFER_BYTES)


def _location(name: AnyPath) -> str:
    """Return the absolute path of a file on disk, or the path of an annotation in the tree."""
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{name}: {error}") from error
    if not isinstance(name, str) or path.is_absolute() or (path.exists() and not path.is_dir()):
        return str(path.absolute())
    if "/" in name:
        return name.strip("/")
    return join(_ANNOTATIONS, name if "." in name else f"{name}.json")


# The options by name, for help() and completion.
Ego4D.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        option
        for option in inspect.signature(Ego4DFileSystem).parameters.values()
        if option.kind is inspect.Parameter.KEYWORD_ONLY
    ]
)
