"""`ego4dfs doctor`: check this machine, the network, the credentials and the datasets."""

from __future__ import annotations

import argparse
import itertools
import logging

from ego4dfs.cli.options import (
    add_cache,
    add_json,
    add_selection,
    add_store,
    config_from,
)
from ego4dfs.cli.output import ExitCode, exit_code, print_json, table
from ego4dfs.cli.parser import Parser
from ego4dfs.doctor import Level, check_machine, check_remote


def add_arguments(parser: Parser) -> None:
    """Add the options of `doctor`."""
    add_json(parser)
    add_selection(parser)
    add_store(parser)
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Run all checks; the exit code is that of the first one that failed."""
    config = config_from(args)
    logging.getLogger("ego4dfs").setLevel(logging.ERROR)  # the table has what they say
    checks = list(itertools.chain(check_machine(config), check_remote(config)))
    rows = [(check.name, check.level.value, check.found, check.remedy) for check in checks]
    header = ("check", "state", "found", "remedy")
    if args.json:
        print_json([dict(zip(header, row, strict=True)) for row in rows])
    else:
        table(rows, header)
    errors = (check.error for check in checks if check.level is Level.FAIL)
    return next((exit_code(error) if error else ExitCode.FAILURE for error in errors), ExitCode.OK)
