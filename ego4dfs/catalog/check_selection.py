"""Check that the selection matches something, and suggest the value that was probably meant.

Without this check a misspelt filter shows an empty tree, or leaves out one dataset, silently.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ego4dfs.catalog.catalog import Catalog, Listing
from ego4dfs.config import Config
from ego4dfs.errors import ConfigError

log = logging.getLogger(__name__)

_CHECK = "check --benchmarks, --universities, --video_uids and the other filters"
_MAX_SHOWN = 8


def check_matches(config: Config, catalog: Catalog, candidates: Sequence[str]) -> None:
    """Report the datasets and the filter values that match nothing.

    Uses the manifests of the datasets that were named, cached ones first: they are revalidated
    only if nothing matches in them. When no dataset was named, uses the manifests of `candidates`
    that are loaded or cached. Warns if only a part of the selection matches nothing. Raises
    ConfigError if nothing matches at all.
    """
    if not config.is_filtered:
        return
    names = config.datasets or candidates
    listings = _cached(catalog, names)
    if config.datasets and not any(listing.entries for listing in listings):
        catalog.load(names)  # a cached manifest may be an old one
        listings = _cached(catalog, names)
    _check(config, [listing for listing in listings if listing.manifest.entries])


def _cached(catalog: Catalog, names: Sequence[str]) -> list[Listing]:
    found = map(catalog.cached, names)
    return [listing for listing in found if listing is not None]


def _check(config: Config, listings: Sequence[Listing]) -> None:
    rows = sum(len(listing.manifest.entries) for listing in listings)
    mismatches = list(_mismatches(config, listings))
    if rows and config.datasets and not any(listing.entries for listing in listings):
        named = " ".join(listing.dataset for listing in listings)
        hint = "; ".join(map(str, mismatches)) or _CHECK
        raise ConfigError(f"0 of {rows} rows of {named} match this selection", hint=hint)
    unknown = [each for each in mismatches if each.option == "--benchmarks"]
    if not config.datasets and unknown and len(unknown) == len(config.benchmarks):
        raise ConfigError(f"--benchmarks: {unknown[0].what}", hint=unknown[0].meant)
    for mismatch in mismatches:
        log.warning("%s", mismatch)
    for listing in listings if config.datasets else ():
        if not listing.entries:
            count = len(listing.manifest.entries)
            log.warning("0 of %d rows of %s match this selection", count, listing.dataset)


@dataclass(frozen=True, slots=True)
class _Mismatch:
    """A filter value that matches no row, and the value that was probably meant."""

    option: str
    what: str
    meant: str = ""

    def __str__(self) -> str:
        return f"{self.option}: {self.what}" + (f"; {self.meant}" if self.meant else "")


def _mismatches(config: Config, listings: Sequence[Listing]) -> Iterator[_Mismatch]:
    entries = [entry for listing in listings for entry in listing.manifest.entries]
    if config.benchmarks:
        found = set[str]().union(*{e.benchmarks for e in entries if e.benchmarks})
        words = [word.upper() for word in config.benchmarks]
        yield from _unknown("--benchmarks", words, {name.upper() for name in found})
    if config.annotations:
        found = {entry.annotation for entry in entries if entry.annotation}
        texts = {*found, *(entry.name.lower() for entry in entries if entry.annotation)}
        words = [w for w in config.annotations if not any(w in text for text in texts)]
        yield from _unknown("--annotations", words, found)
    # Without --datasets, datasets that are not loaded may have such names.
    for pattern in config.include if config.datasets else ():
        if not any(fnmatchcase(entry.name, pattern) for entry in entries):
            yield _Mismatch("--include", f"no name matches {pattern}")


def _unknown(option: str, wanted: Sequence[str], found: set[str]) -> Iterator[_Mismatch]:
    """Yield a mismatch for each of `wanted` that is not in `found`; none if that is empty."""
    known = {name.lower(): name for name in found}
    for word in wanted if known else ():
        if word.lower() not in known:
            close = difflib.get_close_matches(word.lower(), known, n=1)
            shown = ", ".join(sorted(found)[:_MAX_SHOWN]) + (
                ", …" if len(found) > _MAX_SHOWN else ""
            )
            meant = f"did you mean {known[close[0]]}?" if close else f"available are {shown}"
            yield _Mismatch(option, f"no row has {word}", meant)
