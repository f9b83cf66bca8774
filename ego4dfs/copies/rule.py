"""What has to be done about one file of a directory of copies."""

from __future__ import annotations

import enum


class State(enum.Enum):
    """What has to be done about one file."""

    RIGHT = "there"
    ADOPT = "adopt"  # right, by the official tool's record or by its bytes: ours is to be made
    CHECK = "check"  # of the right size, and nothing says of which version
    FETCH = "fetch"
    MISSING = "missing"
    REFUSED = "refused"
