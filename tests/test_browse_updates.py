"""Pages of `ego4dfs browse` that show more, by themselves, while a person works with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from kit.browse import FIRST
from kit.chromium import page_of, wait_for_video
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


class Held:
    """Holds the requests of a page for an address, until `finish`."""

    def __init__(self, page: Page, address: str) -> None:
        self._page = page
        self._address = address
        self._routes: list[Route] = []
        self._is_finished = False
        page.route(address, self._hold)

    def wait(self) -> None:
        """Return once the page has asked."""
        wait_until(lambda: self._page.wait_for_timeout(20) or self._routes)

    def finish(self) -> None:
        """Return once an answer comes."""
        self.wait()
        with self._page.expect_response(self._address):
            self._is_finished = True
            for route in self._routes:
                route.continue_()

    def _hold(self, route: Route) -> None:
        if self._is_finished:
            route.continue_()
        else:
            self._routes.append(route)


def wait_for_updates(page: Page) -> None:
    """Return once the page has done what it does with the answers that it has.

    It asks for the state of the server again 1.5 s after each answer. The first request may have
    been sent before.
    """
    for _ in range(2):
        with page.expect_request("**/api/status*"):
            pass


def without_narrations(page: Page, name: str = "") -> Held:
    """Open a page of which the numbers of narrations are held."""
    held = Held(page, "**/api/narrations*")
    page.goto(name)
    held.wait()
    return held


def add_a_track(answer: dict) -> None:
    """Let the answer of a search have one more track."""
    answer["tracks"]["a new track"] = [[FIRST, 0, 1, "uses a knife"]]


def add_others(answer: dict) -> None:
    """Let the description of a video have one more track."""
    answer["tracks"].extend(OTHERS)


def test_a_card_keeps_the_focus_when_narrations_are_known(page: Page):
    held = without_narrations(page)
    first = page.locator(".card").first
    first.focus()
    held.finish()
    expect(first).to_contain_text("3 narrations")
    expect(first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Cooking")


def test_a_click_that_has_begun_is_a_click_when_narrations_are_known(page: Page):
    """The numbers wait, because they could move the cards."""
    held = without_narrations(page)
    first = page.locator(".card").first
    first.hover()
    page.mouse.down()
    held.finish()
    wait_for_updates(page)
    expect(first).not_to_contain_text("3 narrations")
    page.mouse.up()
    expect(page.locator("h1")).to_have_text("Cooking")


def test_charts_do_not_move_while_a_pointer_is_pressed(page: Page):
    held = without_narrations(page, "dataset.html")
    page.locator("h1").hover()
    page.mouse.down()
    held.finish()
    wait_for_updates(page)
    expect(page.locator("#numbers")).not_to_contain_text("Narrations")
    page.mouse.up()
    expect(page.locator("#numbers")).to_contain_text("Narrations6")


def test_cards_of_later_pages_have_their_narrations(page: Page):
    """Numbers that arrive while a filter shows other cards are in the cards that come after."""
    held = without_narrations(page)
    page.locator("input[name=min]").fill("1000")
    expect(page.locator(".card")).to_have_count(0)
    held.finish()
    wait_for_updates(page)
    page.locator("input[name=min]").fill("")
    expect(page.locator(".card").first).to_contain_text("3 narrations")


def test_a_result_keeps_the_focus_when_more_annotations_are_searched(page: Page):
    later = AnnotationsReadLater(page, "search", add_a_track)
    page.goto("search.html?q=knife")
    result = page.locator(".result a", has_text="picks up")
    result.focus()
    later.finish()
    expect(page.locator(".result h2", has_text="a new track")).to_be_visible()
    expect(result).to_be_focused()


def test_a_click_on_a_result_is_a_click_when_more_annotations_are_searched(page: Page):
    later = AnnotationsReadLater(page, "search", add_a_track)
    page.goto("search.html?q=knife")
    page.locator(".result a", has_text="picks up").hover()
    page.mouse.down()
    later.finish()
    wait_for_updates(page)
    expect(page.locator(".result h2", has_text="a new track")).to_have_count(0)
    page.mouse.up()
    expect(page.locator("h1")).to_have_text("Cooking")


@pytest.mark.parametrize(
    "event",
    [
        "new Event('pointercancel')",
        "new Event('contextmenu')",
        "new Event('blur')",
        "new PointerEvent('pointermove')",
    ],
)
def test_updates_come_when_the_pointer_is_released_elsewhere(page: Page, event):
    later = AnnotationsReadLater(page, "search", add_a_track)
    page.goto("search.html?q=knife")
    page.locator(".result h2").first.hover()
    page.mouse.down()
    later.finish()
    page.evaluate(f"dispatchEvent({event})")
    expect(page.locator(".result h2", has_text="a new track")).to_be_visible()


def test_results_that_are_the_same_stay(page: Page):
    """So texts that are selected stay selected."""
    later = AnnotationsReadLater(page, "search", lambda answer: None)
    page.goto("search.html?q=knife")
    text = page.locator(".result a bdi", has_text="picks up").first
    text.evaluate("one => getSelection().selectAllChildren(one)")
    later.finish()
    wait_for_updates(page)
    assert "picks up the knife" in page.evaluate("String(getSelection())")


def test_a_segment_keeps_the_focus_when_more_tracks_are_known(page: Page):
    later = AnnotationsReadLater(page, "video", add_others)
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


def test_a_chip_keeps_the_focus_when_its_number_changes(page: Page):
    def change(answer: dict) -> None:
        [track] = (one for one in answer["tracks"] if one["name"] == "narration pass 2")
        track["segments"].append([3, 3, "puts it down"])

    later = AnnotationsReadLater(page, "video", change)
    page.goto(f"video.html?uid={FIRST}")
    chip = page.locator("#chips button", has_text="narration pass 2")
    expect(chip.locator(".number")).to_have_text("1")
    chip.focus()
    later.finish()
    expect(chip.locator(".number")).to_have_text("2")
    expect(chip).to_be_focused()


@pytest.mark.parametrize(
    ("pressed", "effect"),
    [
        ("#chips button:has-text('narration pass 2')", "#segments li >> nth=1"),
        ("#segments button:has-text('cuts bread')", "#command:has-text(' 2.5 4.5 ')"),
        (".strip:has-text('nlq_train') rect", "#command:has-text(' 1.5 2.5 ')"),
    ],
    ids=["chip", "segment", "strip"],
)
def test_a_click_on_a_video_page_is_a_click_when_more_tracks_are_known(page: Page, pressed, effect):
    later = AnnotationsReadLater(page, "video", add_others)
    page.goto(f"video.html?uid={FIRST}")
    page.locator(pressed).hover()
    page.mouse.down()
    later.finish()
    wait_for_updates(page)
    expect(page.locator("#chips button", has_text="moments")).to_have_count(0)
    page.mouse.up()
    expect(page.locator(effect)).to_be_visible()
    expect(page.locator("#chips button", has_text="moments")).to_be_visible()


def test_a_click_on_the_time_line_is_a_click_when_the_length_is_known(page: Page):
    video = Held(page, "**/media?*")
    page.goto(f"video.html?uid={FIRST}", wait_until="commit")
    page.locator(".strip", has_text="nlq_train").locator("rect").hover()
    page.mouse.down()
    video.finish()
    wait_for_video(page, "readyState >= 1")
    wait_for_updates(page)
    page.mouse.up()
    wait_for_video(page, "currentTime == 1.5")


class Mounts:
    """Answers a page with one table of mounts; its `rows` may change."""

    def __init__(self, page: Page, rows: list[list[str]]) -> None:
        self.rows = rows
        self.is_right = False
        page.route("**/api/mounts*", self._answer)

    def _answer(self, route: Route) -> None:
        width = len(self.rows[0])
        header = [f"COLUMN {place}" for place in range(width)]
        table = {"header": header, "right": [self.is_right] * width, "rows": self.rows}
        route.fulfill(json={"tables": [table], "errors": []})


def test_tables_that_change_keep_their_scroll_and_what_is_selected(page: Page):
    wide = ["x" * 40 for _ in range(20)]
    mounts = Mounts(page, [["/mnt/first", *wide, "1 MiB"], ["/mnt/second", *wide, "0 B"]])
    page.goto("live.html")
    cells = page.locator("td bdi")
    cells.nth(0).evaluate("one => getSelection().selectAllChildren(one)")
    page.locator(".scroll").evaluate("one => one.scrollLeft = 50")
    mounts.rows = [["/mnt/first", *wide, "2 MiB"], ["/mnt/third", *wide, "0 B"]]
    expect(cells.nth(21)).to_have_text("2 MiB")
    expect(cells.nth(22)).to_have_text("/mnt/third")
    assert page.locator(".scroll").evaluate("one => one.scrollLeft") == 50
    assert page.evaluate("String(getSelection())") == "/mnt/first"


def test_tables_have_the_rows_and_the_alignment_of_the_last_answer(page: Page):
    mounts = Mounts(page, [["/mnt/first", "1 MiB"]])
    page.goto("live.html")
    cells = page.locator("td")
    for rows, is_right in (
        ([["/mnt/first", "1 MiB"], ["/mnt/second", ""]], True),
        ([["/mnt/second", "3 MiB"]], False),
        ([["/mnt/second"]], False),
    ):
        mounts.rows, mounts.is_right = rows, is_right
        expect(cells).to_have_text([cell for row in rows for cell in row])
        expect(page.locator(".right")).to_have_count(len(rows[0]) * (1 + len(rows)) * is_right)
        expect(page.locator("th")).to_have_count(len(rows[0]))
