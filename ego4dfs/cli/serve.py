"""`ego4dfs serve`: the tree over HTTP, for browsers and for machines without FUSE."""

from __future__ import annotations

import argparse
import re
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager

from ego4dfs.cli.options import add_cache, add_selection, add_store, config_from, path_of
from ego4dfs.cli.output import ExitCode, say
from ego4dfs.cli.parser import Parser
from ego4dfs.cli.signals import terminated_as_interrupted
from ego4dfs.cli.streams import output_is_optional
from ego4dfs.config.text_files import text
from ego4dfs.config.values import Given, listen_address
from ego4dfs.datasets import version_directory
from ego4dfs.errors import ConfigError, os_error_text
from ego4dfs.runtime.listen import http_url, listening_socket
from ego4dfs.runtime.memory_settings import tune_memory
from ego4dfs.vfs import open_vfs
from ego4dfs.web.hosts import is_loopback

DEFAULT_ADDRESS = "127.0.0.1:8080"

WHO_CAN_READ = "Everybody who knows this address can read what you can."

_NEW_TOKEN = ""
_TOKEN_BYTES = 16
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{8,}", re.ASCII)  # characters that a URL has as they are


def add_arguments(parser: Parser) -> None:
    """Add the options of `serve`."""
    add_selection(parser)
    add_store(parser)
    add_cache(parser)
    add_server(parser, DEFAULT_ADDRESS)


def add_server(parser: Parser, default: str) -> None:
    """Add the options of a server, which listens at the address `default`."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "--bind",
        metavar="[HOST:]PORT",
        default=default,
        help=f"address to listen at (default: {default}; HOST: 127.0.0.1 if omitted; port"
        " 0: a free one). An address that others reach needs --token or --no-token",
    )
    choice = group.add_mutually_exclusive_group()
    choice.add_argument(
        "--token",
        metavar="FILE",
        nargs="?",
        const=_NEW_TOKEN,
        help="serve below /TOKEN/, so that only those who know the address can read (default at"
        " 127.0.0.1). TOKEN is the first line of FILE; without FILE, a new random one",
    )
    choice.add_argument(
        "--no-token",
        action="store_true",
        help="serve at / to everybody who reaches the address: Ego4D's licence does not allow that"
        " in an open network",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C, SIGTERM or SIGHUP."""
    tune_memory()
    output_is_optional()
    config = config_from(args)
    host, port = address_of(args)
    token = token_of(args)
    with extra("serve"):
        from ego4dfs.web.server import serve_tree  # noqa: PLC0415 - it is an extra
    with closing(listening_socket(host, port, "--bind")) as listener:
        try:
            with terminated_as_interrupted(), closing(open_vfs(config)) as vfs:
                _say(http_url(host, listener), token, version_directory(config.version))
                serve_tree(vfs, listener, token)
        except KeyboardInterrupt:  # before the server began
            return ExitCode.OK
    return ExitCode.OK


def address_of(args: argparse.Namespace) -> tuple[str, int]:
    """Return the host and the port to listen at. Raises ConfigError."""
    address = listen_address(Given(args.bind, "--bind"))
    if address is None:
        raise ConfigError("--bind: no address", hint=f"the default is {DEFAULT_ADDRESS}")
    if not (is_loopback(address[0]) or args.no_token or args.token is not None):
        hint = "add --token, so that only those who know the address can read, or --no-token"
        raise ConfigError(f"--bind {args.bind}: others reach this address", hint=hint)
    return address


def token_of(args: argparse.Namespace) -> str:
    """Return the token of the addresses; empty for none. Raises ConfigError."""
    if args.no_token:
        return ""
    if not args.token:
        return secrets.token_urlsafe(_TOKEN_BYTES)
    path = path_of(args.token, "--token")
    try:
        token = text(path).partition("\n")[0].strip()
    except OSError as error:
        raise ConfigError(f"--token {path}: {os_error_text(error)}") from error
    if not _TOKEN.fullmatch(token):
        hint = "write at least 8 letters, digits, or any of . _ ~ - into its first line"
        raise ConfigError(f"--token {path}: no token that fits into a URL", hint=hint)
    return token


@contextmanager
def extra(command: str) -> Iterator[None]:
    """Raise a ConfigError that names the extra if the web server cannot be imported."""
    try:
        yield
    except ImportError as error:
        hint = "pip install 'ego4dfs[browse]'"
        text = f"{command} needs {error.name}, which is not installed"
        raise ConfigError(text, hint=hint) from error


def base_url(url: str, token: str) -> str:
    """Return the address of the tree, with a slash at its end."""
    return f"{url}/{token}/" if token else f"{url}/"


def _say(url: str, token: str, version: str) -> None:
    base = base_url(url, token)
    say(f"Ego4D is at {base}")
    say(f"  list      curl '{base}{version}/?format=json'")
    say(f"  read      ffmpeg -ss 600 -i {base}{version}/full_scale/VIDEO_UID.mp4 -t 2 window.mp4")
    say("  stop      Ctrl-C", flush=True)
    if token:
        say(WHO_CAN_READ, flush=True)
