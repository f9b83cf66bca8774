"""`ego4dfs mount`: mount Ego4D as a directory, in the background or the foreground."""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ego4dfs import __version__, datasets
from ego4dfs.cache import prepare_directory
from ego4dfs.cli.options import (
    add_cache,
    add_mountpoint,
    add_near,
    add_selection,
    add_store,
    config_from,
    mountpoint_of,
    path_of,
)
from ego4dfs.cli.output import ExitCode, say
from ego4dfs.cli.parser import Parser
from ego4dfs.cli.store_state import describe_state, state_remedy
from ego4dfs.cli.streams import output_is_optional
from ego4dfs.config import Config
from ego4dfs.errors import ConfigError, MountError
from ego4dfs.files.mountinfo import resolve_path
from ego4dfs.metrics import NOT_ASKED, ONLINE
from ego4dfs.mount import (
    Binding,
    JsonFormatter,
    MountOptions,
    Recorder,
    RepeatFilter,
    check_mountpoint,
    check_unmounted,
    load_binding,
    lock_mountpoint,
    log_to,
    otlp_export,
    read_status,
    run_in_background,
    serve,
    unmount,
)
from ego4dfs.runtime.memory_settings import tune_memory
from ego4dfs.runtime.resource_limits import check_address_space
from ego4dfs.text import shell_word
from ego4dfs.vfs import open_vfs, probe

if TYPE_CHECKING:
    from ego4dfs.mount.metrics_server import MetricsServer

log = logging.getLogger(__name__)

_STATE_WAIT_S = 4.0  # the import of s3fs takes a second of CPU time, more on a busy machine
_FUSE_CONF = Path("/etc/fuse.conf")
_FIRST_ANSWER_S = 30.0
"""Time limit for the first answer of a mount: a busy machine may need seconds."""


def add_arguments(parser: Parser) -> None:
    """Add the options of `mount`."""
    add_mountpoint(parser)
    add_selection(parser, output="the mountpoint, as the official tool names it")
    add_store(parser)
    add_near(parser)
    add_cache(parser)
    group = parser.add_argument_group("mount")
    group.add_argument(
        "-f",
        "--foreground",
        action="store_true",
        help="stay in the foreground until Ctrl-C or unmount",
    )
    group.add_argument(
        "--nonempty", action="store_true", help="mount over a directory that is not empty"
    )
    group.add_argument(
        "--copies",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="serve valid downloaded files below DIR from disk (default with --nonempty:"
        " MOUNTPOINT)",
    )
    group.add_argument(
        "--allow-other",
        action="store_true",
        help="let other users of this machine read the mount too",
    )
    group.add_argument(
        "--libfuse",
        metavar="2|3",
        default=argparse.SUPPRESS,
        help="version of libfuse (default: 3 if it is installed)",
    )
    group.add_argument(
        "--verify",
        metavar="auto|off",
        default=argparse.SUPPRESS,
        help="check objects against their ETags in the background once all their bytes are cached,"
        " if the ETag is an MD5 (default: auto)",
    )
    group.add_argument(
        "--hedge",
        metavar="auto|off",
        default=argparse.SUPPRESS,
        help="send a second request for bytes that are far later than usual; at most 2 %% more"
        " requests (default: auto)",
    )
    group.add_argument(
        "--metrics",
        metavar="[HOST:]PORT",
        default=argparse.SUPPRESS,
        help="serve the counters to Prometheus at http://HOST:PORT/metrics (HOST: 127.0.0.1 if"
        " omitted; port 0: a free one)",
    )
    group.add_argument(
        "--log-file",
        metavar="FILE",
        help="log of a background mount (default: a file in the cache)",
    )
    group.add_argument(
        "--log-format",
        metavar="text|json",
        default=argparse.SUPPRESS,
        help="json: one JSON object for each line of the log, in the foreground on stderr (default:"
        " text)",
    )


def run(args: argparse.Namespace) -> int:
    """Mount; return once the mount answers, or in the foreground once it is unmounted."""
    output_is_optional()
    config = config_from(args)
    mountpoint = resolve_path(mountpoint_of(config))
    options = MountOptions(allow_other=args.allow_other, nonempty=args.nonempty)
    if options.nonempty and config.copies is None:
        config = replace(config, copies=mountpoint)
    check_address_space()
    binding = load_binding(config.libfuse)
    check_mountpoint(mountpoint, nonempty=options.nonempty)
    _check_allow_other(options)
    _check_outside(mountpoint, config.cache_dir, "the cache", "--cache-dir")
    inner = prepare_directory(config.cache_dir)
    lock = lock_mountpoint(mountpoint)
    mount = partial(_serve, config, mountpoint, binding, options, lock)
    if args.foreground:
        _unblock_signals()
        if config.log_format == "json":
            log_to(_JsonLines())
        mount(partial(_say_foreground, mountpoint))
        return ExitCode.OK
    default_log = str(_log_path(inner, mountpoint))
    log_path = path_of(default_log if args.log_file is None else args.log_file, "--log-file")
    _check_outside(mountpoint, log_path, "the log", "--log-file")
    run_in_background(
        lambda on_start: mount(lambda _: on_start()),
        log_path,
        keep={lock},
        log_format=config.log_format,
    )
    os.close(lock)
    _say_background(mountpoint, datasets.version_directory(config.version), log_path)
    return ExitCode.OK


class _JsonLines(logging.Handler):
    """Prints log records on the current stderr, as JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.addFilter(RepeatFilter())

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        say(self.format(record), file=sys.stderr, flush=True)


def _unblock_signals() -> None:
    """Unblock the signals that end a mount: the caller may have blocked them for itself."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))


def _serve(
    config: Config,
    mountpoint: Path,
    binding: Binding,
    options: MountOptions,
    lock: int,
    on_start: Callable[[str], None],
) -> None:
    """Mount and serve; `on_start` gets the URL of the metrics, or an empty text."""
    log.info("mounting %s with libfuse %d", mountpoint, binding.version)
    tune_memory()
    with ExitStack() as opened:
        server = _metrics_server(config)
        if server is not None:
            opened.callback(server.close)
        vfs = open_vfs(config)  # starts threads: only after the fork
        opened.callback(vfs.close)
        prober = threading.Thread(target=probe, args=[vfs], name="probe", daemon=True)
        check_unmounted(mountpoint)  # loading the manifests may have taken a while
        with suppress(RuntimeError):  # no thread can be started: the state is that of the reads
            prober.start()
        about = {"version": __version__, "mountpoint": str(mountpoint)}
        if server is not None:
            vfs.session.metrics.metrics_url = server.url
            server.start(vfs.status, about)
        metrics = vfs.session.metrics
        inner = prepare_directory(config.cache_dir)
        recorder = Recorder(inner, mountpoint, vfs.status, metrics.patterns.snapshot)
        opened.callback(recorder.close)
        recorder.start()
        otlp = otlp_export(os.environ, vfs.status, about)
        if otlp is not None:
            opened.callback(otlp.close)
            otlp.start()
        url = metrics.metrics_url
        serve(vfs, mountpoint, binding, options, partial(_started, lock, on_start, url))


def _metrics_server(config: Config) -> MetricsServer | None:
    """Return a server that listens, if one was asked for. Raises ConfigError if it cannot."""
    if config.metrics is None:
        return None
    try:
        # Imported late: it is an extra.
        from ego4dfs.mount.metrics_server import MetricsServer  # noqa: PLC0415
    except ImportError as error:
        text = "--metrics needs prometheus-client, which is not installed"
        raise ConfigError(text, hint="pip install 'ego4dfs[metrics]'") from error
    return MetricsServer(*config.metrics)


def _started(lock: int, on_start: Callable[[str], None], url: str) -> None:
    os.close(lock)
    on_start(url)


def _say_foreground(mountpoint: Path, metrics_url: str) -> None:
    say(f"Ego4D is at {mountpoint}; Ctrl-C unmounts it.")
    if metrics_url:
        say(f"  metrics   {metrics_url}")
    sys.stdout.flush()


def _say_background(mountpoint: Path, version: str, log_path: Path) -> None:
    """Wait until the mount answers, then print where it is and how to unmount it."""
    try:
        status = _first_status(mountpoint)
    except BlockingIOError:  # no process can be started to read it; the mount has started
        status = {}
    except MountError as error:
        with suppress(MountError):
            unmount(mountpoint, lazy=True)
        raise MountError(f"{error} right after mounting", hint=f"see {log_path}") from error
    shown = shell_word(str(mountpoint))
    say(f"Ego4D is at {mountpoint}")
    say(f"  list      ls {shown}/{version}        and: ego4dfs status {shown}")
    say(f"  unmount   ego4dfs unmount {shown}")
    say(f"  log       {log_path}")
    if status.get("metrics_url"):
        say(f"  metrics   {status['metrics_url']}")
    if status and status.get("store") != ONLINE:
        say(f"  state     {describe_state(status)}")
    if status and state_remedy(status):
        say(f"  remedy    {state_remedy(status)}")


def _first_status(mountpoint: Path) -> dict[str, Any]:
    """Return the status once the store has answered, or after `_STATE_WAIT_S` without it."""
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
            hint=f"the mount would hide it: choose another directory with {flag}",
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
            f"--allow-other: {_FUSE_CONF} does not permit it for users other than root",
            hint=f"root can add the line user_allow_other to {_FUSE_CONF}",
        )
