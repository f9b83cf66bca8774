"""`ego4dfs clip`: write some seconds of a video as an MP4, without decoding them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.cli.options import (
    add_cache,
    add_json,
    add_selection,
    add_store,
    config_from,
    path_of,
)
from ego4dfs.cli.output import ExitCode, print_json, say
from ego4dfs.cli.parser import Parser
from ego4dfs.cli.video_argument import video_path, with_dataset
from ego4dfs.errors import ConfigError, MediaError, NotFound, OutputError
from ego4dfs.files import write_atomic
from ego4dfs.media import AFTER_END_S, Cut, MediaIndex, cut
from ego4dfs.text import human_size
from ego4dfs.times import parse_time, plain_seconds
from ego4dfs.vfs import VFS, open_vfs
from ego4dfs.vfs.video import Video, open_video


@dataclass(frozen=True, slots=True)
class _Request:
    """What the command line asks for: a window of `video`, a uid or a path, in a file."""

    video: str
    start_s: float
    end_s: float
    file: Path


def add_arguments(parser: Parser) -> None:
    """Add the options of `clip`."""
    parser.add_argument(
        "video", metavar="UID", help="uid of a video, or its path in the tree: v2/clips/UID.mp4"
    )
    parser.add_argument(
        "start", metavar="START", help="start of the clip: 600 (seconds), 10:00 or 00:10:00.5"
    )
    parser.add_argument("end", metavar="END", help="end of the clip, in the same form")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    add_json(parser, "print file, times and sizes as JSON")
    add_selection(
        parser,
        default="full_scale",
        output="the MP4 to write, or a directory for it (default: UID_START-END.mp4 here)",
        output_metavar="FILE",
    )
    add_store(parser)
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Write one clip."""
    request = _request(args)
    config = with_dataset(config_from(args), request.video)
    vfs = open_vfs(config)
    try:
        metrics = vfs.session.metrics
        fetched_before = metrics.bytes_fetched
        video = _open(vfs, video_path(vfs, config, request.video))
        made = _cut(video.index, request)
        _write(request.file, made, video)
        fetched = metrics.bytes_fetched - fetched_before
    finally:
        vfs.close()
    _print(request, made, video, fetched, as_json=args.json)
    return ExitCode.OK


def _request(args: argparse.Namespace) -> _Request:
    """Return what is asked for. Raises ConfigError, and OutputError if the file exists."""
    start_s, end_s = parse_time(args.start, "START"), parse_time(args.end, "END")
    if start_s >= end_s:
        raise ConfigError(f"START, {args.start}, is not before END, {args.end}")
    uid = args.video.rpartition("/")[2].removesuffix(".mp4")
    name = f"{uid}_{plain_seconds(start_s)}-{plain_seconds(end_s)}.mp4"
    file = path_of(getattr(args, "output_directory", name), "-o")
    if file.is_dir():
        file /= name
    if not file.parent.is_dir():
        raise OutputError(f"{file.parent}: no such directory", hint="create it, or change -o")
    if file.exists() and not args.overwrite:
        raise OutputError(f"{file}: the file exists", hint="replace it with --overwrite")
    return _Request(args.video, start_s, end_s, file)


def _open(vfs: VFS, path: str) -> Video:
    try:
        return open_video(vfs, path)
    except (NotFound, NotADirectoryError, IsADirectoryError) as error:
        hint = "paths are as in a mount: v2/full_scale/<uid>.mp4"
        raise ConfigError(f"{path}: no such file in this selection", hint=hint) from error
    except MediaError as error:
        hint = (
            "read it through a mount: ffmpeg -ss START -i MOUNTPOINT/FILE -t SECONDS -c copy CLIP"
        )
        raise MediaError(str(error), hint=hint) from error


def _cut(index: MediaIndex, request: _Request) -> Cut:
    """Cut the clip. Raises ConfigError if it is not within the video."""
    stop_s = index.stop_s
    if request.start_s >= stop_s or request.end_s > stop_s + AFTER_END_S:
        which = "START" if request.start_s >= stop_s else "END"
        raise ConfigError(
            f"{which} is after the end of the video",
            hint=f"the video ends at {plain_seconds(stop_s)} seconds",
        )
    try:
        return cut(index, request.start_s, request.end_s)
    except ValueError as error:
        hint = f"its pictures begin at {plain_seconds(index.start_s)} s; or make the clip longer"
        raise ConfigError("no picture begins between START and END", hint=hint) from error


def _write(file: Path, made: Cut, video: Video) -> None:
    try:
        write_atomic(file, made.content(video.read), is_shared=True)
    except OSError as error:
        raise OutputError(
            f"{file} cannot be written: {(error.strerror or str(error)).lower()}"
        ) from error


def _print(request: _Request, made: Cut, video: Video, fetched: int, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "file": request.file,
                "video": video.handle.path,
                "start_s": request.start_s,
                "end_s": request.end_s,
                "seconds": round(made.seconds, 6),
                "bytes_written": made.size,
                "bytes_fetched": fetched,
                "video_bytes": video.index.size,
            }
        )
        return
    sizes = f"{human_size(made.size)} written, {human_size(fetched)} fetched"
    whole = human_size(video.index.size)
    say(f"{request.file}: {plain_seconds(made.seconds)} s, {sizes}; the video has {whole}")
