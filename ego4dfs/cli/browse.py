"""`ego4dfs browse`: the videos of a selection, with narrations and annotations, in a browser."""

from __future__ import annotations

import argparse
import logging
import os
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from ego4dfs.cache import prepare_directory
from ego4dfs.cli.browse_live import LiveTables
from ego4dfs.cli.browse_redirect import redirect_file
from ego4dfs.cli.mounts import check_mounted
from ego4dfs.cli.options import add_cache, add_selection, add_store, config_from, path_of
from ego4dfs.cli.output import ExitCode, say
from ego4dfs.cli.parser import Parser
from ego4dfs.cli.serve import WHO_CAN_READ, add_server, address_of, base_url, extra, token_of
from ego4dfs.cli.signals import terminated_as_interrupted
from ego4dfs.cli.streams import output_is_optional
from ego4dfs.config import Config
from ego4dfs.datasets import VERSION_DEFAULT
from ego4dfs.files.mountinfo import resolve_path
from ego4dfs.runtime.listen import http_url, listening_socket
from ego4dfs.runtime.memory_settings import tune_memory
from ego4dfs.text import shell_word
from ego4dfs.vfs import open_vfs

log = logging.getLogger(__name__)

DEFAULT_ADDRESS = "127.0.0.1:0"

_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


def add_arguments(parser: Parser) -> None:
    """Add the options of `browse`."""
    group = parser.add_argument_group("pages")
    group.add_argument("--no-open", action="store_true", help="only print the address")
    group.add_argument(
        "--mount",
        metavar="DIR",
        help="show the paths that the files have in this mount, so that they can be copied",
    )
    add_selection(parser)
    add_store(parser)
    add_cache(parser)
    add_server(parser, DEFAULT_ADDRESS)


def run(args: argparse.Namespace) -> int:
    """Serve the pages until Ctrl-C, SIGTERM or SIGHUP."""
    tune_memory()  # 50 clients at once take 200 MiB with it, and 300 without
    output_is_optional()
    config = config_from(args)
    given = _given(config, _mountpoint(args))
    host, port = address_of(args)
    token = token_of(args)
    with extra("browse"):
        from ego4dfs.browse import open_pages  # noqa: PLC0415 - it is an extra
        from ego4dfs.web.app import PAGES_DIRECTORY  # noqa: PLC0415
        from ego4dfs.web.server import serve_tree  # noqa: PLC0415
    with closing(listening_socket(host, port, "--bind")) as listener:
        url = f"{base_url(http_url(host, listener), token)}{PAGES_DIRECTORY}/"
        try:
            with (
                terminated_as_interrupted(),
                closing(open_vfs(config)) as vfs,
                open_pages(vfs, config, given, LiveTables()) as pages,
                _opened(url, config, is_wanted=not args.no_open),
            ):
                _say(url, has_token=bool(token))
                serve_tree(vfs, listener, token, pages)
        except KeyboardInterrupt:  # before the server began
            return ExitCode.OK
    return ExitCode.OK


def _mountpoint(args: argparse.Namespace) -> str:
    if args.mount is None:
        return ""
    mountpoint = resolve_path(path_of(args.mount, "--mount"))
    check_mounted(mountpoint)
    return str(mountpoint)


def _given(config: Config, mountpoint: str) -> dict[str, str]:
    """Return what the commands on the pages need."""
    version = [] if config.version == VERSION_DEFAULT else ["--version", config.version]
    datasets = ["--datasets", *config.datasets] if config.datasets else []
    store = {
        "--aws_profile_name": config.aws_profile_name,
        "--endpoint-url": config.endpoint_url,
        "--source": config.source,
    }
    given = [word for option, value in store.items() if value for word in (option, value)]
    return {
        "version_option": " ".join(map(shell_word, version)),
        "store_options": " ".join(map(shell_word, given)),
        "datasets_option": " ".join(map(shell_word, datasets)),
        "mountpoint": mountpoint,
    }


@contextmanager
def _opened(url: str, config: Config, *, is_wanted: bool) -> Iterator[None]:
    """Open a browser, if there is a display, and end with the block.

    The browser gets the name of a private file that leads to the address: all users of the machine
    see the arguments of a process, and the address has the token.
    """
    if not is_wanted or not any(os.environ.get(name) for name in _DISPLAYS):
        yield
        return
    with ExitStack() as stack:
        try:
            page = stack.enter_context(redirect_file(url, prepare_directory(config.cache_dir)))
        except OSError as error:
            log.warning("no browser is opened: %s", error)
        else:
            threading.Thread(target=webbrowser.open, args=(page.as_uri(),), daemon=True).start()
        yield


def _say(url: str, *, has_token: bool) -> None:
    say(f"Ego4D is at {url}")
    say("  stop      Ctrl-C", flush=True)
    if has_token:
        say(WHO_CAN_READ, flush=True)
