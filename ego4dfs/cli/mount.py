"""`ego4dfs mount`: show Ego4D as a directory."""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ego4dfs import datasets
from ego4dfs.cache import prepare_directory
from ego4dfs.cli.args import (
    Parser,
    add_cache,
    add_mountpoint,
    add_selection,
    add_store,
    config_from,
    mountpoint_of,
    path_of,
)
from ego4dfs.cli.mount_state import describe_state, state_remedy
from ego4dfs.cli.output import ExitCode, say
from ego4dfs.config import Config
from ego4dfs.errors import ConfigError, MountError
from ego4dfs.metrics import NOT_ASKED, ONLINE
from ego4dfs.mount import (
    Binding,
    MountOptions,
    check_mountpoint,
    check_unmounted,
    load_binding,
    lock_mountpoint,
    read_status,
    resolve_path,
    run_in_background,
    serve,
    tune_memory,
    unmount,
)
from ego4dfs.text import shell_word
from ego4dfs.vfs import open_vfs, probe

log = logging.getLogger(__name__)

_STATE_WAIT_S = 2.0
_FUSE_CONF = Path("/etc/fuse.conf")
_FIRST_ANSWER_S = 30.0
"""Time for the first answer of a mount: a busy machine may take seconds."""


def add_arguments(parser: Parser) -> None:
    """Add the flags of `mount`."""
    add_mountpoint(parser)
    add_selection(parser, output="the official name for the mountpoint")
    add_store(parser)
    add_cache(parser)
    group = parser.add_argument_group("mount")
    group.add_argument(
        "-f", "--foreground", action="store_true", help="stay here until Ctrl-C or an unmount"
    )
    group.add_argument(
        "--nonempty", action="store_true", help="mount over a directory that is not empty"
    )
    group.add_argument(
        "--copies",
        metavar="DIR",
        help="serve prefetched copies below DIR where they are right (with --nonempty: those at"
        " MOUNTPOINT)",
    )
    group.add_argument(
        "--allow-other", action="store_true", help="let other users of this machine read it too"
    )
    group.add_argument(
        "--libfuse", metavar="2|3", help="version of libfuse (default: 3 where there is one)"
    )
    group.add_argument(
        "--verify",
        metavar="auto|off",
        help="compare objects with their ETags in the background once all their bytes are cached,"
        " where ETags are MD5s (default: auto)",
    )
    group.add_argument(
        "--log-file", metavar="FILE", help="log of a background mount (default: in the cache)"
    )


def run(args: argparse.Namespace) -> int:
    """Mount, and return when the tree answers; in the foreground, when it is gone again."""
    config = config_from(args)
    mountpoint = resolve_path(mountpoint_of(config))
    options = MountOptions(
        allow_other=getattr(args, "allow_other", False), nonempty=getattr(args, "nonempty", False)
    )
    if options.nonempty and config.copies is None:
        config = replace(config, copies=mountpoint)
    binding = load_binding(config.libfuse)
    check_mountpoint(mountpoint, nonempty=options.nonempty)
    _check_allow_other(options)
    _check_outside(mountpoint, config.cache_dir, "the cache", "--cache-dir")
    inner = prepare_directory(config.cache_dir)
    claimed = lock_mountpoint(mountpoint)
    mount = partial(_serve, config, mountpoint, binding, options, claimed)
    if getattr(args, "foreground", False):
        _hear_signals()
        mount(lambda: _say_foreground(mountpoint))
        return ExitCode.OK
    log_path = path_of(getattr(args, "log_file", str(_log_path(inner, mountpoint))), "--log-file")
    _check_outside(mountpoint, log_path, "the log", "--log-file")
    run_in_background(mount, log_path, keep={claimed})
    os.close(claimed)
    _say_background(mountpoint, datasets.version_directory(config.version), log_path)
    return ExitCode.OK


def _hear_signals() -> None:
    """Let those through that end a mount: a blocked signal is no wish of the user's."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))


def _serve(
    config: Config,
    mountpoint: Path,
    binding: Binding,
    options: MountOptions,
    claimed: int,
    on_start: Callable[[], None],
) -> None:
    log.info("mounting %s with libfuse %d", mountpoint, binding.version)
    tune_memory()
    vfs = open_vfs(config)  # threads start with it: after the fork only
    asker = threading.Thread(target=probe, args=[vfs], name="probe", daemon=True)
    try:
        check_unmounted(mountpoint)  # the manifests may have taken a while
        asker.start()
        serve(vfs, mountpoint, binding, options, partial(_started, claimed, on_start))
    finally:
        vfs.close()


def _started(claimed: int, on_start: Callable[[], None]) -> None:
    os.close(claimed)
    on_start()


def _say_foreground(mountpoint: Path) -> None:
    say(f"Ego4D is at {mountpoint}; Ctrl-C unmounts it.", flush=True)


def _say_background(mountpoint: Path, version: str, log_path: Path) -> None:
    """Make sure that the tree answers, then say how to go on."""
    try:
        status = _answered(mountpoint)
    except MountError as error:
        with suppress(MountError):
            unmount(mountpoint, lazy=True)
        raise MountError(f"{error} right after the mount", hint=f"see {log_path}") from error
    shown = shell_word(str(mountpoint))
    say(f"Ego4D is at {mountpoint}")
    say(f"  look      ls {shown}/{version}        and: ego4dfs status {shown}")
    say(f"  end       ego4dfs unmount {shown}")
    say(f"  log       {log_path}")
    if status.get("store") != ONLINE:
        say(f"  state     {describe_state(status)}")
    if state_remedy(status):
        say(f"  remedy    {state_remedy(status)}")


def _answered(mountpoint: Path) -> dict[str, Any]:
    """Return the status, once the store has answered or a moment has passed."""
    deadline = time.monotonic() + _STATE_WAIT_S
    status = read_status(mountpoint, _FIRST_ANSWER_S)
    while status.get("store") == NOT_ASKED and time.monotonic() < deadline:
        time.sleep(0.05)
        status = read_status(mountpoint, _FIRST_ANSWER_S)
    return status


def _log_path(inner: Path, mountpoint: Path) -> Path:
    digest = hashlib.blake2b(os.fsencode(mountpoint), digest_size=4).hexdigest()
    return inner / "logs" / f"{mountpoint.name}-{digest}.log"


def _check_outside(mountpoint: Path, path: Path, what: str, flag: str) -> None:
    if resolve_path(path).is_relative_to(mountpoint):
        raise ConfigError(
            f"{what} would be at {path}, below the mountpoint itself",
            hint=f"the mount hides what is there: name another place with {flag}",
        )


def _check_allow_other(options: MountOptions) -> None:
    if not options.allow_other or os.geteuid() == 0:
        return
    try:
        lines = _FUSE_CONF.read_bytes().split(b"\n")
    except OSError:
        lines = []
    if b"user_allow_other" not in (line.strip() for line in lines):
        raise MountError(
            f"--allow-other: {_FUSE_CONF} does not permit it to users",
            hint=f"root can add the line user_allow_other to {_FUSE_CONF}",
        )
