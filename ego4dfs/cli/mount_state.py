"""What a mount can reach, in words, with the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ego4dfs.metrics import KEY_REFUSED, NOT_ASKED, OFFLINE, ONLINE

_WORDS = {
    NOT_ASKED: "not known: the store has not answered yet",
    OFFLINE: "offline: only what is cached can be read",
    KEY_REFUSED: "key refused: only what is cached can be read",
}
_REMEDIES = {
    OFFLINE: "check the network and --endpoint-url; `ego4dfs doctor` says what is wrong",
    KEY_REFUSED: "renew the key, or name its --aws_profile_name; `ego4dfs doctor` says what is"
    " wrong",
}


def describe_state(status: Mapping[str, Any]) -> str:
    """Return the state of a mount by its status; online only if something answered."""
    store = status.get("store", OFFLINE if status["offline"] else ONLINE)  # of an older mount
    if store == ONLINE and status.get("throttled"):
        return "throttled: the store asked to slow down"
    return _WORDS.get(store, str(store))


def state_remedy(status: Mapping[str, Any]) -> str:
    """Return what to do about the state, or an empty text."""
    return _REMEDIES.get(status.get("store", ""), "")
