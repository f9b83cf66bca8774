"""Diagnosis for `ego4dfs doctor`: origin of the AWS key, region, one unsigned HEAD request."""

from __future__ import annotations

import os
import socket
import ssl
from typing import NamedTuple

from ego4dfs.errors import ConfigError, CredentialsRejected, StoreUnavailable
from ego4dfs.store import aws_config_files, clock
from ego4dfs.store.aws_credential_chain import RenewingKeys, chain
from ego4dfs.store.credentials import NO_KEY_HINT
from ego4dfs.store.network_settings import (
    INTERCEPTED_HINT,
    PROXY_LOGIN,
    PROXY_LOGIN_HINT,
    NetworkSettings,
)
from ego4dfs.store.region_cache import valid_region
from ego4dfs.store.region_probe import (
    TIMEOUT_S,
    Obstacle,
    ProbeError,
    probe,
    probe_base,
    region_in,
)

_METHODS = {
    "env": "the environment",
    "shared-credentials-file": "the credentials file",
    "config-file": "the config file",
    "custom-process": "a credential process",
    "iam-role": "this machine's role",
    "container-role": "this container's role",
}


def key_origin(profile: str) -> str:
    """Return the place in the AWS chain that the key comes from, but never the key.

    Raises CredentialsRejected when there is none, ConfigError for a profile that does not exist,
    and StoreUnavailable when the service that issues keys does not answer.
    """
    named = profile or next(
        (os.environ[v] for v in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE") if os.environ.get(v)), ""
    )
    if aws_config_files.plain_keys(profile) is not None:
        if not named and "AWS_ACCESS_KEY_ID" in os.environ:
            return "AWS_ACCESS_KEY_ID of the environment"
        return f"profile {named or 'default'} of {aws_config_files.paths()[0]}"
    found = chain(profile)
    if found is None:
        raise CredentialsRejected("no access key in the AWS credential chain", hint=NO_KEY_HINT)
    RenewingKeys(found, profile).keys()  # only its use shows whether a login has expired
    method = str(getattr(found, "method", "the AWS chain"))
    return _METHODS.get(method, method) + (f", profile {named}" if named else "")


def configured_region(profile: str) -> str:
    """Return the region that is configured, or an empty text.

    Raises ConfigError for an invalid region: some users write `none` or `global`.
    """
    written = aws_config_files.region(profile)
    if written and not valid_region(written, aws=True):
        raise ConfigError(
            f"the configured region {written!r} is not a region of AWS; it is ignored",
            hint="remove it (AWS_REGION, or region in ~/.aws/config), or write us-east-1",
        )
    return written


class Reached(NamedTuple):
    """What the endpoint answers: the region of a bucket or '', and how far our clock is ahead."""

    region: str
    ahead_s: float | None


def reach(endpoint_url: str, bucket: str, profile: str = "") -> Reached:
    """Return what the endpoint answers about a bucket.

    Sends one HEAD without a signature; any answer that can be the store's suffices. Raises
    StoreUnavailable with the cause and a remedy, and ConfigError for a proxy or certificates that
    cannot be used.
    """
    try:
        headers = probe(NetworkSettings(profile), endpoint_url, bucket)
    except ProbeError as error:
        reason, remedy = _cause_and_remedy(error)
        base = probe_base(endpoint_url)
        raise StoreUnavailable(f"{base}: {reason}", url=base, hint=remedy) from None
    return Reached(region_in(headers), clock.ahead_of(headers))


def _cause_and_remedy(error: ProbeError) -> tuple[str, str]:
    """Return the cause of an error, and a remedy, as text."""
    if error.obstacle is Obstacle.PROXY_LOGIN:
        return PROXY_LOGIN, PROXY_LOGIN_HINT
    if error.obstacle is Obstacle.INTERCEPTED:
        return f"what answers is not the store ({error.status})", INTERCEPTED_HINT
    return _no_connection(error.cause)


def _no_connection(cause: BaseException | None) -> tuple[str, str]:
    blocked = "no network, or a firewall: try another network, or set HTTPS_PROXY"
    if isinstance(cause, socket.gaierror):
        return "its name cannot be resolved", f"no DNS: {blocked}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        if reason := clock.untimely_certificate(cause.verify_message):
            return reason, "if the clock is right, renew the certificate of the server or the proxy"
        return (
            f"its certificate is not trusted ({cause.verify_message})",
            "if a proxy intercepts TLS, name its certificate with AWS_CA_BUNDLE",
        )
    if isinstance(cause, TimeoutError):
        return f"no answer within {TIMEOUT_S:.0f} s", f"blocked network: {blocked}"
    if isinstance(cause, ConnectionRefusedError):
        return (
            "the connection is refused",
            "check that the server runs, --endpoint-url and the proxy",
        )
    return f"cannot be reached ({cause or type(cause).__name__})", f"blocked network: {blocked}"
