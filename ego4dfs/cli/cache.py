"""`ego4dfs cache`: show, verify, clear or unpin the block cache."""

from __future__ import annotations

import argparse
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ego4dfs.cache import (
    BlockCache,
    CacheAdmin,
    prepare_directory,
    private_directory,
    source_names,
)
from ego4dfs.catalog import metadata_url
from ego4dfs.cli.options import (
    add_cache,
    add_json,
    add_selection,
    add_store,
    config_from,
)
from ego4dfs.cli.output import ExitCode, print_json, say, table
from ego4dfs.cli.parser import Parser, check_action
from ego4dfs.config import Config
from ego4dfs.errors import CacheError, ConfigError
from ego4dfs.metrics import Metrics
from ego4dfs.session import Session
from ego4dfs.text import human_size, masked
from ego4dfs.vfs import open_selected_session

_PINS_SHOWN = 10
_ACTIONS = ("info", "verify", "clear", "unpin")


def add_arguments(parser: Parser) -> None:
    """Add the options of `cache`."""
    parser.add_argument(
        "action",
        nargs="?",
        metavar="|".join(_ACTIONS),
        help="info: show the directory, size and limit of the cache; verify: check all blocks,"
        " and remove damaged ones; clear: remove all blocks; unpin: allow the eviction of blocks"
        " that `prefetch --to cache --pin` pinned, those of --datasets or all",
    )
    add_json(parser)
    parser.add_argument(
        "--all",
        action="store_true",
        help="with clear: remove cached manifests and object sizes too",
    )
    add_cache(parser)
    add_selection(parser)
    add_store(parser)


def run(args: argparse.Namespace) -> int:
    """Run one of the actions."""
    check_action("cache", args.action, _ACTIONS)
    config = config_from(args)
    as_json = args.json
    inner = prepare_directory(config.cache_dir)
    # Unpinning must work with a limit that is smaller than the pinned blocks.
    limit = None if args.action == "unpin" else config.cache_max_bytes
    cache = _open(inner, limit, config.eviction, args.action)
    try:
        if args.action == "info":
            _info(cache.admin, inner, as_json=as_json)
        elif args.action == "verify":
            return _verify(cache.admin, as_json=as_json)
        elif args.action == "unpin":
            _unpin(cache.admin, config, as_json=as_json)
        else:
            _clear(cache.admin, inner, everything=args.all, as_json=as_json)
    finally:
        cache.close()
    return ExitCode.OK


def _unpin(cache: CacheAdmin, config: Config, *, as_json: bool) -> None:
    urls = None
    if not config.datasets and config.is_filtered:
        raise ConfigError(
            "cache unpin: filters need --datasets",
            hint="without filters and --datasets, everything is unpinned",
        )
    if config.datasets:
        session = open_selected_session(replace(config, cache_max_bytes=None))
        try:
            urls = _urls(session, config)
        finally:
            session.close()
    count = cache.unpin(urls)
    print_json({"blocks": count}) if as_json else say(f"{count} blocks may be evicted again")


def _urls(session: Session, config: Config) -> list[str]:
    """Return the URLs of the selected objects; ego4d.json is included unless --no-metadata."""
    urls = [e.url for name in config.datasets for e in session.catalog.listing(name).entries]
    return [*urls, metadata_url(config.version)] if config.metadata else urls


def _open(inner: Path, max_bytes: int | None, eviction: str | None, action: str) -> BlockCache:
    """Open the cache; for `clear`, remove the blocks of a damaged one first."""
    try:
        return BlockCache(inner, Metrics(), max_bytes=max_bytes, eviction=eviction)
    except CacheError:
        if action != "clear":
            raise
        _remove(inner / "blocks")
        return BlockCache(inner, Metrics(), max_bytes=max_bytes, eviction=eviction)


def _remove(directory: Path) -> None:
    """Remove a directory of the cache, even if it is not writable. Raises CacheError."""
    try:
        if directory.exists():
            private_directory(directory)
            for _, names, _, parent in os.fwalk(directory):
                for name in names:
                    with suppress(OSError):  # of another user, or a link; `rmtree` reports errors
                        _make_accessible(name, parent)
            shutil.rmtree(directory)
    except OSError as error:
        raise CacheError(
            f"{directory}: {error.filename} cannot be removed: {error.strerror}",
            hint=f"remove {directory} yourself, or choose another directory with --cache-dir",
        ) from error


def _make_accessible(name: str, parent: int) -> None:
    """Give a directory the mode 0700. Raises OSError, also for a link, which is never followed."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)  # noqa: PTH101 - fchmod refuses O_PATH
    finally:
        os.close(fd)


def _info(cache: CacheAdmin, inner: Path, *, as_json: bool) -> None:
    sources = list(map(masked, source_names(inner)))
    pins = cache.pins()
    info = {
        "directory": str(inner),
        "blocks": len(cache),
        "used_bytes": cache.used_bytes,
        "limit_bytes": cache.max_bytes,
        "eviction": cache.eviction,
        "free_disk_bytes": shutil.disk_usage(inner).free,
        "sources": sources,
        "pins": [{"url": pin.url, "blocks": pin.blocks, "bytes": pin.bytes} for pin in pins],
    }
    if as_json:
        print_json(info)
        return
    share = 100 * cache.used_bytes / cache.max_bytes
    rows = [
        ("blocks", f"{len(cache)}"),
        ("used", f"{human_size(cache.used_bytes)} ({share:.1f} % of the limit)"),
        ("limit", f"{human_size(cache.max_bytes)}; change it with --cache-size"),
        ("eviction", f"{cache.eviction}; change it with --eviction"),
        ("free disk", human_size(shutil.disk_usage(inner).free)),
        ("sources", ", ".join(sources) or "none"),
    ]
    if pins:
        size = human_size(sum(pin.bytes for pin in pins))
        room = human_size(cache.bytes_left_to_pin)
        rows.append(("pinned", f"{size} of {len(pins)} objects; {room} more can be pinned"))
    table(rows, (str(inner), ""))
    if pins:
        say("")
        largest = sorted(pins, key=lambda pin: -pin.bytes)[:_PINS_SHOWN]
        table([(pin.url, human_size(pin.bytes)) for pin in largest], ("pinned", "size"))
    if len(pins) > _PINS_SHOWN:
        say(f"… and {len(pins) - _PINS_SHOWN} more; --json names all")


def _verify(cache: CacheAdmin, *, as_json: bool) -> int:
    report = cache.verify()
    if as_json:
        print_json({name: getattr(report, name) for name in report.__dataclass_fields__})
    else:
        rows = [
            ("sound", report.sound, ""),
            ("damaged", report.damaged, "removed; fetched again when read"),
            ("lost", report.lost, "removed from the index; their files were missing"),
            ("stray", report.stray, "files that were not in the index; removed"),
        ]
        table(rows, ("blocks", "count", ""), right=("count",))
    return ExitCode.FAILURE if report.damaged else ExitCode.OK


def _clear(cache: CacheAdmin, inner: Path, *, everything: bool, as_json: bool) -> None:
    count = cache.clear()
    if everything:
        _remove(inner / "sources")
    if as_json:
        print_json({"blocks": count})
    else:
        say(f"{count} blocks removed" + (", and all manifests and sizes" if everything else ""))
