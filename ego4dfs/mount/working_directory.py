"""The working directory of a background mount, and relative paths in its environment.

A daemon changes to `/`, because any other working directory keeps its filesystem busy. Variables
may hold paths relative to the directory of the command, and libraries read them late. So they are
made absolute first. A relative path in the AWS files cannot be changed: then the process stays in
its directory.
"""

from __future__ import annotations

import logging
import os
from collections.abc import MutableMapping

from ego4dfs.store.aws_config_files import has_relative_names

log = logging.getLogger(__name__)

_FILES = (
    *("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_CA_BUNDLE", "BOTO_CONFIG"),
    *("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
    *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC", "KRB5_CONFIG"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "FSSPEC_CONFIG_DIR", "HOME", "TMPDIR"),
)
_LISTS = ("PATH", "SSL_CERT_DIR", "AWS_DATA_PATH", "PYTHONPATH")


def change_to_root() -> None:
    """Change to `/`, unless the AWS files have paths relative to the working directory."""
    try:
        directory = os.getcwd()  # noqa: PTH109 - text, not Path
    except FileNotFoundError:  # it was removed: no relative path can exist
        os.chdir("/")
        return
    make_absolute(os.environ, directory)
    if has_relative_names():
        log.info("the working directory stays %s: the AWS files have relative paths", directory)
    else:
        os.chdir("/")


def make_absolute(environ: MutableMapping[str, str], directory: str) -> None:
    """Make the paths in `environ` absolute, from `directory`."""
    for name in _FILES:
        if environ.get(name):
            environ[name] = _absolute(environ[name], directory)
    for name in _LISTS:
        if environ.get(name):
            parts = environ[name].split(os.pathsep)
            environ[name] = os.pathsep.join(_absolute(part, directory) for part in parts)


def _absolute(path: str, directory: str) -> str:
    # Libraries expand ~ and $VARIABLES themselves.
    is_absolute = path.startswith(("/", "~", "$"))
    return path if is_absolute else os.path.join(directory, path)  # noqa: PTH118 - text
