"""Ego4D on S3 as a read-only FUSE mount and fsspec filesystem, through a bounded disk cache.

Ranges of a file are fetched when they are first read, and kept in the cache:

    import fsspec
    fs = fsspec.filesystem("ego4d", datasets=["full_scale"])
    with fs.open("v2/full_scale/<uid>.mp4") as video: ...

Windows of videos as pictures, and annotations as data frames:

    from ego4dfs import Ego4D
    with Ego4D() as ego4d:
        pictures = ego4d.frames("<uid>", 600, 602)

The command line is `ego4dfs`; see its `--help`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ego4dfs.text import SanitizingHandler

if TYPE_CHECKING:
    from ego4dfs.api import Ego4D
    from ego4dfs.filesystem import Ego4DFileSystem
    from ego4dfs.integrations import register

__all__ = ["Ego4D", "Ego4DFileSystem", "__version__", "register"]

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(SanitizingHandler())


def __getattr__(name: str) -> object:
    # fsspec is imported only by those who use it.
    if name == "Ego4D":
        from ego4dfs.api import Ego4D  # noqa: PLC0415

        return Ego4D
    if name == "Ego4DFileSystem":
        from ego4dfs.filesystem import Ego4DFileSystem  # noqa: PLC0415

        return Ego4DFileSystem
    if name == "register":
        from ego4dfs.integrations import register  # noqa: PLC0415

        return register
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
