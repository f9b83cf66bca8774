"""`ego4dfs clip`: write some seconds of a video as an MP4, or those of many windows."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.cli.clip_progress import ClipProgress
from ego4dfs.cli.options import (
    add_cache,
    add_json,
    add_near,
    add_retry_for,
    add_selection,
    add_store,
    config_from,
    path_of,
)
from ego4dfs.cli.output import ExitCode, print_json, say
from ego4dfs.cli.parser import Parser
from ego4dfs.cli.signals import terminated_as_interrupted
from ego4dfs.cli.video_argument import video_path, with_dataset
from ego4dfs.cli.windows_file import check_windows_file
from ego4dfs.clips import Clip, clip_folder, clip_name, write_clip
from ego4dfs.errors import ConfigError, MediaError, NotFound, OutputError, ProcessLimit
from ego4dfs.media import Cut
from ego4dfs.media.encode import Encoder
from ego4dfs.prefetch.disk_errors import reason_of
from ego4dfs.text import human_size
from ego4dfs.times import parse_time, plain_seconds
from ego4dfs.vfs import VFS, open_vfs
from ego4dfs.vfs.video import Video, open_video

_EXAMPLES = """\
examples:
  ego4dfs clip VIDEO_UID 600 602                       # VIDEO_UID_600-602.mp4
  ego4dfs clip VIDEO_UID 10:00 10:02.5 --exact         # VIDEO_UID_600-602.5.exact.mp4
  ego4dfs clip v2/clips/CLIP_UID.mp4 1 2.5             # seconds of the clip
  ego4dfs clip --windows annotations/nlq_train.json --splits train -o clips

"""


@dataclass(frozen=True, slots=True)
class _Request:
    """What the command line asks for: a window of `video`, a uid or a path.

    `output` is the file, or a directory for it.
    """

    video: str
    start_s: float
    end_s: float
    output: Path


def add_arguments(parser: Parser) -> None:
    """Add the options of `clip`."""
    parser.epilog = f"{_EXAMPLES}{parser.epilog}"
    parser.add_argument(
        "video",
        nargs="?",
        metavar="UID",
        help="uid of a video, or its path in the tree: v2/clips/UID.mp4",
    )
    parser.add_argument(
        "start",
        nargs="?",
        metavar="START",
        help="start of the clip: 600 (seconds), 10:00 or 00:10:00.5",
    )
    parser.add_argument("end", nargs="?", metavar="END", help="end of the clip, in the same form")
    parser.add_argument(
        "--windows",
        metavar="FILE",
        help="in place of UID START END: write a clip of each window in FILE to the directory -o."
        " It is an annotation, or a CSV or JSON Lines with video_uid, start_s and end_s: a local"
        " file, or a path in the tree such as annotations/nlq_train.json",
    )
    parser.add_argument(
        "--exact",
        action="store_true",
        help="encode pictures and sound anew, as H.264 and AAC, so that the file has the pictures"
        " from START on and none before it; needs ego4dfs[video]",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files that exist; --windows skips them"
    )
    add_retry_for(parser)
    add_json(parser, "print files, times and sizes as JSON")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    add_selection(
        parser,
        default="full_scale",
        output="the MP4 to write, or a directory for it (default: UID_START-END.mp4 here); with"
        " --windows the directory of the clips",
        output_metavar="FILE",
    )
    add_store(parser)
    add_near(parser)
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Write one clip, or those of `--windows`."""
    _check_arguments(args)
    with terminated_as_interrupted():
        if args.windows is None:
            return _write_one(args)
        from ego4dfs.cli.clip_windows import write_clips  # noqa: PLC0415 - annotations

        return write_clips(args)


def _check_arguments(args: argparse.Namespace) -> None:
    check_windows_file(args.windows)
    given = {"UID": args.video, "START": args.start, "END": args.end}
    if args.windows is None:
        missing = ", ".join(name for name, value in given.items() if value is None)
        if missing:
            hint = "ego4dfs clip UID START END, or --windows FILE -o DIR for many clips"
            raise ConfigError(f"the following arguments are required: {missing}", hint=hint)
        if "retry_for" in args:
            raise ConfigError("--retry-for: only with --windows", hint="run the command again")
        if not args.video:  # as of an unset variable
            raise ConfigError("the UID is empty", hint="name a video")
    elif args.video is not None:
        hint = "leave out UID, START and END: the file has them"
        raise ConfigError(f"{args.video}: not allowed with --windows", hint=hint)


def _write_one(args: argparse.Namespace) -> int:
    request = _request(args)
    encoder = Encoder() if args.exact else None
    config = with_dataset(config_from(args), request.video)
    vfs = open_vfs(config)
    try:
        metrics = vfs.session.metrics
        fetched_before = metrics.bytes_fetched
        path = video_path(vfs, config, request.video)
        file = _file(request, path, args)
        clip = Clip(_open(vfs, path), request.start_s, request.end_s, file)
        with ClipProgress(None if args.quiet else sys.stderr) as progress:
            made = _write(clip, _cut(clip), encoder, progress)
        fetched = metrics.bytes_fetched - fetched_before
    finally:
        vfs.close()
    _print(clip, made, fetched, args)
    return ExitCode.OK


def _request(args: argparse.Namespace) -> _Request:
    """Return what is asked for. Raises ConfigError, and OutputError if a directory is missing."""
    start_s, end_s = parse_time(args.start, "START"), parse_time(args.end, "END")
    if start_s >= end_s:
        raise ConfigError(f"START, {args.start}, is not before END, {args.end}")
    given = getattr(args, "output_directory", ".")
    output = path_of(given, "-o")
    directory = output if given.endswith("/") else output.parent
    if not (output.is_dir() or directory.is_dir()):
        raise OutputError(f"{directory}: no such directory", hint="create it, or change -o")
    return _Request(args.video, start_s, end_s, output)


def _file(request: _Request, path: str, args: argparse.Namespace) -> Path:
    """Return the file for the clip of the video at a path. Raises OutputError if it exists."""
    file = request.output
    if file.is_dir():
        file /= clip_name(path, request.start_s, request.end_s, exact=args.exact)
    if file.exists() and not args.overwrite:
        raise OutputError(f"{file}: the file exists", hint="replace it with --overwrite")
    return file


def _open(vfs: VFS, path: str) -> Video:
    if not path.lower().endswith(".mp4"):
        hint = "the names of videos end with .mp4, as in a mount: v2/full_scale/<uid>.mp4"
        raise ConfigError(f"{path} is not a video", hint=hint)
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


def _cut(clip: Clip) -> Cut:
    """Cut the clip. Raises ConfigError if it is not within the video."""
    try:
        return clip.cut()
    except ValueError as error:
        window = f"{plain_seconds(clip.start_s)} s to {plain_seconds(clip.end_s)} s"
        raise ConfigError(f"{clip.video.handle.path}, {window}: {error}") from error


def _write(clip: Clip, made: Cut, encoder: Encoder | None, progress: ClipProgress) -> Cut:
    def on_time(seconds: float) -> None:
        progress.clip(clip.file.name, seconds, made.seconds)

    try:
        with clip_folder(clip.file.parent) as folder:
            return write_clip(folder, clip.file.name, made, clip.video.read, encoder, on_time)
    except MediaError as error:
        raise MediaError(f"{clip.video.handle.path}: {error}", hint=error.hint) from error
    except ProcessLimit:
        raise
    except OSError as error:
        raise OutputError(f"{clip.file}: {reason_of(error)}") from error


def _print(clip: Clip, made: Cut, fetched: int, args: argparse.Namespace) -> None:
    video_bytes = clip.video.index.size
    if args.json:
        print_json(
            {
                "file": clip.file,
                "video": clip.video.handle.path,
                "start_s": clip.start_s,
                "end_s": clip.end_s,
                "seconds": round(made.seconds, 6),
                "bytes_written": made.size,
                "bytes_fetched": fetched,
                "video_bytes": video_bytes,
            }
        )
    elif not args.quiet:
        sizes = f"{human_size(made.size)} written, {human_size(fetched)} fetched"
        whole = human_size(video_bytes)
        say(f"{clip.file}: {plain_seconds(made.seconds)} s, {sizes}; the video has {whole}")
