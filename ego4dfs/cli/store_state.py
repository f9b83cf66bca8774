"""The state of a mount's store (online, offline, throttled, ...) as text, and its remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ego4dfs.metrics import KEY_REFUSED, NOT_ASKED, OFFLINE, ONLINE

_WORDS = {
    NOT_ASKED: "unknown: the store has not answered yet",
    OFFLINE: "offline: only what is cached can be read",
    KEY_REFUSED: "key refused: only what is cached can be read",
}
_REMEDIES = {
    OFFLINE: "check the network and --endpoint-url; `ego4dfs doctor` says what is wrong",
    KEY_REFUSED: "`ego4dfs doctor` says what is wrong: renew the key, name its profile with"
    " --aws_profile_name, or set the clock if it is wrong",
}


def describe_state(status: Mapping[str, Any]) -> str:
    """Return the state in a status document; online only if the store has answered."""
    store = status.get(
        "store", OFFLINE if status["offline"] else ONLINE
    )  # a mount by an older version
    if store == ONLINE and status.get("throttled"):
        return "throttled: the store asked to slow down"
    return _WORDS.get(store, str(store))


def state_remedy(status: Mapping[str, Any]) -> str:
    """Return what the user can do about the state, or an empty text."""
    return _REMEDIES.get(status.get("store", ""), "")
