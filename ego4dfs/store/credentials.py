"""Whose keys requests are signed with: the normal AWS chain, read late and read again."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from typing import Any, Protocol

from ego4dfs.errors import ConfigError, CredentialsRejected, StoreError, StoreUnavailable
from ego4dfs.store import aws_files
from ego4dfs.store.aws_files import Keys

REREAD_S = 5.0  # a chain whose files have not changed may still have changed: roles, SSO, processes
NO_KEY_HINT = (
    "enter the key of the Ego4D e-mail with `aws configure`, or name a profile that holds it"
)


class _Refreshing(Protocol):
    """botocore's credentials, as far as they are used: those of a role renew themselves here."""

    def get_frozen_credentials(self) -> Any: ...


class Credentials:
    """The keys of one profile, or of the normal AWS chain when none is named.

    Nothing is read before the first `keys()`. Safe from several threads: `_lock` is held while
    the chain is read, on purpose, so that sixty refused threads cause one reading.
    """

    def __init__(self, profile: str = "") -> None:
        self._profile = profile
        self._lock = threading.Lock()
        self._found: Keys | _Refreshing | None = None
        self._failure: StoreError | ConfigError | None = None
        self._seen: Keys | None = None
        self._signature: tuple[tuple[int, int, int], ...] | None = None
        self._read_at_s = 0.0
        self.generation = 0

    def keys(self) -> Keys:
        """Return the keys in force now.

        Raises CredentialsRejected when there are none, ConfigError for a profile that is not
        there, and StoreUnavailable when the service that hands them out does not answer.
        """
        found = self._found
        if isinstance(found, Keys):
            return found
        with self._lock:
            if self._signature is None:
                self._read()
            if self._failure is not None:
                self._reread_failure()
            return self._current()

    def refresh(self, generation: int, *, rejected: bool) -> bool:
        """Read everything again after a refusal; tell whether other keys are in force now.

        `generation` is the one the refused request began with. Unless the key itself was
        `rejected`, only a file that was written since is a reason to read.
        """
        with self._lock:
            if self.generation != generation:
                return True
            if not self._written() and not (rejected and self._stale()):
                return False
            before = self._seen
            self._read()
            try:
                changed = self._current() != before
            except (StoreError, ConfigError):
                return False
            self.generation += changed
            return changed

    def _written(self) -> bool:
        return aws_files.signature() != self._signature

    def _stale(self) -> bool:
        return time.monotonic() - self._read_at_s >= REREAD_S

    def _reread_failure(self) -> None:
        if self._written() or self._stale():
            self._read()
        if self._failure is not None:
            raise copy.copy(self._failure)  # one that is stored would grow with each raise

    def _current(self) -> Keys:
        if self._failure is not None:
            raise copy.copy(self._failure)
        if self._found is None:
            raise self._none()
        if isinstance(self._found, Keys):
            self._seen = self._found
        else:
            self._seen = frozen(self._found, self._profile)
        return self._seen

    def _read(self) -> None:
        """Read the chain into `_found` or `_failure`; the signature is older than the reading."""
        self._signature = aws_files.signature()
        self._found, self._failure = None, None
        try:
            self._found = aws_files.plain_keys(self._profile) or chain(self._profile)
            if self._found is None:
                self._failure = self._none()
        except (StoreError, ConfigError) as error:
            self._failure = error
        self._read_at_s = time.monotonic()

    def _none(self) -> CredentialsRejected:
        where = f"profile {self._profile!r}" if self._profile else "the AWS credential chain"
        return CredentialsRejected(f"no access key in {where}", hint=NO_KEY_HINT)


def check_profile(profile: str) -> None:
    """Raise ConfigError if `profile` is named in no file; no request is made.

    Whether it holds keys that work is another matter, and need not be known yet.
    """
    if profile in {"", "default"} or aws_files.has_profile(profile):
        return
    with contextlib.suppress(StoreError):
        chain(profile)


def chain(profile: str) -> _Refreshing | None:
    """Ask botocore for the credentials of `profile`, or of its whole chain when that is empty."""
    from botocore.exceptions import BotoCoreError, ClientError, ProfileNotFound  # noqa: PLC0415
    from botocore.session import Session  # noqa: PLC0415

    session = Session(profile=profile or None)
    try:
        found: _Refreshing | None = session.get_credentials()
    except ProfileNotFound as error:
        if profile != "default":
            raise _no_profile(error.kwargs["profile"], session.available_profiles) from None
        found = None
    except (BotoCoreError, ClientError) as error:
        raise _unusable(error, profile) from None
    # `default` is what the official tool passes unasked: it must not shut out the environment.
    return chain("") if found is None and profile == "default" else found


def frozen(credentials: _Refreshing, profile: str = "") -> Keys:
    """Return the keys of botocore's `credentials` as of now, letting them renew themselves."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        now = credentials.get_frozen_credentials()
    except (BotoCoreError, ClientError) as error:
        raise _unusable(error, profile) from None
    return Keys(now.access_key, now.secret_key, now.token or "")


def _no_profile(profile: str, existing: list[str]) -> ConfigError:
    known = ", ".join(existing) or "none"
    return ConfigError(
        f"AWS profile {profile!r} does not exist (there are: {known})",
        hint="name one of these, or none for the normal AWS chain",
    )


def _unusable(error: Exception, profile: str) -> StoreError:
    from botocore import exceptions  # noqa: PLC0415

    # Only the kind is told: a credential process's complaint may quote what it was given.
    kind = type(error).__name__
    if isinstance(error, (exceptions.ConnectionError, exceptions.HTTPClientError)):
        return StoreUnavailable(f"the service that hands out AWS keys did not answer ({kind})")
    told = f"the AWS credential chain gave no key ({kind})"
    return CredentialsRejected(told, hint=_remedy(error, profile))


def _remedy(error: Exception, profile: str) -> str:
    """Say what renews what the chain was made of; an Ego4D licence is seldom the cause."""
    from botocore import exceptions  # noqa: PLC0415

    named = profile or aws_files.profile_of_environment()
    option = f" --profile {named}" if named else ""
    if isinstance(error, (exceptions.SSOError, exceptions.TokenRetrievalError)):
        return f"the AWS login has expired: `aws sso login{option}`"
    if type(error).__name__.startswith("Login"):  # not every botocore has these
        return f"the AWS login has expired: `aws login{option}`"
    return "check what the profile names: a role, a credential_process or a login"
