"""Names of files in the environment, and the working directory of a background mount.

A daemon goes to `/`: any other working directory keeps its filesystem busy. Settings may name
files relative to the directory of the command, though, and libraries read them late. So those in
variables become absolute first; a name in the AWS files cannot be changed, and keeps the process
where it is.
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
    """Go to `/`, unless the AWS files name something relative to the working directory."""
    try:
        here = os.getcwd()  # noqa: PTH109 - text, not Path
    except FileNotFoundError:  # it was removed: nothing can be relative to it
        os.chdir("/")
        return
    make_absolute(os.environ, here)
    if has_relative_names():
        log.info("staying in %s: the AWS files name files relative to it", here)
    else:
        os.chdir("/")


def make_absolute(environ: MutableMapping[str, str], directory: str) -> None:
    """Put `directory` before the relative names of files in `environ`."""
    for name in _FILES:
        if environ.get(name):
            environ[name] = _absolute(environ[name], directory)
    for name in _LISTS:
        if environ.get(name):
            parts = environ[name].split(os.pathsep)
            environ[name] = os.pathsep.join(_absolute(part, directory) for part in parts)


def _absolute(path: str, directory: str) -> str:
    # Libraries expand ~ and $VARIABLES themselves.
    is_complete = path.startswith(("/", "~", "$"))
    return path if is_complete else os.path.join(directory, path)  # noqa: PTH118 - text
