"""Windows: the MP4s of windows of videos as files, `.ego4dfs/windows/<uid>/<start>-<end>.mp4`."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ego4dfs.datasets import version_directory
from ego4dfs.errors import (
    AccessDenied,
    ConfigError,
    CredentialsRejected,
    MediaError,
    NotFound,
    ObjectMissing,
)
from ego4dfs.times import parse_time
from ego4dfs.vfs.tree import Directory, join
from ego4dfs.vfs.values import Handle
from ego4dfs.vfs.video import ExactFile, current
from ego4dfs.vfs.video_facts import VIDEO_SUFFIX

if TYPE_CHECKING:
    from ego4dfs.vfs.vfs import VFS  # it uses this module

log = logging.getLogger(__name__)

HIDDEN_DIRECTORY = ".ego4dfs"
"""A directory at the root that no listing shows, and whose files no listing shows."""
WINDOWS_DIRECTORY = f"{HIDDEN_DIRECTORY}/windows"
_DEPTH = 4  # names of the path of a window


class OpenWindow(NamedTuple):
    """A window that is open, as a node: its path, that of its video, and its handle."""

    path: str
    video: str
    handle: Handle


class Windows:
    """Finds what is at the paths below `.ego4dfs`. Safe from several threads."""

    def __init__(self, vfs: VFS, datasets: Sequence[str]) -> None:
        """Open windows of videos in these datasets of `vfs`; the first that has a uid counts."""
        self._vfs = vfs
        self._datasets = datasets

    def resolve(self, path: str) -> Directory | OpenWindow:
        """Return the directory or the window at a path.

        Raises NotFound if there is no such video, or if it does not have the window, and counts it
        as an error of the session; NotADirectoryError; and the error of an object or a manifest
        that cannot be fetched.
        """
        if path in {HIDDEN_DIRECTORY, WINDOWS_DIRECTORY}:
            return Directory(path)
        if not path.startswith(f"{WINDOWS_DIRECTORY}/"):
            raise NotFound(f"no such file or directory: {path}")
        try:
            return self._resolve(path, path.split("/"))
        except NotFound as error:
            log.info("%s", error)
            if "/." not in path:  # else a shell or a file manager looks for its own files
                self._vfs.session.metrics.add_error(str(error))
            raise

    def _resolve(self, path: str, names: Sequence[str]) -> Directory | OpenWindow:
        video = self._video(names[_DEPTH - 2])
        if len(names) < _DEPTH:
            return Directory(path)
        found = self._open("/".join(names[:_DEPTH]), video, names[_DEPTH - 1])
        if len(names) > _DEPTH:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return found

    def _open(self, path: str, video: str, name: str) -> OpenWindow:
        try:
            start_s, end_s = _times(name)
            handle = current(self._vfs, video, lambda file: _handle(path, file, start_s, end_s))
        except ConfigError as error:
            raise NotFound(f"{path}: {error}; {error.hint}") from error
        except (MediaError, ValueError) as error:
            raise NotFound(f"{path}: {error}") from error
        return OpenWindow(path, video, handle)

    def _video(self, uid: str) -> str:
        """Return the path of the video of a uid.

        A dataset that the store refuses is left out. Its error is raised if no other one has the
        video.
        """
        refusal: AccessDenied | ObjectMissing | None = None
        directory = version_directory(self._vfs.session.catalog.version)
        for dataset in self._datasets:
            path = join(join(directory, dataset), f"{uid}{VIDEO_SUFFIX}")
            try:
                self._vfs.resolve(path)
            except CredentialsRejected:
                raise
            except (AccessDenied, ObjectMissing) as error:
                refusal = refusal or error
            except NotFound:
                pass
            else:
                return path
        if refusal is not None:
            raise refusal
        raise NotFound(f"{WINDOWS_DIRECTORY}/{uid}: no video {uid} in {' '.join(self._datasets)}")


def _times(name: str) -> tuple[float, float]:
    """Return the seconds in the name of a window. Raises ConfigError for other names."""
    start, found, end = name.removesuffix(VIDEO_SUFFIX).partition("-")
    if not (name.endswith(VIDEO_SUFFIX) and found) or any(map(str.isspace, name)):
        raise ConfigError(
            "it is not the name of a window",
            hint="write it like 600-602.mp4, 10:00-10:02.5.mp4 or 00:10:00-00:10:02.mp4",
        )
    return parse_time(start, "its start"), parse_time(end, "its end")


def _handle(path: str, video: ExactFile, start_s: float, end_s: float) -> Handle:
    from ego4dfs.vfs.window_file import WindowFile  # noqa: PLC0415 - numpy takes 0.1 s

    made = WindowFile(video, video.cut(start_s, end_s))
    return Handle.of_made(path, made, video.handle)
