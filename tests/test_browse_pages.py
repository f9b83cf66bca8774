"""The pages of `ego4dfs browse` in Debian's Chromium: what a person does with them."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import av
import pytest
from playwright.sync_api import Browser, Page, expect

from ego4dfs.api.video_files import VideoFiles
from ego4dfs.cli import parser_of
from kit.browse import (
    FIRST,
    HOSTILE,
    LONG,
    OTHER,
    SECOND,
    STORE,
    answer,
    browsing,
    narrated,
    publish,
)
from kit.chromium import page_of, wait_for_video
from kit.processes import wait_until
from kit.web import Client

pytestmark = [pytest.mark.first_pass, pytest.mark.program("chromium")]

SHOWN_HOSTILE = "<script>alert('1')</script><img src=x onerror=alert(2)>&\"\\u202e"
# Whether the picture that the video shows has more than one colour.
PAINTED = """
video => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 16;
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0, 16, 16);
    return new Set(context.getImageData(0, 0, 16, 16).data).size > 4;
}
"""


@pytest.fixture
def client(browse, published) -> Client:
    return browse(version=published.version)[0]


@pytest.fixture
def page(chromium: Browser, client: Client) -> Iterator[Page]:
    with page_of(chromium, client) as page:
        yield page


@pytest.fixture
def boxed_page(chromium: Browser, browse, boxed) -> Iterator[Page]:
    """A page of the release with boxes."""
    with page_of(chromium, browse(version=boxed.version)[0]) as page:
        yield page


def test_videos_are_filtered_and_the_filter_is_exported(page: Page):
    page.goto("")
    expect(page.locator("#total")).to_have_text("3 videos, 8 s, 1 of unknown length")
    expect(page.locator(".card")).to_have_count(3)
    expect(page.locator(".card").first).to_contain_text("Cooking")
    expect(page.locator(".card").first).to_contain_text("3 narrations")
    page.locator("input[value=cmu]").check()
    page.locator("input[value=em]").check()
    expect(page.locator(".card")).to_have_count(1)
    assert page.url.endswith("?benchmark=em&university=cmu")
    page.reload()
    expect(page.locator("#total")).to_have_text("1 video, 4 s")
    page.locator("#export summary").click()
    assert page.locator("#command").inner_text() == (
        f"ego4dfs mount ~/ego4d_data {STORE} --benchmarks em --universities cmu"
    )
    with page.expect_download() as saved:
        page.locator("#save-uids").click()
    assert Path(saved.value.path()).read_text() == f"{FIRST}\n"
    with page.expect_download() as saved:
        page.locator("#save-windows").click()
    assert Path(saved.value.path()).read_text() == f"video_uid,start_s,end_s\n{FIRST},0,4\n"
    page.get_by_label("uid contains").fill("0000b-")
    expect(page.locator(".card")).to_have_count(0)
    page.get_by_role("button", name="Clear the filter").click()
    expect(page.locator(".card")).to_have_count(3)
    page.get_by_label("at least, in minutes").fill("0.01")
    expect(page.locator(".card")).to_have_count(2)
    expect(page.locator("#command")).to_contain_text("--video_uid_file uids.txt")
    page.goto("?benchmark=--source%3Dx")  # a name in a manifest becomes no option
    expect(page.locator(".card")).to_have_count(1)
    assert page.locator("#command").text_content() == (
        f"ego4dfs mount ~/ego4d_data {STORE} --video_uid_file uids.txt"
    )


@pytest.mark.parametrize("query", ["benchmark=em", "university=cmu", "split=em:val&benchmark=fho"])
def test_the_command_of_a_filter_selects_the_same_videos(page: Page, open_tree, published, query):
    page.goto(f"?{query}")
    expect(page.locator("#total")).to_contain_text("video")
    shown = {one.inner_text() for one in page.locator(".card .uid").all()}
    page.locator("#export summary").click()
    words = shlex.split(page.locator("#command").inner_text())
    given = parser_of("mount").parse(words[2:])
    options = {key: value for key, value in vars(given).items() if key != "mountpoint"}
    options = {**options, "version": published.version, "datasets": ["full_scale"]}
    keys = ("version", "datasets", "benchmarks", "universities", "splits")
    vfs = open_tree(**{key: options[key] for key in keys if key in options})
    selected = VideoFiles(vfs.session.catalog, ["full_scale"]).each(has_clips=False)
    assert shown == {uid for uid, _, _ in selected}
    assert shown


def test_a_narration_is_searched_and_its_window_is_cut(page: Page):
    page.goto("search.html")
    page.get_by_label("Words of narrations").fill("cuts bre")
    result = page.locator(".result li")
    expect(result).to_have_count(1)
    expect(result.locator("mark").first).to_have_text("cuts")
    page.locator("#sources summary").click()
    expect(page.locator("#sources summary")).to_have_text("2 of 3 annotations searched")
    expect(page.locator("#sources li").last).to_have_text("taxonomy: failed, it has no windows")
    result.locator("a").click()
    expect(page).to_have_url(re.compile(rf"\?uid={FIRST}#t=2\.5$"))
    wait_for_video(page, "currentTime == 2.5 && one.readyState >= 2 && !one.seeking")
    video = page.locator("video")
    assert video.evaluate(PAINTED)
    lit = page.locator("#segments [aria-current]")
    expect(lit).to_have_count(2)
    expect(lit.last).to_contain_text("#C C cuts bread")
    page.keyboard.press(".")
    wait_for_video(page, "currentTime > 2.52")
    assert video.evaluate("one => one.currentTime") == pytest.approx(76.5 / 30, abs=1e-3)
    page.get_by_role("button", name="picks up the knife").click()
    wait_for_video(page, "currentTime == 0.5")
    expect(page.locator("#command")).to_have_text(f"ego4dfs clip {FIRST} 0.5 2.5 {STORE}")
    page.locator("#end").fill("1.5")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download MP4").click()
    assert saved.value.suggested_filename == f"{FIRST}_0.5-1.5.mp4"
    with av.open(io.BytesIO(Path(saved.value.path()).read_bytes())) as clip:
        assert sum(1 for _ in clip.decode(video=0)) == 30


def test_a_search_is_within_the_filter_and_says_so(page: Page):
    page.goto("?university=CMU&benchmark=em")
    expect(page.locator(".card")).to_have_count(1)
    page.get_by_role("link", name="Search").click()
    expect(page.locator("#filter-text")).to_contain_text("Only in the 1 video of the filter.")
    page.get_by_label("Words of narrations").fill("knife")
    expect(page.locator(".result li")).to_have_count(3)
    assert page.url.endswith("search.html?university=cmu&benchmark=em&q=knife")
    page.reload()
    expect(page.locator(".result li")).to_have_count(3)
    expect(page.locator(".result a").first).to_have_attribute("href", re.compile("benchmark=em"))
    page.get_by_role("link", name="All videos").click()
    expect(page.locator(".result li")).to_have_count(4)
    assert page.url.endswith("search.html?q=knife")
    expect(page.locator("#filter-text")).to_be_empty()


def test_a_page_of_an_earlier_start_is_loaded_again(chromium: Browser, published, licensee):
    """With a fixed token its address is right, but its filter is of other videos."""
    version, others = published.version, [FIRST, OTHER]
    with ExitStack() as first:
        client, _ = first.enter_context(browsing(version=version))
        wait_until(lambda: answer(client, "status")["is_done"])
        with page_of(chromium, client, expected="Failed to load resource") as page:
            page.goto("search.html?benchmark=fho&q=washes")
            expect(page.locator("#filter-text")).to_contain_text("Only in the 1 video ")
            first.close()
            with browsing(client.port, version=version, video_uids=others) as (again, _):
                wait_until(lambda: answer(again, "status")["is_done"])
                page.get_by_label("Words of narrations").fill("washes a")
                expect(page.locator("#message")).to_contain_text("this page was loaded again")
                expect(page.locator("#filter-text")).to_contain_text("Only in the 0 videos")
                expect(page.locator("#total")).to_have_text("0 results in 0 tracks")
                page.get_by_role("link", name="All videos").click()
                expect(page.locator(".result li")).to_have_count(1)
                expect(page.locator("#message")).to_be_hidden()


def test_tracks_can_be_pointed_at_clicked_and_listed(page: Page):
    page.goto(f"video.html?uid={FIRST}")
    query = page.locator(".strip", has_text="nlq_train").locator("rect")
    query.hover()
    expect(page.locator("#hint")).to_contain_text("Where was the knife?")
    query.click()
    wait_for_video(page, "currentTime == 1.5")
    expect(page.locator("#command")).to_contain_text("1.5 2.5")
    page.locator("#zoom").select_option("4")
    timeline = page.locator("#timeline")
    seen = timeline.evaluate("one => one.clientWidth")
    assert timeline.evaluate("one => one.scrollWidth") == pytest.approx(4 * seen, abs=4)
    chip = page.get_by_role("button", name="nlq_train")
    expect(chip).to_have_attribute("aria-pressed", "false")
    chip.press("Enter")
    expect(page.locator("#segments li")).to_have_count(4)
    page.keyboard.press("ArrowLeft")
    wait_for_video(page, "currentTime == 0")
    page.locator("#files summary").click()
    expect(page.locator("#file-list a")).to_have_text(re.compile(r"/mnt/ego4d/v.*/full_scale/"))


PLACES = """
video => {
    const outer = video.getBoundingClientRect();
    const scale = Math.min(outer.width / video.videoWidth, outer.height / video.videoHeight);
    const [width, height] = [video.videoWidth * scale, video.videoHeight * scale];
    const left = outer.left + (outer.width - width) / 2;
    const top = outer.top + (outer.height - height) / 2;
    const shapes = [...document.querySelectorAll("#boxes rect, #boxes circle")];
    return shapes.map((shape) => {
        const box = shape.getBoundingClientRect();
        const across = [box.left - left, box.width].map((one) => one / width);
        const down = [box.top - top, box.height].map((one) => one / height);
        return [across[0], down[0], across[1], down[1]];
    });
}
"""


# What a click on a box would hit. A box is drawn anew with each picture, so both are one step.
BELOW_BOX = """
() => {
    const box = document.querySelector("#boxes rect").getBoundingClientRect();
    return document.elementFromPoint(box.x + 5, box.y + 5).id;
}
"""


def places(page: Page) -> list[list[float]]:
    """Return left, top, width and height of each drawn box, as shares of the picture."""
    return page.locator("video").evaluate(PLACES)


def middle(box: list[float]) -> tuple[float, float]:
    left, top, across, down = box
    return left + across / 2, top + down / 2


@pytest.mark.parametrize("width", [1280, 390])
def test_boxes_are_drawn_where_they_are_annotated_and_between_these_moments(
    boxed_page: Page, width
):
    page = boxed_page
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"video.html?uid={FIRST}#t=1")
    shapes = page.locator("#boxes rect, #boxes circle")
    wait_for_video(page, "currentTime == 1 && one.readyState >= 2")
    wait_until(lambda: places(page) == [pytest.approx([0.1, 0.1, 0.2, 0.2], abs=0.004)])
    expect(page.locator("#boxes text")).to_have_text(SHOWN_HOSTILE)
    expect(page.locator("#boxes-now")).to_have_text(SHOWN_HOSTILE)
    expect(page.locator("#boxes")).to_have_attribute("aria-hidden", "true")
    for at, box in [(1.5, [0.2, 0.2, 0.15, 0.3]), (2, [0.3, 0.3, 0.1, 0.4])]:
        page.evaluate(f"document.querySelector('video').currentTime = {at}")
        wait_until(lambda box=box: places(page) == [pytest.approx(box, abs=0.004)])
    page.evaluate("document.querySelector('video').currentTime = 2.8")  # a hand: a position
    expect(page.locator("#boxes circle")).to_have_count(1)
    wait_until(lambda: middle(places(page)[0]) == pytest.approx((0.4, 0.55), abs=0.004))
    page.evaluate("document.querySelector('video').currentTime = 3.5")
    expect(shapes).to_have_count(0)
    expect(page.locator("#boxes-now")).to_be_empty()


def test_a_face_is_drawn_while_it_is_seen_and_who_speaks_is_on_the_time_line(
    chromium: Browser, browse, spoken
):
    with page_of(chromium, browse(version=spoken.version)[0]) as page:
        page.goto(f"video.html?uid={FIRST}#t=1")
        wait_for_video(page, "currentTime == 1 && one.readyState >= 2")
        expect(page.locator("#boxes text")).to_have_text(f"person {SHOWN_HOSTILE}")
        wait_until(lambda: places(page) == [pytest.approx([0.56875, 0.1, 0.2, 0.2], abs=0.004)])
        voice = page.locator(".strip", has_text="av_train voices").locator("rect")
        voice.hover()
        expect(page.locator("#hint")).to_contain_text(f"person {SHOWN_HOSTILE} speaks")
        voice.click()
        wait_until(lambda: places(page) == [pytest.approx([0.803, 0.1, 0.2, 0.2], abs=0.004)])
        page.evaluate("document.querySelector('video').currentTime = 2.5")
        expect(page.locator("#boxes rect")).to_have_count(0)


def test_boxes_can_be_switched_off_by_key_and_are_in_nobodys_way(boxed_page: Page):
    page = boxed_page
    page.goto(f"video.html?uid={FIRST}#t=1")
    expect(page.locator("#boxes rect")).to_have_count(1)
    toggle = page.get_by_label("Boxes")
    page.keyboard.press("b")
    expect(toggle).not_to_be_checked()
    expect(page.locator("#boxes rect")).to_have_count(0)
    toggle.press("Space")
    expect(page.locator("#boxes rect")).to_have_count(1)
    assert page.evaluate(BELOW_BOX) == "video"
    names = page.locator(".strip-name").all_inner_texts()
    assert [name for name in names if name.startswith(("fho", "redacted"))] == [
        *("fho_hands_train", "fho_hands_train pre", "fho_hands_train pnr", "fho_hands_train post"),
        "redacted",
    ]
    page.goto(f"video.html?uid={SECOND}")
    expect(page.locator("#segments li")).to_have_count(2)
    expect(toggle).to_be_hidden()


def test_what_is_left_out_of_a_video_is_said(page: Page, monkeypatch):
    monkeypatch.setattr("ego4dfs.browse.text_index.MAX_SEGMENTS", 1)
    page.goto(f"video.html?uid={FIRST}")
    expect(page.locator("#more")).to_have_text("narration: 2 more segments that are not shown.")
    monkeypatch.undo()
    page.reload()
    expect(page.locator("#segments li")).to_have_count(3)
    expect(page.locator("#more")).to_be_hidden()


def test_a_list_of_very_many_narrations_says_how_to_see_the_others(chromium, browse, release):
    """The list has 3,000; the time line has all."""
    texts = [(number / 1000, f"n{number}") for number in range(3001)]
    passes = {"narration_pass_1": narrated(*texts), "narration_pass_2": narrated((1, "other"))}
    publish(release, {"narration.json": {FIRST: passes}})
    with page_of(chromium, browse(version=release.version)[0]) as page:
        page.goto(f"video.html?uid={FIRST}")
        rows, chips = page.locator("#segments li"), page.locator("#chips button")
        expect(rows).to_have_count(3001)
        expect(rows.last).to_have_text("2 more. Choose fewer tracks to see them.")
        chips.nth(1).click()
        expect(rows.last).to_have_text("1 more. Choose fewer tracks to see them.")
        chips.nth(1).click()
        chips.nth(0).click()
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("other")
        expect(page.locator(".strip", has_text="narration pass 1").locator("rect")).to_have_count(
            3001
        )


def test_texts_of_others_are_shown_as_texts(page: Page):
    page.goto("")
    expect(page.locator(".card .name").nth(1)).to_have_text(SHOWN_HOSTILE)
    expect(page.locator(".options")).to_contain_text([SHOWN_HOSTILE], use_inner_text=False)
    page.goto("dataset.html")
    expect(page.locator(".chart a[aria-label^='<script>']")).to_have_count(1)
    page.goto("live.html")
    expect(page.locator("td bdi")).to_have_text(HOSTILE)
    page.goto("search.html?q=script")
    expect(page.locator(".result bdi").nth(1)).to_have_text(SHOWN_HOSTILE)
    page.goto(f"video.html?uid={SECOND}#t=2")
    expect(page.locator("h1")).to_have_text(SHOWN_HOSTILE)
    segments = page.locator("#segments bdi")
    expect(segments.nth(0)).to_have_text(SHOWN_HOSTILE)
    expect(segments.nth(1)).to_have_text(LONG[:2000])
    assert page.locator("img[src=x], script:not([type=module])").count() == 0


def test_the_dataset_page_counts_what_the_filter_admits(page: Page):
    page.goto("dataset.html")
    expect(page.locator("#numbers")).to_contain_text("Narrations6")
    page.get_by_role("link", name="cmu: 2 videos").click()
    expect(page.locator(".card")).to_have_count(2)
    page.get_by_role("link", name="Dataset").click()
    expect(page.locator("#filter-text")).to_contain_text("Only the 2 videos of the filter.")


def test_videos_of_unknown_length_are_left_out_of_lengths_and_counted(page: Page):
    page.goto("dataset.html")
    expect(page.locator("#numbers")).to_contain_text("Length8 sOf unknown length1")
    caption = page.locator("figcaption", has_text="Duration")
    expect(caption).to_have_text("Duration videos, without 1 video of unknown length")
    bar = page.get_by_role("link", name="0 – 1 min: 2 videos")
    bar.click()
    expect(page.locator("#total")).to_have_text("2 videos, 8 s")
    for order in ("longest", "shortest"):
        page.goto(f"?sort={order}")
        expect(page.locator(".card .badge").last).to_have_text("?")


@pytest.mark.parametrize(
    "query", ["benchmark=EM", "university=Cmu&scenario=cooking", "split=EM:VAL"]
)
def test_the_case_of_a_filter_in_an_address_does_not_matter(page: Page, query):
    for name in ("", "dataset.html"):
        page.goto(f"{name}?{query}")
        expect(page.locator("#total, #filter-text")).to_contain_text("1 video")
    page.goto(f"?{query}")
    checked = page.locator("#groups input:checked")
    expect(checked).to_have_count(query.count("="))


def test_a_button_says_that_it_has_copied_for_a_moment(page: Page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("")
    expect(page.locator(".card")).to_have_count(3)  # the buttons work when these are there
    page.locator("#export summary").click()
    button = page.locator("#copy-command")
    button.evaluate(
        """(button) => {
            window.texts = [];
            const note = () => window.texts.push(button.textContent);
            new MutationObserver(note).observe(button, { childList: true });
        }"""
    )
    for clicks in (1, 2):
        button.click()
        wait_until(lambda: page.evaluate("texts").count("Copied") >= clicks)  # noqa: B023
    expect(button).to_have_text("Copy")
    assert page.evaluate("navigator.clipboard.readText()").startswith("ego4dfs mount")


def test_every_page_has_one_heading_of_the_first_level(page: Page):
    for name in ("index", "dataset", "search", "live", "video"):
        page.goto(f"{name}.html?uid={FIRST}")
        expect(page.locator("h1")).to_have_count(1)


def test_pages_fit_a_phone_and_need_no_mouse(page: Page):
    page.set_viewport_size({"width": 390, "height": 844})
    for name in ("index.html", f"video.html?uid={SECOND}", "dataset.html", "search.html?q=x"):
        page.goto(name)
        expect(page.locator("#status")).to_contain_text("fetched")
        assert page.evaluate("document.documentElement.scrollWidth") == 390, name
    page.goto("")
    expect(page.locator(".card")).to_have_count(3)
    page.locator("#sidebar summary").press("Enter")
    page.locator("input[value=nlq]").press("Space")
    expect(page.locator(".card")).to_have_count(1)
    expect(page.locator("input[value=nlq]")).to_be_focused()
    page.locator(".card").press("Enter")
    expect(page.locator("h1")).to_have_text("Cooking")
    page.get_by_role("link", name="Videos").press("Enter")
    expect(page.locator(".card")).to_have_count(1)  # the filter is kept
