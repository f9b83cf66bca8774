"""The index of MP4 videos: key frames, and the bytes that a window of time needs. No network."""

from ego4dfs.media.index import MediaIndex
from ego4dfs.media.locate import IndexBytes, Read, find_index
from ego4dfs.media.parser import parse_index, read_index
from ego4dfs.media.track import KeyFrames, Samples, Track

__all__ = [
    "IndexBytes",
    "KeyFrames",
    "MediaIndex",
    "Read",
    "Samples",
    "Track",
    "find_index",
    "parse_index",
    "read_index",
]
