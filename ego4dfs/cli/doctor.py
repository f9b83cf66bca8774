"""`ego4dfs doctor`: what does not work here, why, and what to do."""

from __future__ import annotations

import argparse
import itertools
import logging

from ego4dfs.cli.args import Parser, add_cache, add_selection, add_store, config_from
from ego4dfs.cli.output import ExitCode, exit_code, print_json, table
from ego4dfs.doctor import State, check_machine, check_remote


def add_arguments(parser: Parser) -> None:
    """Add the flags of `doctor`."""
    parser.add_argument("--json", action="store_true", help="print as JSON")
    add_selection(parser)
    add_store(parser)
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Check everything; the code is that of the first thing that is broken."""
    config = config_from(args)
    logging.getLogger("ego4dfs").setLevel(logging.ERROR)  # the table says it, once
    checks = list(itertools.chain(check_machine(config), check_remote(config)))
    rows = [(check.name, check.state.value, check.found, check.remedy) for check in checks]
    header = ("check", "state", "found", "remedy")
    if getattr(args, "json", False):
        print_json([dict(zip(header, row, strict=True)) for row in rows])
    else:
        table(rows, header)
    errors = (check.error for check in checks if check.state is State.FAIL)
    return next((exit_code(error) if error else ExitCode.FAILURE for error in errors), ExitCode.OK)
