"""HEAD requests for many objects: to fetch unknown facts, and to revalidate known ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from ego4dfs.errors import CredentialsRejected, StoreError, StoreUnavailable
from ego4dfs.facts import FactsIndex
from ego4dfs.prefetch.failure_limit import FailureLimit
from ego4dfs.prefetch.outage import Outage
from ego4dfs.prefetch.plan import SMALL_BYTES
from ego4dfs.store import ObjectFacts

log = logging.getLogger(__name__)

REFUSAL_VALID_S = 60.0
"""How long an object counts as refused without another request: enough for two runs in a row."""

_AT_ONCE = 2000
_SAMPLE = 16
_SAMPLED_FROM = 4 * _SAMPLE
"""Of fewer files all are asked for: that takes one round trip."""
_GIVE_UP_AFTER = 8


class Revalidator:
    """Fetches facts, many at a time, by one HEAD request each."""

    def __init__(
        self, facts: FactsIndex, on_facts: Callable[[int, int], None], outage: Outage
    ) -> None:
        """Fetch through the index; `on_facts` is called with the objects done so far, and all.

        If nothing answers any more, requests are retried as long as `outage` allows.
        """
        self._outage = outage
        self._facts = facts
        self._on_facts = on_facts

    def fetch_facts(self, urls: Sequence[str]) -> dict[str, ObjectFacts | StoreError]:
        """Return the facts of objects that are not in the index, or the error of each.

        Raises CredentialsRejected, and StoreUnavailable when nothing answers any more.
        """
        known: dict[str, ObjectFacts | StoreError] = {}
        failure_limit = FailureLimit(min(_GIVE_UP_AFTER, len(urls)))
        for first in range(0, len(urls), _AT_ONCE):
            some = urls[first : first + _AT_ONCE]
            self._facts.sweep(some, refusal_valid_s=REFUSAL_VALID_S)
            for url in some:
                answer = self._answer(url)
                if not isinstance(answer, StoreUnavailable):
                    failure_limit.succeeded()
                elif failure_limit.failed():
                    answer = self._wait_out(url, answer)
                    self._facts.sweep(some, refusal_valid_s=REFUSAL_VALID_S)
                    known |= {u: self._answer(u) for u in known if _is_unknown(known[u])}
                    failure_limit.succeeded()
                known[url] = answer
            self._on_facts(first + len(some), len(urls))
        return known

    def fetch_sample(
        self, urls: Sequence[str], absent: Sequence[str]
    ) -> dict[str, ObjectFacts | StoreError]:
        """Return the facts as `fetch_facts` does, but of many `absent` objects that are small.

        Of these only a sample is asked for: the first GET of each of the others brings its facts.
        They are small if the mean of the sample is.
        """
        unknown = self._facts.unknown(absent, refusal_valid_s=REFUSAL_VALID_S)
        if len(unknown) < _SAMPLED_FROM:
            return self.fetch_facts(urls)
        known = self.fetch_facts(unknown[:: len(unknown) // _SAMPLE][:_SAMPLE])
        sizes = [facts.size for facts in known.values() if isinstance(facts, ObjectFacts)]
        are_small = sizes and sum(sizes) <= SMALL_BYTES * len(sizes)
        asked = {*known, *(unknown if are_small else ())}
        return known | self.fetch_facts([url for url in urls if url not in asked])

    def revalidate(
        self, old: Mapping[str, ObjectFacts], *, raise_if_rejected: bool = False
    ) -> dict[str, ObjectFacts]:
        """Return the present facts of objects whose facts are known.

        Objects without an answer are left out: a complete copy stays complete while the store is
        unreachable. An error that all further requests would meet ends the revalidation;
        CredentialsRejected is raised with `raise_if_rejected`.
        """
        urls, fresh = list(old), {}
        for first in range(0, len(urls), _AT_ONCE):
            some = urls[first : first + _AT_ONCE]
            for url in some:
                self._facts.remove(url)
            self._facts.sweep(some, refusal_valid_s=REFUSAL_VALID_S)
            for url in some:
                answer = self._answer(url, raises=raise_if_rejected)
                if isinstance(answer, ObjectFacts) and answer != old[url]:
                    fresh[url] = answer
                    continue
                self._facts.record(url, old[url])  # the same instance, as there may be 100,000
                if isinstance(answer, ObjectFacts):
                    fresh[url] = old[url]
                    continue
                if isinstance(answer, (CredentialsRejected, StoreUnavailable)):
                    self._restore(some, old)
                    log.warning("cannot check now whether copies are the latest: %s", answer)
                    return fresh
            self._on_facts(first + len(some), len(urls))
        return fresh

    def _restore(self, urls: Sequence[str], old: Mapping[str, ObjectFacts]) -> None:
        for url in urls:
            if self._facts.peek(url) is None:
                self._facts.record(url, old[url])

    def _wait_out(self, url: str, failed: StoreUnavailable) -> ObjectFacts | StoreError:
        """Wait for the store and return its answer. Raises StoreUnavailable after too long."""
        if not self._outage.retry_for_s:
            raise failed
        return self._outage.attempt(lambda: self._answer(url, raises_unavailable=True))

    def _answer(
        self, url: str, *, raises: bool = True, raises_unavailable: bool = False
    ) -> ObjectFacts | StoreError:
        try:
            return self._facts.get(url, refusal_valid_s=REFUSAL_VALID_S)
        except CredentialsRejected as error:
            if raises:
                raise
            return error
        except StoreUnavailable as error:
            if raises_unavailable:
                raise
            return error
        except StoreError as error:
            return error


def _is_unknown(answer: ObjectFacts | StoreError) -> bool:
    return isinstance(answer, StoreUnavailable)
