"""The index of MP4 videos: key frames, the bytes that a window of time needs, and cuts of it."""

from ego4dfs.media.cut import AFTER_END_S, Cut, cut, cut_inside, outside
from ego4dfs.media.groups import Groups
from ego4dfs.media.index import MediaIndex
from ego4dfs.media.locate import IndexBytes, Read, find_index
from ego4dfs.media.parser import parse_index, read_index
from ego4dfs.media.track import Samples, Track

__all__ = [
    "AFTER_END_S",
    "Cut",
    "Groups",
    "IndexBytes",
    "MediaIndex",
    "Read",
    "Samples",
    "Track",
    "cut",
    "cut_inside",
    "find_index",
    "outside",
    "parse_index",
    "read_index",
]
