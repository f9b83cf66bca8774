"""Derived files: what was made from one version of an object, kept in the cache directory.

Their names have a hash of the URL and one of the ETag, so a file is either of the version that is
asked for, or absent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.cache import prepare_directory, private_directory, source_directory
from ego4dfs.config import Config
from ego4dfs.session import Session

_DIRECTORY = "browse"
_DIGEST_BYTES = 10


@dataclass(frozen=True, slots=True)
class Derived:
    """Where a file is that is made from the version `etag` of an object."""

    directory: Path
    url: str
    etag: str
    suffix: str

    @property
    def path(self) -> Path:
        """The path of the file, which need not exist."""
        return self.directory / f"{_digest(self.url)}-{_digest(self.etag)}{self.suffix}"

    def remove_older(self) -> None:
        """Remove the files that were made from other versions of the object, or in another form."""
        for path in self.directory.glob(f"{_digest(self.url)}-*"):
            if path != self.path:
                path.unlink(missing_ok=True)


def derived_directory(session: Session, config: Config) -> Path:
    """Return the private directory of the derived files of a source. Raises CacheError."""
    source = source_directory(prepare_directory(config.cache_dir), session.store.source)
    return private_directory(source / _DIRECTORY)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()
