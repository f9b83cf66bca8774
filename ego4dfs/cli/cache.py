"""`ego4dfs cache`: show, verify or clear what is kept on disk."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from ego4dfs.cache import BlockCache, prepare_directory
from ego4dfs.cli.args import Parser, add_cache, config_from
from ego4dfs.cli.output import ExitCode, human_size, print_json, table
from ego4dfs.errors import CacheError, masked
from ego4dfs.metrics import Metrics


def add_arguments(parser: Parser) -> None:
    """Add the flags of `cache`."""
    parser.add_argument(
        "action",
        choices=("info", "verify", "clear"),
        help="info: where and how full; verify: check every block, drop damaged ones; clear: drop"
        " all blocks",
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument(
        "--all", action="store_true", help="with clear: kept manifests and object sizes too"
    )
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Do one of the three."""
    config = config_from(args)
    inner = prepare_directory(config.cache_dir)
    cache = _open(inner, config.cache_max_bytes, args.action)
    as_json = getattr(args, "json", False)
    try:
        if args.action == "info":
            _info(cache, inner, as_json=as_json)
        elif args.action == "verify":
            return _verify(cache, as_json=as_json)
        else:
            _clear(cache, inner, everything=getattr(args, "all", False), as_json=as_json)
    finally:
        cache.close()
    return ExitCode.OK


def _open(inner: Path, max_bytes: int | None, action: str) -> BlockCache:
    """Open the cache; for `clear` also one that is damaged, without its blocks then."""
    try:
        return BlockCache(inner, Metrics(), max_bytes=max_bytes)
    except CacheError:
        if action != "clear":
            raise
        shutil.rmtree(inner / "blocks", ignore_errors=True)
        return BlockCache(inner, Metrics(), max_bytes=max_bytes)


def _info(cache: BlockCache, inner: Path, *, as_json: bool) -> None:
    names = sorted(inner.glob("sources/*/source.txt"))
    sources = [masked(path.read_text().strip()) for path in names]
    info = {
        "directory": str(inner),
        "blocks": len(cache),
        "used_bytes": cache.used_bytes,
        "limit_bytes": cache.max_bytes,
        "free_disk_bytes": shutil.disk_usage(inner).free,
        "sources": sources,
    }
    if as_json:
        print_json(info)
        return
    share = 100 * cache.used_bytes / cache.max_bytes
    rows = [
        ("blocks", f"{len(cache)}"),
        ("used", f"{human_size(cache.used_bytes)} ({share:.1f} % of the limit)"),
        ("limit", f"{human_size(cache.max_bytes)}; change it with --cache-size"),
        ("free disk", human_size(shutil.disk_usage(inner).free)),
        ("sources", ", ".join(sources) or "none yet"),
    ]
    table(rows, (str(inner), ""))


def _verify(cache: BlockCache, *, as_json: bool) -> int:
    report = cache.verify()
    if as_json:
        print_json({name: getattr(report, name) for name in report.__dataclass_fields__})
    else:
        rows = [
            ("sound", report.sound, ""),
            ("damaged", report.damaged, "dropped; fetched again when read"),
            ("lost", report.lost, "written off; their files were gone"),
            ("stray", report.stray, "files that nothing counted; removed"),
        ]
        table(rows, ("blocks", "count", ""), right=("count",))
    return ExitCode.FAILURE if report.damaged else ExitCode.OK


def _clear(cache: BlockCache, inner: Path, *, everything: bool, as_json: bool) -> None:
    count = cache.clear()
    if everything:
        shutil.rmtree(inner / "sources", ignore_errors=True)
    if as_json:
        print_json({"blocks": count})
    else:
        print(f"{count} blocks dropped" + (", and all manifests and sizes" if everything else ""))
