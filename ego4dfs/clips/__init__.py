"""Clips: windows of videos written as MP4 files, copied or encoded anew, one or many at a time."""

from ego4dfs.clips.report import ClipReport
from ego4dfs.clips.run import ClipRun
from ego4dfs.clips.writer import Clip, clip_folder, clip_name, write_clip

__all__ = [
    "Clip",
    "ClipReport",
    "ClipRun",
    "clip_folder",
    "clip_name",
    "write_clip",
]
