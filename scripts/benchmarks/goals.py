"""Goals of rows: so many times as fast as a peer, a bound, or a share of a peer's column."""

from __future__ import annotations

from benchmarks.row import Goal, Outcome


def times_as_good(peer: str, times: float = 1.0) -> Goal:
    """Return the goal that the first contender is so many times as good in the headline."""

    def ratio(outcome: Outcome) -> float | None:
        result = outcome.result(peer)
        return outcome.ratio(result) if result else None

    much = "as" if times == 1 else f"{times:g} × as"
    return Goal(f"at least {much} fast as {peer}", ratio, least=times)


def at_most(text: str, key: str, bound: float, contender: str = "") -> Goal:
    """Return the goal that a contender, the first if none is named, stays within a bound."""
    return Goal(text, lambda outcome: _median(outcome, key, contender), most=bound)


def at_least(text: str, key: str, bound: float, contender: str = "") -> Goal:
    """Return the goal that a contender, the first if none is named, reaches a bound."""
    return Goal(text, lambda outcome: _median(outcome, key, contender), least=bound)


def at_most_times(text: str, key: str, times: float, peer: str, contender: str = "") -> Goal:
    """Return the goal that a contender has at most so many times what a peer has in a column.

    It is the first if none is named.
    """
    return Goal(text, lambda outcome: _share(outcome, key, peer, contender), most=times)


def at_least_times(text: str, key: str, times: float, peer: str, contender: str = "") -> Goal:
    """Return the goal that a contender has at least so many times what a peer has in a column.

    It is the first if none is named.
    """
    return Goal(text, lambda outcome: _share(outcome, key, peer, contender), least=times)


def best_of(text: str, key: str, times: float, *peers: str, fewer: bool = False) -> Goal:
    """Return the goal that the first has so many times what the best of some peers has.

    The best has the most, and at least so many times that is wanted; or, with `fewer`, the least,
    and at most so many times that.
    """

    def share(outcome: Outcome) -> float | None:
        found = [_share(outcome, key, peer) for peer in peers]
        known = [value for value in found if value is not None]
        if not known:
            return None
        return max(known) if fewer else min(known)

    return Goal(text, share, most=times) if fewer else Goal(text, share, least=times)


MEMORY = at_most("at most 250 MiB", "peak_mib", 250)


def _median(outcome: Outcome, key: str, contender: str) -> float | None:
    result = outcome.result(contender) if contender else outcome.results[0]
    return result.median(key) if result else None


def _share(outcome: Outcome, key: str, peer: str, contender: str = "") -> float | None:
    ours, theirs = _median(outcome, key, contender), _median(outcome, key, peer)
    return ours / theirs if ours is not None and theirs else None
