"""Targets: config files and variables, AWS config files, the kernel's mount table."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

from botocore.credentials import ConfigProvider, SharedCredentialProvider
from botocore.exceptions import BotoCoreError
from hypothesis import strategies as st

from ego4dfs.config import KEYS, Config, resolve
from ego4dfs.errors import Ego4DError
from ego4dfs.files import mountinfo
from ego4dfs.metrics import Metrics
from ego4dfs.store import aws_config_files, open_store
from ego4dfs.store.network_settings import NetworkSettings, configured_endpoint
from kit.fuzz.inputs import DOCUMENTS, damaged, soup, texts
from kit.fuzz.target import Target, assert_clear

_WORDS = (
    *(
        "v2",
        "v2_1",
        "full_scale",
        "[",
        "]",
        ",",
        "/",
        "..",
        "~",
        "~x",
        "~\ud800",
        "\0",
        "\ud800",
        " ",
    ),
    *("1e9", "64MiB", "50GiB", "9" * 5000, "0.5TB", "10m", "inf", "nan", "true", "auto", "lru"),
    *(
        "http://",
        "https://h",
        "http://[",
        "http://h:x",
        "http://h:99999",
        "s3://b",
        "file://",
        "memory://",
    ),
    *("x" * 300, "é", "\n", "*", "[a,b]", "[!", "fho:train", "\\", "@", "user:pw@"),
)
_VALUES = st.one_of(DOCUMENTS, st.lists(soup(*_WORDS), max_size=3), soup(*_WORDS))
_KEYS = st.one_of(*[st.sampled_from(sorted(KEYS))] * 9, st.text(max_size=5))
_CONFIG = json.dumps({"version": "v2", "datasets": ["clips"], "cache_size": "1GiB"}).encode()
_CONFIGS = st.one_of(
    # One or two options at a time: the first wrong value hides the others.
    st.dictionaries(_KEYS, _VALUES, max_size=2).map(lambda options: json.dumps(options).encode()),
    damaged(_CONFIG),
    texts('{"', '":', '"', "[", "]", "}", "version", "datasets", "NaN", "1e999", "null", ",", "{"),
)
_VARIABLES = st.dictionaries(
    st.sampled_from(sorted(KEYS)), st.one_of(soup(*_WORDS), st.sampled_from(_WORDS)), max_size=1
)


def _check_config(value: tuple[bytes, dict[str, str]], directory: Path) -> None:
    """A Config that can be used, or an error with the place of the value."""
    content, variables = value
    path = directory / "config.json"
    path.write_bytes(content)
    environ = {f"EGO4DFS_{key.upper()}": text for key, text in variables.items()}
    environ["XDG_CACHE_HOME"] = str(directory)
    try:
        config = resolve({"config_path": str(path)}, environ=environ)
        _check_usable(config)
    except Ego4DError as error:
        assert_clear(error)


def _check_usable(config: Config) -> None:
    for path in (config.cache_dir, config.output_directory, config.copies):
        os.path.exists(os.fsencode(path or "/"))
    store = open_store(
        source=config.source,
        endpoint_url=config.endpoint_url,
        transport=config.transport,
        metrics=Metrics(),
    )
    store.close()
    if config.endpoint_url:
        NetworkSettings().proxy(config.endpoint_url)
        assert urlsplit(config.endpoint_url).hostname


_PLAIN = (
    b"[default]\naws_access_key_id = AKIA\naws_secret_access_key = s3cr3t\nregion = us-east-1\n"
    b"s3 =\n    addressing_style = path\n[profile x]\nca_bundle = /c.pem\nservices = local\n"
    b"credential_process = /bin/cat 'a b'\n[services local]\ns3 =\n  endpoint_url = http://h\n"
)
_AWS_PIECES = (
    *("[default]\n", "[profile x]\n", '[profile "x"]\n', "[x]\n", "[services x]\n", "[", "]", "\n"),
    *("aws_access_key_id", "aws_secret_access_key = s", "aws_session_token", " = ", ": ", "=", " "),
    *("region = eu-west-1\n", "ca_bundle = c.pem\n", "credential_process = ", "'", '"', "#", ";"),
    *("services = x\n", "s3 =\n", "  endpoint_url = http://h\n", "%", "%(a)s", "\\", "\0", "\r"),
    *("x" * 300, "/", "~", "$HOME", "[\0none]\n", "\ufeff", "aws_access_key_id = a\n"),
)
_AWS = st.tuples(*[st.one_of(texts(*_AWS_PIECES), damaged(_PLAIN))] * 2, st.sampled_from(["", "x"]))


def _check_aws_files(value: tuple[bytes, bytes, str], directory: Path) -> None:
    """No error, and where keys are read, they are those of botocore."""
    credentials, config, profile = value
    (directory / "credentials").write_bytes(credentials)
    (directory / "config").write_bytes(config)
    environ = {
        "AWS_SHARED_CREDENTIALS_FILE": str(directory / "credentials"),
        "AWS_CONFIG_FILE": str(directory / "config"),
        "HOME": str(directory),
    }
    with mock.patch.dict(os.environ, environ, clear=True):
        aws_config_files.has_profile(profile)
        aws_config_files.region(profile)
        aws_config_files.has_relative_names()
        aws_config_files.signature()
        try:
            NetworkSettings(profile).certificates()
            NetworkSettings(profile).proxy(configured_endpoint("", profile) or "https://h")
        except Ego4DError as error:
            assert_clear(error)
        keys = aws_config_files.plain_keys(profile)
        if keys is not None:
            _compare_with_botocore(keys, directory, profile or "default")


def _compare_with_botocore(keys: aws_config_files.Keys, directory: Path, profile: str) -> None:
    for provider in (SharedCredentialProvider, ConfigProvider):
        name = "credentials" if provider is SharedCredentialProvider else "config"
        try:
            found = provider(str(directory / name), profile).load()
        except BotoCoreError:
            return
        if found is not None:
            expected = (found.access_key, found.secret_key, found.token or "")
            assert (keys.access_key, keys.secret_key, keys.token) == expected
            return


_MOUNTS = (
    b"36 35 98:0 /a /mnt\\040x rw,noatime shared:1 - fuse.ego4dfs ego4dfs rw,user_id=1000\n"
    b"37 35 0:5 / /proc rw - proc proc rw\n"
)
_MOUNT_PIECES = (
    *(
        "36 35 0:5 / ",
        "/mnt",
        " - ",
        " ",
        "\n",
        "\\040",
        "\\777",
        "\\",
        "\\0",
        "rw",
        "user_id=",
        ",",
    ),
    *("fuse.ego4dfs", "9" * 5000, "/", "shared:1", "\r", "\0", "\\000", "user_id=1"),
)


def _check_mounts(content: bytes, directory: Path) -> None:
    """Each line is a mount or ignored."""
    (directory / "self").mkdir()
    (directory / "self/mountinfo").write_bytes(content)
    with mock.patch.object(mountinfo, "_PROC", directory):
        found = list(mountinfo.mounts())
        assert len(found) <= content.count(b"\n") + 1
        assert all(mount.owner is None or mount.owner >= 0 for mount in found)
        mountinfo.mounted_at(Path("/mnt"))
        mountinfo.mount_containing(Path("/mnt/x"))


TARGETS = (
    Target("config", st.tuples(_CONFIGS, _VARIABLES), _check_config, 60),
    Target("AWS files", _AWS, _check_aws_files),
    Target("mountinfo", st.one_of(texts(*_MOUNT_PIECES), damaged(_MOUNTS)), _check_mounts),
)
