"""ClipRun: the clips of many windows are written to one directory, several at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from ego4dfs.annotations import BadRow
from ego4dfs.annotations.rows import Row
from ego4dfs.catalog import Listing, WindowFiles
from ego4dfs.clips.report import ClipReport, Failure, Written
from ego4dfs.clips.writer import Clip, clip_folder, clip_name, write_clip
from ego4dfs.errors import (
    ConfigError,
    Ego4DError,
    MediaError,
    OutputError,
    ProcessLimit,
    StoreError,
    os_error_text,
)
from ego4dfs.files import Folder
from ego4dfs.media.encode import Encoder
from ego4dfs.media.locate import Read
from ego4dfs.prefetch import Outage
from ego4dfs.prefetch.disk_errors import is_hopeless, reason_of
from ego4dfs.prefetch.run_threads import RunThreads
from ego4dfs.prefetch.windows import Windows
from ego4dfs.prefetch.worker_pool import Task
from ego4dfs.vfs import VFS
from ego4dfs.vfs.video import Video, open_video

_COPIES = 8  # at a time: they wait for the store
_MAX_ENCODERS = 8  # at a time: each needs 380 MiB for pictures of 1920x1080
_END_S = 10.0  # a waiting read ends within two seconds of `VFS.close`


class _Stopped(Exception):  # noqa: N818 - not an error
    """The run is being stopped, and a clip is not completed."""


class ClipRun:
    """One run. Its own threads are the only ones that share it.

    The index of a video is read once, for all of its windows; at most as many videos are open as
    there are threads.
    """

    def __init__(
        self,
        vfs: VFS,
        directory: Path,
        *,
        exact: bool = False,
        overwrite: bool = False,
        retry_for_s: float = 0.0,
    ) -> None:
        """Write to a directory. Raises ConfigError if `exact` needs what is missing."""
        cpus = len(os.sched_getaffinity(0))
        self._workers = min(cpus, _MAX_ENCODERS) if exact else _COPIES
        self._encoder = Encoder(max(1, cpus // self._workers)) if exact else None
        self._vfs = vfs
        self._directory = directory
        self._overwrite = overwrite
        self._threads = RunThreads(self._stop)
        self._pool = self._threads.pool
        self.report = ClipReport(Outage(retry_for_s, self._pool.stopping))
        self._videos: list[tuple[str, Windows]] = []
        self._clips: list[tuple[str, Clip]] = []  # with the rows; `_pool` locks both lists

    def run(
        self,
        rows: Iterable[Row],
        listings: Sequence[Listing],
        paths: Mapping[str, str],
        tick: Callable[[], None] = lambda: None,
    ) -> bool:
        """Write the clips of all windows, and return whether all threads have ended.

        The directory is made when `rows` were read and a video has one of them. `paths` has the
        paths in the tree by URL, of the files in `listings`. `tick` is called several times a
        second. A window or a video that cannot be used does not stop the others.
        KeyboardInterrupt, and errors that would fail every clip, stop the run, close the VFS, and
        are then in `report.stopped_by`. Raises what `rows` raises, ConfigError if a window is in
        several files, and OutputError if the directory cannot be made or opened.
        """
        self._collect(rows, WindowFiles(self._vfs.session.catalog, listings), paths)
        if not self._videos:
            return True
        folder = self._folder()
        self._pool.add("clip", partial(self._take, folder), self._workers)
        has_ended = self._threads.run(tick, self._end)
        if has_ended:
            folder.close()
        else:  # its threads may still use it
            folder.remove_hidden()
        return has_ended

    def _folder(self) -> Folder:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            return clip_folder(self._directory)
        except OSError as error:
            reason = os_error_text(error)
            message = f"{self._directory}: no directory can be made here: {reason}"
            raise OutputError(message) from error

    def _end(self) -> float:
        if self.report.stopped_by is not None:
            self._vfs.close()  # ends reads that wait for the store
        return _END_S

    def _stop(self, error: BaseException) -> None:
        self.report.stop(error)
        self._pool.abandoned.set()

    def _collect(self, rows: Iterable[Row], files: WindowFiles, paths: Mapping[str, str]) -> None:
        by_url: dict[str, Windows] = {}
        for row in rows:
            places = row if isinstance(row, BadRow) else files.places(row)
            if isinstance(places, BadRow):
                self.report.bad.add(places)
                continue
            if len(places) > 1:
                where = " and ".join(paths[place.url] for place in places)
                raise ConfigError(
                    f"{places[0].row}: the window is in {where}",
                    hint="select one dataset with --datasets",
                )
            self.report.unselected += not places
            for place in places:
                by_url.setdefault(place.url, Windows()).add(place)
                self.report.windows += 1
                self.report.seconds += place.end_s - place.start_s
        self._videos = [(paths[url], windows) for url, windows in reversed(by_url.items())]

    def _take(self, folder: Folder) -> Task | None:
        if self._clips:
            return partial(self._write, folder, *self._clips.pop())
        if self._videos:
            return partial(self._open, *self._videos.pop())
        return None

    def _open(self, path: str, windows: Windows) -> None:
        """Open a video, and add the clips that do not exist yet to those to write."""
        wanted = self._wanted(path, windows)
        if not wanted:
            return
        try:
            video = self.report.outage.attempt(lambda: open_video(self._vfs, path))
        except (StoreError, MediaError) as error:
            lengths_s = sum(end_s - start_s for _, start_s, end_s in wanted.values())
            self._fail(Failure(path, error, len(wanted)), lengths_s)
            return
        clips = [
            (row, Clip(video, start_s, end_s, self._directory / name))
            for name, (row, start_s, end_s) in wanted.items()
        ]
        self._pool.update(lambda: self._clips.extend(reversed(clips)))

    def _wanted(self, path: str, windows: Windows) -> dict[str, tuple[str, float, float]]:
        """Return the windows that need a file, by its name."""
        named: dict[str, tuple[str, float, float]] = {}
        for window in windows:
            _, start_s, end_s = window
            name = clip_name(path, start_s, end_s, exact=self._encoder is not None)
            if named.setdefault(name, window) is not window:
                self.report.skip(end_s - start_s, duplicates=1)
        for name in [name for name in named if self._exists(name)]:
            _, start_s, end_s = named.pop(name)
            self.report.skip(end_s - start_s, existing=1)
        return named

    def _exists(self, name: str) -> bool:
        return not self._overwrite and (self._directory / name).is_file()

    def _write(self, folder: Folder, row: str, clip: Clip) -> None:
        length_s = clip.end_s - clip.start_s
        try:
            made = clip.cut()
        except ValueError as error:
            self.report.bad.add(BadRow(row, str(error)))
            self.report.skip(length_s)
            return
        try:
            done = write_clip(
                folder,
                clip.file.name,
                made,
                self._read(clip.video),
                self._encoder,
                partial(self._on_time, clip.file),
            )
        except _Stopped:
            return
        except (StoreError, MediaError) as error:
            self._fail(Failure(str(clip.file), error, 1), length_s, clip.file)
        except ProcessLimit:
            raise
        except OSError as error:
            failure = Failure(str(clip.file), _output_error(clip.file, error), 1)
            if not is_hopeless(error):
                raise failure.error from error
            self._fail(failure, length_s, clip.file)
        else:
            self._threads.succeeded()
            path = clip.video.handle.path
            times = clip.start_s, clip.end_s, done.seconds
            self.report.done(Written(clip.file, path, *times, done.size))

    def _read(self, video: Video) -> Read:
        """Return how bytes of a video are read: again and again during an outage."""

        def read(offset: int, length: int) -> bytes:
            return self.report.outage.attempt(lambda: video.read(offset, length))

        return read

    def _on_time(self, file: Path, seconds: float) -> None:
        if self._pool.abandoned.is_set():
            raise _Stopped
        self.report.advance(file, seconds)

    def _fail(self, failure: Failure, lengths_s: float, file: Path | None = None) -> None:
        """Count a failure; raise an error that affects all clips."""
        if self._threads.is_failure(failure.error):
            self.report.fail(failure, lengths_s, file)
            self._threads.failed(failure.error)


def _output_error(file: Path, error: OSError) -> Ego4DError:
    return OutputError(f"{file}: {reason_of(error)}")
