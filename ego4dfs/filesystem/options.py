"""Options of a filesystem that are not of the configuration: fsspec's, and those of libraries."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from typing import Any

from ego4dfs.config import KEYS

log = logging.getLogger(__name__)

PARAMETERS = frozenset((*KEYS, "config_path"))
_OF_FSSPEC = frozenset(
    (
        *("asynchronous", "loop", "skip_instance_cache", "batch_size"),
        *("use_listings_cache", "listings_expiry_time", "max_paths"),
        *("block_size", "cache_type", "cache_options"),
    )
)
_MEANT = ("profile", "endpoint")  # by users of s3fs, for aws_profile_name and endpoint_url
_CLOSE = 0.8  # with 0.6, `session` and `region` are close to `version`


def misspelt(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were probably meant as one of the configuration.

    Others have no effect, as in the filesystems of fsspec: libraries add theirs for any of them.
    """
    found = {}
    for name, value in options.items():
        if name in _OF_FSSPEC:
            continue
        plain = name.lower().replace("-", "_")
        if plain in _MEANT or difflib.get_close_matches(plain, PARAMETERS, n=1, cutoff=_CLOSE):
            found[name] = value
        else:
            log.info("the option %s of ego4d:// has no effect", name)
    return found


def stripped(path: str) -> str:
    """Return a path without slashes at its ends, and without empty names and `.` in it."""
    return "/".join(name for name in path.split("/") if name not in ("", "."))
