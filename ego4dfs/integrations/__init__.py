"""Registration of `ego4d://` with libraries that have a table of URL schemes of their own.

Libraries that use fsspec find `ego4d://` by themselves; `register` is for webdataset, smart_open
and iopath.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ego4dfs.errors import ConfigError
from ego4dfs.integrations import filesystem

__all__ = ["register"]


def register(*libraries: str, **options: Any) -> tuple[str, ...]:
    """Let webdataset, smart_open and iopath open `ego4d://` URLs; return which of them can now.

    `libraries` names some of the three, which must be installed; by default it is those that are.
    `options` are those of Ego4DFileSystem, for all URLs from now on; a later call replaces them.
    A process that was not forked from this one must call it again.
    Raises ImportError for a library that is not installed, and ConfigError for other names and
    wrong options.
    """
    for name in libraries:
        if name not in _LIBRARIES:
            hint = f"choose from: {', '.join(_LIBRARIES)}"
            raise ConfigError(f"{name}: ego4dfs has nothing to register there", hint=hint)
        if not _is_installed(name):
            _refuse(name)
    filesystem.choose(options)
    chosen = libraries or tuple(name for name in _LIBRARIES if _is_installed(name))
    for name in chosen:
        if name not in _registered:
            _LIBRARIES[name]()
            _registered.add(name)
    return chosen


def _register_webdataset() -> None:
    from webdataset.gopen import gopen_schemes  # noqa: PLC0415 - only who uses it has it

    gopen_schemes[filesystem.SCHEME] = filesystem.gopen


def _register_smart_open() -> None:
    from smart_open.transport import register_transport  # noqa: PLC0415

    from ego4dfs.integrations import smart_open_transport  # noqa: PLC0415

    register_transport(smart_open_transport)


def _register_iopath() -> None:
    from iopath.common.file_io import g_pathmgr  # noqa: PLC0415

    from ego4dfs.integrations.iopath_handler import Ego4DPathHandler  # noqa: PLC0415

    g_pathmgr.register_handler(Ego4DPathHandler())


_LIBRARIES: Mapping[str, Callable[[], None]] = {
    "webdataset": _register_webdataset,
    "smart_open": _register_smart_open,
    "iopath": _register_iopath,
}
_registered: set[str] = set()


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _refuse(name: str) -> NoReturn:
    raise ImportError(f"{name} is not installed: pip install {name}", name=name)
