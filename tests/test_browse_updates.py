"""Pages of `ego4dfs browse` that show more, by themselves, while a person works with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from kit.browse import FIRST
from kit.chromium import page_of
from kit.processes import wait_until

pytestmark = [pytest.mark.first_pass, pytest.mark.program("chromium")]

OTHERS = [{"name": "moments", "segments": [[0, 1, "uses a knife"]]}]


@pytest.fixture
def page(chromium: Browser, browse, published) -> Iterator[Page]:
    with page_of(chromium, browse(version=published.version)[0]) as page:
        yield page


class AnnotationsReadLater:
    """Lets the server seem to have read no annotations before `finish`, and `change` answers."""

    def __init__(self, page: Page, name: str, change: Callable[[dict], None]) -> None:
        self.is_finished = False
        self._page = page
        self._change = change
        self._answers = 0
        page.route("**/api/status*", self._status)
        page.route(f"**/api/{name}?*", self._answer)

    def finish(self) -> None:
        """Return once the page has asked again, and has the changed answer."""
        answers = self._answers
        self.is_finished = True
        wait_until(lambda: self._page.wait_for_timeout(20) or self._answers > answers)

    def _status(self, route: Route) -> None:
        status = route.fetch().json()
        if not self.is_finished:
            for one in status["annotations"]:
                one["state"] = "reading"
        route.fulfill(json=status)

    def _answer(self, route: Route) -> None:
        answer = route.fetch().json()
        if self.is_finished:
            self._change(answer)
        route.fulfill(json=answer)
        self._answers += 1


def without_narrations(page: Page) -> list[Route]:
    """Return the requests for the numbers of narrations, which wait until they are continued."""
    waiting: list[Route] = []

    def wait(route: Route) -> None:
        waiting.append(route)

    page.route("**/api/narrations*", wait)
    page.goto("")
    expect(page.locator(".card")).to_have_count(3)
    wait_until(lambda: page.wait_for_timeout(20) or waiting)
    return waiting


def test_a_card_keeps_the_focus_when_narrations_are_known(page: Page):
    waiting = without_narrations(page)
    first = page.locator(".card").first
    first.focus()
    waiting.pop().continue_()
    expect(first).to_contain_text("3 narrations")
    expect(first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Cooking")


def test_a_click_that_has_begun_is_a_click_when_narrations_are_known(page: Page):
    waiting = without_narrations(page)
    first = page.locator(".card").first
    first.hover()
    page.mouse.down()
    waiting.pop().continue_()
    expect(first).to_contain_text("3 narrations")
    page.mouse.up()
    expect(page.locator("h1")).to_have_text("Cooking")


def test_cards_of_later_pages_have_their_narrations(page: Page):
    """Numbers that arrive while a filter shows other cards are in the cards that come after."""
    waiting = without_narrations(page)
    page.locator("input[name=min]").fill("1000")
    expect(page.locator(".card")).to_have_count(0)
    waiting.pop().continue_()
    page.wait_for_timeout(100)
    page.locator("input[name=min]").fill("")
    expect(page.locator(".card").first).to_contain_text("3 narrations")


def test_a_result_keeps_the_focus_when_more_annotations_are_searched(page: Page):
    def change(answer: dict) -> None:
        answer["tracks"]["a new track"] = [[FIRST, 0, 1, "uses a knife"]]

    later = AnnotationsReadLater(page, "search", change)
    page.goto("search.html?q=knife")
    result = page.locator(".result a", has_text="picks up")
    result.focus()
    later.finish()
    expect(page.locator(".result h2", has_text="a new track")).to_be_visible()
    expect(result).to_be_focused()


def test_results_that_are_the_same_stay(page: Page):
    """So a click that has begun is one, and texts that are selected stay selected."""
    later = AnnotationsReadLater(page, "search", lambda answer: None)
    page.goto("search.html?q=knife")
    page.locator(".result a", has_text="picks up").hover()
    page.mouse.down()
    later.finish()
    page.wait_for_timeout(100)
    page.mouse.up()
    expect(page.locator("h1")).to_have_text("Cooking")


def test_a_segment_keeps_the_focus_when_more_tracks_are_known(page: Page):
    later = AnnotationsReadLater(page, "video", lambda answer: answer["tracks"].extend(OTHERS))
    page.goto(f"video.html?uid={FIRST}")
    for focused in (
        page.locator("#segments button", has_text="cuts bread"),
        page.locator("#chips button", has_text="narration pass 2"),
    ):
        later.is_finished = False
        page.reload()
        focused.focus()
        later.finish()
        expect(page.locator("#chips button", has_text="moments")).to_be_visible()
        expect(focused).to_be_focused()
