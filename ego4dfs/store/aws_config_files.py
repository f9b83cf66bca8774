"""AWS config files and environment: plain keys and settings, read without importing botocore.

Nearly every licensee has a key in the environment or in ~/.aws/credentials; botocore's import takes
0.3 s. Roles, SSO and credential processes are left to botocore. Tests compare both.
"""

from __future__ import annotations

import configparser
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PLAIN = {
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "region",
    "output",
    "cli_pager",
    "s3",
    "ca_bundle",
    "endpoint_url",
    "ignore_configured_endpoint_urls",
    "services",
}
_PROFILE_VARIABLES = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
_ROLE_VARIABLES = ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CREDENTIAL_EXPIRATION")


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """One set of AWS keys; its repr shows none of it."""

    access_key: str
    secret_key: str
    token: str = ""

    def __repr__(self) -> str:
        return "Keys(...)"


def paths() -> tuple[Path, Path]:
    """Return the paths of the credentials file and the config file, which need not exist."""
    credentials = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    config = os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")
    return _expanded(credentials), _expanded(config)


def signature() -> tuple[tuple[int, int, int], ...]:
    """Return a value that changes when either file is written."""
    return tuple(_stamp(path) for path in paths())


def plain_keys(profile: str) -> Keys | None:
    """Return the keys of `profile`, or of the environment when that is empty.

    None where reading files does not suffice: then botocore is needed.
    """
    if any(os.environ.get(name) for name in _ROLE_VARIABLES):
        return None
    if not profile and "AWS_ACCESS_KEY_ID" in os.environ:
        return None if profile_of_environment() else _environment_keys()
    name = profile or profile_of_environment() or "default"
    credentials, config = _sections(name)
    if (set(credentials) | set(config)) - _PLAIN:
        return None
    return _keys(
        credentials.get("aws_access_key_id", ""),
        credentials.get("aws_secret_access_key", ""),
        credentials.get("aws_session_token", ""),
    )


def has_profile(profile: str) -> bool:
    """Return whether either file has a section of `profile`."""
    return any(_sections(profile))


def region(profile: str) -> str:
    """Return the region of the environment, else of `profile`, as written there, or ''."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if os.environ.get(name):
            return os.environ[name]
    credentials, config = _sections(profile or profile_of_environment() or "default")
    return config.get("region") or credentials.get("region", "")


def setting(profile: str, name: str) -> str:
    """Return the setting `name` of `profile` in the config file, or ''."""
    return _sections(profile or profile_of_environment() or "default")[1].get(name, "").strip()


def service_setting(profile: str, service: str, name: str) -> str:
    """Return a setting of one service in the `services` that `profile` names, or ''."""
    heading = f"services {setting(profile, 'services')}"
    parsed = _parsed(paths()[1])
    if not parsed.has_section(heading):
        return ""
    for line in parsed.get(heading, service, fallback="").split("\n"):
        key, separator, value = line.partition("=")
        if separator and key.strip() == name:
            return value.strip()
    return ""


def has_relative_names() -> bool:
    """Return whether either file names a program or file relative to the working directory."""
    sections = (
        dict(parsed.items(name)) for parsed in map(_parsed, paths()) for name in parsed.sections()
    )
    return any(_is_relative(section) for section in sections)


def _is_relative(section: Mapping[str, str]) -> bool:
    files = (section.get(name, "") for name in ("ca_bundle", "web_identity_token_file"))
    if any(not name.startswith(("/", "~", "$")) for name in files if name):
        return True
    try:
        words = shlex.split(section.get("credential_process", ""))
    except ValueError:  # botocore will report it
        return False
    parts = (part for word in words for part in word.split("="))
    relative = (part for part in parts if part and not part.startswith("/"))
    return any(os.path.exists(part) for part in relative)  # noqa: PTH110 - Path raises for long ones


def profile_of_environment() -> str:
    """Return the profile that AWS_PROFILE names, or ''."""
    return next((os.environ[name] for name in _PROFILE_VARIABLES if os.environ.get(name)), "")


def _environment_keys() -> Keys | None:
    token = os.environ.get("AWS_SESSION_TOKEN") or os.environ.get("AWS_SECURITY_TOKEN", "")
    return _keys(
        os.environ["AWS_ACCESS_KEY_ID"], os.environ.get("AWS_SECRET_ACCESS_KEY", ""), token
    )


def _keys(access_key: str, secret_key: str, token: str) -> Keys | None:
    return Keys(access_key, secret_key, token) if access_key and secret_key else None


def _sections(profile: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the sections of `profile` in the credentials file and in the config file."""
    credentials, config = (_parsed(path) for path in paths())
    headings = [f"profile {profile}", f'profile "{profile}"']
    if profile == "default":
        headings.insert(0, profile)
    heading = next((name for name in headings if config.has_section(name)), "")
    return (
        dict(credentials.items(profile)) if credentials.has_section(profile) else {},
        dict(config.items(heading)) if heading else {},
    )


def _parsed(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(default_section="\0none")
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return configparser.RawConfigParser()
    return parser


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _expanded(path: str) -> Path:
    try:
        return Path(os.path.expandvars(path)).expanduser()
    except RuntimeError:  # a user without a home directory has no such file
        return Path(os.devnull)
