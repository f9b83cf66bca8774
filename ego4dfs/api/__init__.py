"""Ego4D for Python programs: windows of videos as pictures or files, annotations as data frames."""

from ego4dfs.api.ego4d import Ego4D

__all__ = ["Ego4D"]
