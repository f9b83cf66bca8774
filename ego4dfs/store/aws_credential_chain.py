"""botocore's credential chain with a time limit, and keys that are renewed in the background."""

from __future__ import annotations

import copy
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ego4dfs.errors import ConfigError, CredentialsRejected, StoreError, StoreUnavailable
from ego4dfs.runtime.daemon_threads import CallTimeout, call_with_timeout
from ego4dfs.runtime.deadline import CREDENTIALS_S
from ego4dfs.store import aws_config_files, clock
from ego4dfs.store.aws_config_files import Keys

log = logging.getLogger(__name__)

_UNUSABLE = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What botocore raises besides its own errors, for instance for keys that have expired."""
RENEWAL_EVERY_S = 30.0
_PROCESS_ENDED_S = 2.0  # a process that was killed must end within this
_LIMIT_S = CREDENTIALS_S + 2 * _PROCESS_ENDED_S
FAILURE_KEPT_S = 5.0
_HINT = (
    "a credential_process must print keys and exit: run it in a terminal; for SSO and roles, run"
    " `aws sts get-caller-identity`"
)
_PROFILE_HINT = "check what the profile names: a role, a credential_process or a login"

Result = TypeVar("Result")


class Refreshing(Protocol):
    """botocore's credentials, as far as they are used; this call renews those of a role."""

    def get_frozen_credentials(self) -> Any:
        """Return the keys as of now, renewed if they end soon."""


class _ProcessOverdue(Exception):  # noqa: N818 - a state
    """A credential process did not end in time."""


class _BoundedProcess(subprocess.Popen[bytes]):
    """A credential process that is killed, with its children, after a time limit."""

    def __init__(self, command: list[str], **options: Any) -> None:
        # A process that prompts at a terminal must stay in its session: only itself is killed.
        self._is_leader = not os.isatty(0)
        options.setdefault("stdin", None if os.isatty(0) else subprocess.DEVNULL)
        super().__init__(command, start_new_session=self._is_leader, **options)
        self._name = Path(command[0]).name

    def communicate(
        self,
        input: bytes | None = None,  # noqa: A002 - Popen's name
        timeout: float | None = None,
    ) -> tuple[bytes, bytes]:
        """Return what it prints. Raises _ProcessOverdue."""
        try:
            return super().communicate(input, timeout or CREDENTIALS_S)
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL) if self._is_leader else self.kill()
            with suppress(subprocess.TimeoutExpired):
                self.wait(_PROCESS_ENDED_S)
            raise _ProcessOverdue(self._name) from None


class RenewingKeys:
    """Keys that botocore renews; while they are valid no thread waits for the renewal.

    Safe from several threads; `_lock` guards the start of a renewal. `_gate` is held while there
    are no valid keys and one thread fetches some, which is bounded in time.
    """

    def __init__(self, found: Refreshing, profile: str = "") -> None:
        self._found = found
        self._profile = profile
        self._keys: Keys | None = None
        self._lock = threading.Lock()
        self._gate = threading.Lock()
        self._failure: tuple[float, StoreError] | None = None
        self._renewal: threading.Thread | None = None
        self._next_s = 0.0

    def keys(self) -> Keys:
        """Return the current keys; wait only for the first ones, and for expired ones.

        Raises CredentialsRejected, and StoreUnavailable when nothing answers within CREDENTIALS_S.
        """
        keys = self._keys
        if keys is None or self._is_due(0):
            keys = self._fetched()
        elif self._is_due():
            self._renew()
            keys = self._keys or keys
        else:
            keys = frozen(self._found, self._profile)
        self._keys = keys
        return keys

    def _fetched(self) -> Keys:
        """Fetch keys, unless another thread does; return them, or raise the failure."""
        if not self._gate.acquire(timeout=_LIMIT_S):
            raise _timeout()
        try:
            if self._keys is not None and not self._is_due(0):
                return self._keys
            if self._failure is not None and time.monotonic() < self._failure[0]:
                raise copy.copy(self._failure[1])
            self._keys = _bounded(lambda: frozen(self._found, self._profile))
        except StoreError as error:
            if self._failure is None or time.monotonic() >= self._failure[0]:
                self._failure = (time.monotonic() + FAILURE_KEPT_S, error)
            raise
        else:
            return self._keys
        finally:
            self._gate.release()

    def _is_due(self, *seconds: int) -> bool:
        """Return whether the keys expire soon, or within this many seconds; some never expire."""
        is_needed: Callable[..., bool] | None = getattr(self._found, "refresh_needed", None)
        return is_needed is not None and is_needed(*seconds)

    def _renew(self) -> None:
        """Start a renewal, unless one is running or has run in the last RENEWAL_EVERY_S."""
        with self._lock:
            is_under_way = self._renewal is not None and self._renewal.is_alive()
            if is_under_way or time.monotonic() < self._next_s:
                return
            self._next_s = time.monotonic() + RENEWAL_EVERY_S
            self._renewal = threading.Thread(target=self._renewed, name="keys", daemon=True)
            try:
                self._renewal.start()
            except RuntimeError:  # no thread can be started now; the keys are still valid
                self._renewal = None

    def _renewed(self) -> None:
        try:
            self._keys = _unless_overdue(lambda: frozen(self._found, self._profile))
        except StoreError as error:
            log.warning("AWS keys that expire soon were not renewed: %s", error)


def _bounded(call: Callable[[], Result]) -> Result:
    """Return what `call` returns. Raises StoreUnavailable after the time limit."""
    try:
        return call_with_timeout(_LIMIT_S, lambda: _unless_overdue(call), name="keys")
    except CallTimeout:
        raise _timeout() from None


def _timeout() -> StoreUnavailable:
    return StoreUnavailable(
        f"the AWS credential chain (SSO, a role, instance metadata) did not answer in"
        f" {CREDENTIALS_S:.0f} s",
        hint=_HINT,
    )


def _unless_overdue(call: Callable[[], Result]) -> Result:
    try:
        return call()
    except _ProcessOverdue as process:
        raise StoreUnavailable(
            f"credential_process {process} did not end in {CREDENTIALS_S:.0f} s and was killed",
            hint=_HINT,
        ) from None


def chain(profile: str) -> Refreshing | None:
    """Return botocore's credentials of `profile`, or of its whole chain when that is empty.

    Raises StoreUnavailable when there are none within CREDENTIALS_S.
    """
    return _bounded(lambda: _chain(profile))


def _bound_processes(session: Any) -> None:
    """Limit the time of the session's credential processes, those behind roles too."""
    from botocore.credentials import ProcessProvider  # noqa: PLC0415

    for provider in session.get_component("credential_provider").providers:
        if isinstance(provider, ProcessProvider):
            provider._popen = _BoundedProcess  # noqa: SLF001 - botocore creates the provider
        builder = getattr(provider, "_profile_provider_builder", None)
        make = getattr(builder, "_create_process_provider", None)
        if builder is not None and make is not None:
            builder._create_process_provider = lambda name, make=make: _bounded_provider(make(name))  # noqa: SLF001


def _bounded_provider(provider: Any) -> Any:
    provider._popen = _BoundedProcess  # noqa: SLF001 - as above
    return provider


def _chain(profile: str) -> Refreshing | None:
    from botocore.exceptions import BotoCoreError, ClientError, ProfileNotFound  # noqa: PLC0415
    from botocore.session import Session  # noqa: PLC0415

    session = Session(profile=profile or None)
    try:
        _bound_processes(session)
        found: Refreshing | None = session.get_credentials()
    except ProfileNotFound as error:
        if profile != "default":
            raise _no_profile(error.kwargs["profile"], session.available_profiles) from None
        found = None
    except (BotoCoreError, ClientError, *_UNUSABLE) as error:
        raise _unusable(error, profile) from None
    # The official tool passes `default` if no profile is given: that must not exclude the
    # environment.
    return _chain("") if found is None and profile == "default" else found


def frozen(credentials: Refreshing, profile: str = "") -> Keys:
    """Return the current keys of botocore's `credentials`, which may renew them."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        now = credentials.get_frozen_credentials()
    except (BotoCoreError, ClientError, *_UNUSABLE) as error:
        raise _unusable(error, profile) from None
    return Keys(now.access_key, now.secret_key, now.token or "")


def _no_profile(profile: str, existing: list[str]) -> ConfigError:
    known = ", ".join(existing) or "none"
    return ConfigError(
        f"AWS profile {profile!r} does not exist (existing profiles: {known})",
        hint="name one of these, or none for the normal AWS chain",
    )


def _unusable(error: Exception, profile: str) -> StoreError:
    from botocore import exceptions  # noqa: PLC0415

    # Only the kind is reported: the message of a credential process may quote its input.
    kind = type(error).__name__
    if isinstance(error, (exceptions.ConnectionError, exceptions.HTTPClientError)):
        return StoreUnavailable(f"the service that issues AWS keys did not answer ({kind})")
    if isinstance(error, RuntimeError) and "expired" in str(error):
        text = f"the AWS credential chain gave keys that have expired by {clock.now_text()}"
        hint = f"{_PROFILE_HINT}; if the time is wrong, {clock.HINT}"
        return CredentialsRejected(text, hint=hint)
    message = f"the AWS credential chain gave no key ({kind})"
    return CredentialsRejected(message, hint=_remedy(error, profile))


def _remedy(error: Exception, profile: str) -> str:
    """Return what renews the credentials; an Ego4D licence is rarely the cause."""
    from botocore import exceptions  # noqa: PLC0415

    named = profile or aws_config_files.profile_of_environment()
    option = f" --profile {named}" if named else ""
    if isinstance(error, (exceptions.SSOError, exceptions.TokenRetrievalError)):
        return f"the AWS login has expired: `aws sso login{option}`"
    if type(error).__name__.startswith("Login"):  # not every botocore has these
        return f"the AWS login has expired: `aws login{option}`"
    return _PROFILE_HINT
