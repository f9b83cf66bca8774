"""`ego4dfs demo`: mount a small sample from a local S3 server, without a licence."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ego4dfs.cli.output import ExitCode, say
from ego4dfs.cli.parser import Parser
from ego4dfs.cli.signals import terminated_as_interrupted
from ego4dfs.cli.streams import output_is_optional
from ego4dfs.config import default_cache_dir
from ego4dfs.errors import ConfigError, MountError
from ego4dfs.files.mountinfo import mounted_at
from ego4dfs.mount import check_mountpoint, load_binding, unmount

if TYPE_CHECKING:
    from ego4dfs.demo.keeper import RunningDemo

_NEEDED = ("av", "numpy")
_NEEDED_TO_BROWSE = (*_NEEDED, "starlette", "uvicorn", "werkzeug")


def add_arguments(parser: Parser) -> None:
    """Add the options of `demo`."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--keep",
        action="store_true",
        help="keep the server and the mount running, to try things out",
    )
    group.add_argument(
        "--browse",
        action="store_true",
        help="do not mount the sample, but show it in a browser until Ctrl-C: `ego4dfs browse`",
    )
    group.add_argument(
        "--stop", action="store_true", help="stop and remove a demo started with --keep"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo to its end, or start or stop one that keeps running."""
    output_is_optional()
    if args.stop:
        _stop()
        return ExitCode.OK
    _check_needs(_NEEDED_TO_BROWSE if args.browse else _NEEDED)
    if not args.browse:
        load_binding()
    if args.keep:
        _keep()
        return ExitCode.OK
    from ego4dfs.demo.walkthrough import Walkthrough  # noqa: PLC0415 - it needs the extra packages

    with tempfile.TemporaryDirectory(prefix="ego4dfs-demo-", ignore_cleanup_errors=True) as name:
        walkthrough = Walkthrough(Path(name).resolve())
        if args.browse:
            with terminated_as_interrupted():
                walkthrough.browse()
        else:
            walkthrough.run()
    return ExitCode.OK


def _check_needs(modules: tuple[str, ...]) -> None:
    if any(importlib.util.find_spec(module) is None for module in modules):
        raise ConfigError(
            "the demo needs packages that are not installed",
            hint="pip install 'ego4dfs[demo]', or scripts/demo in a clone",
        )


def _directory() -> Path:
    cache = default_cache_dir()
    return cache.with_name(f"{cache.name}-demo")


def _mountpoint() -> Path:
    return _directory() / "ego4d"


def _keep() -> None:
    from ego4dfs.demo import keeper  # noqa: PLC0415 - it needs the extra packages
    from ego4dfs.demo.walkthrough import Walkthrough  # noqa: PLC0415

    directory = _directory()
    if keeper.find(directory) is not None:
        raise MountError(f"a demo is already running in {directory}", hint="ego4dfs demo --stop")
    _remove()
    directory.mkdir(parents=True, mode=0o700)
    say("Starting an S3 server with a small sample of Ego4D; this takes a few seconds", flush=True)
    running = keeper.start(directory)
    try:
        walkthrough = Walkthrough(directory)
        check_mountpoint(_mountpoint())
        walkthrough.show(running)
    except BaseException:
        _end(running)
        raise


def _stop() -> None:
    from ego4dfs.demo import keeper  # noqa: PLC0415 - it needs the extra packages

    running = keeper.find(_directory())
    if running is None and not _directory().exists():
        raise MountError("no demo is running", hint="ego4dfs demo --keep starts one")
    _end(running)
    say("the demo is stopped and removed")


def _end(running: RunningDemo | None) -> None:
    try:
        if mounted_at(_mountpoint()) is not None:
            unmount(_mountpoint())
    finally:
        if running is not None:
            running.end()
        _remove()


def _remove() -> None:
    if mounted_at(_mountpoint()) is None:
        shutil.rmtree(_directory(), ignore_errors=True)
