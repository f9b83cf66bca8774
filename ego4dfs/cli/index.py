"""`ego4dfs index`: export manifests and object facts to a file, or import them."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from ego4dfs import __version__, datasets
from ego4dfs.cache import prepare_directory, source_directory
from ego4dfs.catalog import ManifestCache
from ego4dfs.cli.options import (
    add_cache,
    add_json,
    add_retry_for,
    add_selection,
    add_store,
    config_from,
    path_of,
)
from ego4dfs.cli.output import ExitCode, print_json, say, table
from ego4dfs.cli.parser import Parser
from ego4dfs.cli.progress import Progress
from ego4dfs.config import FILTERS, Config
from ego4dfs.errors import ConfigError, OutputError, StoreUnavailable
from ego4dfs.facts import FactsIndex
from ego4dfs.index_file import (
    ExportReport,
    ImportReport,
    IndexExporter,
    IndexImporter,
    IndexReader,
)
from ego4dfs.index_file.exporter import LICENCE
from ego4dfs.metrics import Metrics
from ego4dfs.prefetch import Outage
from ego4dfs.session import open_configured_store
from ego4dfs.text import counted, human_size
from ego4dfs.vfs import open_selected_session

_OPERATIONS = ("export", "import")
_USAGE = "ego4dfs index export FILE [SELECTION], or ego4dfs index import FILE"


def add_arguments(parser: Parser) -> None:
    """Add the options of `index`."""
    parser.add_argument(
        "operation",
        nargs="?",
        metavar="|".join(_OPERATIONS),
        help="export: write manifests, the sizes, ETags and times of objects, and the key frames"
        " of videos to FILE; import: add to the cache what it does not know of these",
    )
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="the index file, an SQLite database"
    )
    parser.add_argument(
        "--known-only",
        action="store_true",
        help="with export: write what the cache knows; by default what is unknown of the selected"
        " files is fetched first, one request for each",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="with export: replace FILE if it exists"
    )
    add_retry_for(parser)
    add_json(parser, "print the report as JSON")
    add_selection(parser, default="those whose manifests are in the cache")
    add_store(parser)
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Export or import."""
    if args.operation not in _OPERATIONS or not args.file:
        given = f"there is no operation {args.operation}" if args.operation else "nothing to do"
        missing = "no FILE was given" if args.operation in _OPERATIONS else given
        raise ConfigError(missing, hint=_USAGE)
    file = path_of(args.file, "FILE")
    if args.operation == "import":
        _check_flags(args)
        return _import(config_from(args), file, as_json=args.json)
    return _export(args, config_from(args), file)


def _check_flags(args: argparse.Namespace) -> None:
    """Raise ConfigError for flags of `export`, which an import would ignore."""
    given = [name for name in (*FILTERS, "datasets", "version") if vars(args).get(name)]
    given += [name for name in ("known_only", "overwrite") if getattr(args, name)]
    if given:
        flags = " ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(
            f"{flags}: only index export selects", hint="an import is of the whole file"
        )


def _check_export(config: Config, file: Path, *, overwrite: bool) -> None:
    """Raise ConfigError, or OutputError if the file cannot be there."""
    if config.manifest_override_path is not None:
        hint = "an index file has the manifests of the store"
        raise ConfigError("--manifest-override-path: not allowed with index", hint=hint)
    if not file.parent.is_dir():
        raise OutputError(f"{file.parent}: no such directory", hint="create it first")
    if file.exists() and not overwrite:
        raise OutputError(f"{file}: the file exists", hint="replace it with --overwrite")


def _export(args: argparse.Namespace, config: Config, file: Path) -> int:
    _check_export(config, file, overwrite=args.overwrite)
    session = open_selected_session(config)
    try:
        names = config.datasets or [
            name for name in datasets.known_names() if session.catalog.is_cached(name)
        ]
        outage = Outage(config.retry_for_s)
        exporter = IndexExporter(session, outage)
        with Progress(sys.stderr) as progress:
            outage.on_wait = partial(progress.outage, outage)
            exporter.collect(
                names,
                metadata=config.metadata,
                known_only=args.known_only,
                on_facts=progress.facts,
            )
    except StoreUnavailable as error:
        hint = "repeat it to continue; with --known-only the file has what is known now"
        raise StoreUnavailable(str(error), url=error.url, hint=hint) from error
    finally:
        session.close()
    exporter.write(file, f"ego4dfs {__version__}")
    return _print_export(file, exporter.report, as_json=args.json, known_only=args.known_only)


def _print_export(file: Path, report: ExportReport, *, as_json: bool, known_only: bool) -> int:
    manifests, facts, media = (report.rows[name] for name in ("manifests", "facts", "media"))
    if as_json:
        document = {"file": file, "manifests": manifests, "facts": facts, "media": media}
        document["bytes"] = report.size
        print_json({**document, "objects": report.objects, "missing": dict(report.missing)})
    else:
        say(
            f"{file}: {counted(manifests, 'manifest')}, {facts} of {report.objects} objects,"
            f" the key frames of {counted(media, 'video')}, {human_size(report.size)}."
        )
    for reason, count in report.missing.items():
        say(f"not in it: {counted(count, 'object')}, {reason}", file=sys.stderr)
    say(LICENCE, file=sys.stderr if as_json else sys.stdout)
    return ExitCode.PARTIAL if report.missing and not known_only else ExitCode.OK


def _import(config: Config, file: Path, *, as_json: bool) -> int:
    with ExitStack() as opened:
        reader = IndexReader(file)
        opened.callback(reader.close)
        store = open_configured_store(config, Metrics())
        opened.callback(store.close)
        directory = source_directory(prepare_directory(config.cache_dir), store.source)
        facts = FactsIndex(directory, store)
        opened.callback(facts.close)
        importer = IndexImporter(reader, ManifestCache(directory, store), facts)
        importer.run(store.source)
        created = reader.about.get("created", "")
    return _print_import(file, created, importer.report, as_json=as_json)


def _print_import(file: Path, created: str, report: ImportReport, *, as_json: bool) -> int:
    counts = report.counts
    if as_json:
        tables = {
            name: {"added": n.added, "kept": n.kept, "refused": n.refused}
            for name, n in counts.items()
        }
        refused = [{"table": r.table, "key": r.key, "reason": r.reason} for r in report.refused]
        print_json({"file": file, "created": created, **tables, "refused": refused})
    else:
        rows = [(name, n.added, n.kept, n.refused) for name, n in counts.items()]
        say(f"{file}, exported {created}:")
        table(
            rows, ("", "added", "known here", "refused"), right=("added", "known here", "refused")
        )
    for row in report.refused:
        say(f"refused: {row.table} {row.key}: {row.reason}", file=sys.stderr)
    total = sum(n.refused for n in counts.values())
    if total > len(report.refused):
        say(f"… and {total - len(report.refused)} more", file=sys.stderr)
    return ExitCode.PARTIAL if total else ExitCode.OK
