"""AWS keys that sign requests, from the credential chain: read at first use, and after refusals."""

from __future__ import annotations

import contextlib
import copy
import threading
import time

from ego4dfs.errors import ConfigError, CredentialsRejected, StoreError
from ego4dfs.store import aws_config_files
from ego4dfs.store.aws_config_files import Keys
from ego4dfs.store.aws_credential_chain import RenewingKeys, chain

REREAD_S = 5.0  # keys of roles, SSO and processes change without any file being written
NO_KEY_HINT = (
    "enter the key of the Ego4D e-mail with `aws configure`, or name a profile that holds it"
)


class Credentials:
    """The keys of one profile, or of the normal AWS chain when none is named.

    Nothing is read before the first `keys()`. Safe from several threads: `_lock` is held while
    the chain is read, on purpose: sixty refused threads cause one read. That is bounded in time,
    and a thread that has valid keys does not wait for it.
    """

    def __init__(self, profile: str = "") -> None:
        self._profile = profile
        self._lock = threading.Lock()
        self._found: Keys | RenewingKeys | None = None
        self._failure: StoreError | ConfigError | None = None
        self._seen: Keys | None = None
        self._signature: tuple[tuple[int, int, int], ...] | None = None
        self._read_at_s = 0.0
        self.generation = 0

    def keys(self) -> Keys:
        """Return the current keys.

        Raises CredentialsRejected when there are none, ConfigError for a profile that does not
        exist, and StoreUnavailable when the service that issues them does not answer.
        """
        found = self._found
        if isinstance(found, Keys):
            return found
        if found is not None:
            self._seen = keys = found.keys()
            return keys
        with self._lock:
            if self._signature is None:
                self._read()
            if self._failure is not None:
                self._reread_failure()
            return self._current()

    def refresh(self, generation: int, *, rejected: bool) -> bool:
        """Read the chain again after a refusal; return whether the keys have changed.

        `generation` is that of the keys of the refused request. Unless the key itself was
        `rejected`, the chain is read only if one of its files was written since.
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
        return aws_config_files.signature() != self._signature

    def _stale(self) -> bool:
        return time.monotonic() - self._read_at_s >= REREAD_S

    def _reread_failure(self) -> None:
        if self._written() or self._stale():
            self._read()
        if self._failure is not None:
            raise copy.copy(self._failure)  # each raise would add to the traceback of a stored one

    def _current(self) -> Keys:
        if self._failure is not None:
            raise copy.copy(self._failure)
        if self._found is None:
            raise self._no_key()
        if isinstance(self._found, Keys):
            self._seen = self._found
        else:
            self._seen = self._found.keys()
        return self._seen

    def _read(self) -> None:
        """Read the chain into `_found` or `_failure`, after the signature of its files."""
        self._signature = aws_config_files.signature()
        found, failure = self._load()
        self._found, self._failure = found, failure
        self._read_at_s = time.monotonic()

    def _load(self) -> tuple[Keys | RenewingKeys | None, StoreError | ConfigError | None]:
        try:
            plain = aws_config_files.plain_keys(self._profile)
            found = None if plain else chain(self._profile)
        except (StoreError, ConfigError) as error:
            return None, error
        if found is not None:
            return RenewingKeys(found, self._profile), None
        return (plain, None) if plain else (None, self._no_key())

    def _no_key(self) -> CredentialsRejected:
        where = f"profile {self._profile!r}" if self._profile else "the AWS credential chain"
        return CredentialsRejected(f"no access key in {where}", hint=NO_KEY_HINT)


def check_profile(profile: str) -> None:
    """Raise ConfigError if `profile` is in neither file; no request is made.

    Whether its keys are valid is not checked.
    """
    if profile in {"", "default"} or aws_config_files.has_profile(profile):
        return
    with contextlib.suppress(StoreError):
        chain(profile)
