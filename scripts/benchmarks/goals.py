"""The usual goals: so many times as fast as a peer, or below a bound."""

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

    def middle(outcome: Outcome) -> float | None:
        result = outcome.result(contender) if contender else outcome.results[0]
        return result.median(key) if result else None

    return Goal(text, middle, most=bound)
