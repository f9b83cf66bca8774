"""Byte ranges of objects, through the cache: one flight per block, reading ahead while it pays."""

from ego4dfs.reader.background import BackgroundVerifier
from ego4dfs.reader.reader import Reader
from ego4dfs.reader.window import Window

__all__ = ["BackgroundVerifier", "Reader", "Window"]
