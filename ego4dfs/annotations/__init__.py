"""Annotations of Ego4D, and tables of windows: which seconds of which videos they name."""

from ego4dfs.annotations.reader import read_windows
from ego4dfs.annotations.rows import BadRow, Part, Window

__all__ = ["BadRow", "Part", "Window", "read_windows"]
