"""Ranges of objects read through the block cache: single flight, read-ahead, verification."""

from ego4dfs.reader.background_verifier import BackgroundVerifier
from ego4dfs.reader.downloads import Downloads
from ego4dfs.reader.etag_verifier import EtagVerifier
from ego4dfs.reader.hedging import Hedging
from ego4dfs.reader.reader import Reader
from ego4dfs.reader.video_window import GROUP_REQUEST_BYTES, VideoWindow
from ego4dfs.reader.window import FIRST_AT_START, ExactWindow, Window

__all__ = [
    "FIRST_AT_START",
    "GROUP_REQUEST_BYTES",
    "BackgroundVerifier",
    "Downloads",
    "EtagVerifier",
    "ExactWindow",
    "Hedging",
    "Reader",
    "VideoWindow",
    "Window",
]
