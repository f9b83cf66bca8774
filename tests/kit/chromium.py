"""Debian's Chromium with the pages of `ego4dfs browse`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from kit.processes import wait_until
from kit.web import Client

WAIT_MS = 60_000
"""How long the browser may take for anything on a busy machine."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        yield browser
        browser.close()


@contextmanager
def page_of(chromium: Browser, client: Client, expected: str = "-") -> Iterator[Page]:
    """Yield a page whose errors, dialogs and requests to others fail the test.

    Errors that begin with `expected` do not.
    """
    base = f"http://127.0.0.1:{client.port}{client.base}"
    found: list[str] = []
    context = chromium.new_context(
        base_url=f"{base}browse/", viewport={"width": 1280, "height": 900}
    )
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.on(
        "console", lambda one: found.append(one.text) if one.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("dialog", lambda dialog: found.append(dialog.message))
    page.on(
        "request",
        lambda one: None if one.url.startswith((base, "blob:")) else found.append(one.url),
    )
    yield page
    page.unroute_all(behavior="ignoreErrors")  # a request may have come just now
    context.close()
    assert [text for text in found if not text.startswith(expected)] == []


def wait_for_video(page: Page, condition: str) -> None:
    """Wait until a property of the video is as said. The policy of the pages forbids `eval`."""
    wait_until(lambda: page.locator("video").evaluate(f"one => one.{condition}"))
