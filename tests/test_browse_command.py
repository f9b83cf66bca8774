"""`ego4dfs browse` as a program: its address, the browser that it opens, its end."""

from __future__ import annotations

import os
import re
import signal
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from ego4dfs.cli import browse as browse_command
from ego4dfs.cli import browse_live, browse_redirect, parser_of
from ego4dfs.cli.browse_redirect import redirect_file
from kit.browse import FIRST
from kit.cli import complaint, run_cli, unwarned
from kit.processes import wait_until
from kit.web import Client, server_process

pytestmark = pytest.mark.first_pass


@pytest.fixture
def words(licensee, published) -> list[str]:
    return ["--version", published.version, "--datasets", "full_scale", "annotations"]


def test_it_serves_the_pages_and_the_tree_until_a_signal(words, published):
    with server_process("browse", *words, "--no-open") as (process, url):
        client = Client.of(url)
        assert b"<title>Videos" in client.get("").body
        assert FIRST.encode() in client.get("api/catalogue").body
        listing = client.raw(client.base.removesuffix("browse/"))
        assert published.version.encode() in listing.body
        assert client.raw("/browse/").status == 403
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert unwarned(process.stderr.read()) == ""


def test_the_commands_of_the_pages_select_the_same_store_and_datasets(words, published, licensee):
    """The store is named even if a variable of this process has named it."""
    store = ["--endpoint-url", licensee["AWS_ENDPOINT_URL"]]
    env = {**licensee, "EGO4DFS_AWS_PROFILE_NAME": "default"}
    with server_process("browse", *words, *store, "--no-open", env=env) as (_, url):
        text = Client.of(url).get("api/catalogue").body.decode()
    assert f'"version_option":"--version {published.version}"' in text
    assert f'"store_options":"--aws_profile_name default {" ".join(store)}"' in text
    assert '"datasets_option":"--datasets full_scale annotations"' in text


@pytest.fixture
def browser(licensee, tmp_path) -> dict[str, str]:
    """The environment with a browser that writes its arguments into the file `told`."""
    program = tmp_path / "browser"
    program.write_text(
        f'#!/bin/sh\necho "$@" >{tmp_path}/told.part\nmv {tmp_path}/told.part {tmp_path}/told\n'
    )
    program.chmod(0o755)
    return {**licensee, "BROWSER": str(program)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_browser_is_opened_without_the_token_in_its_arguments(words, browser, tmp_path, number):
    """It gets a private file that leads to the address, and that ends with the server."""
    with server_process("browse", *words, env=browser) as (process, url):
        told = tmp_path / "told"
        wait_until(told.exists)
        file = Path(unquote(urlsplit(told.read_text().strip()).path))
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert re.findall('url=([^"]+)"', file.read_text()) == [url]
        process.send_signal(number)
        assert process.wait(60) == 0
    assert not file.exists()


def test_the_file_of_a_killed_process_is_removed_by_the_next_one(words, browser, tmp_path):
    def files():
        return set((tmp_path / "cache").rglob("ego4dfs-browse-*.html"))

    with server_process("browse", *words, env=browser) as (_, _url):
        wait_until((tmp_path / "told").exists)
    [left] = files()  # it was killed
    with redirect_file("http://used", left.parent) as used:
        assert files() == {used}
        with redirect_file("http://other", left.parent) as other:
            assert files() == {used, other}
    assert files() == set()
    os.mkfifo(left)
    with redirect_file("http://used", left.parent) as used:
        assert files() == {used}


def test_where_browsers_are_snaps_the_file_is_where_they_can_read(monkeypatch, tmp_path):
    """They see no hidden directory of the home directory."""
    home, cache, snaps = tmp_path / "home", tmp_path / "home" / ".cache", tmp_path / "snap"
    for directory in (home, cache, snaps):
        directory.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(browse_redirect, "_SNAPS", (snaps,))
    with redirect_file("http://x", cache) as page:
        assert (page.parent, stat.S_IMODE(page.stat().st_mode)) == (home, 0o600)
    monkeypatch.setenv("HOME", str(tmp_path / "absent"))
    with redirect_file("http://x", cache) as page:
        assert page.parent == cache
    snaps.rmdir()
    monkeypatch.setenv("HOME", str(home))
    with redirect_file("http://x", cache) as page:
        assert page.parent == cache


def test_no_browser_is_opened_without_a_display_or_with_no_open(words, licensee, tmp_path):
    plain = {
        k: v for k, v in licensee.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    }
    told = tmp_path / "told"
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\ntouch {told}\n")
    browser.chmod(0o755)
    for env, more in [(plain, []), ({**plain, "BROWSER": str(browser)}, ["--no-open"])]:
        with server_process("browse", *words, *more, env=env) as (_, url):
            assert Client.of(url).get("").status == 200
    assert not told.exists()
    assert list((tmp_path / "cache").rglob("*.html")) == []


def test_a_mount_that_is_none_is_an_error(words, tmp_path):
    done = run_cli("browse", *words, "--mount", str(tmp_path), check=False)
    assert (done.returncode, "no ego4dfs is mounted there" in complaint(done)) == (5, True)


def test_paths_begin_with_the_mount(monkeypatch, tmp_path):
    monkeypatch.setattr(browse_command, "check_mounted", lambda _: None)
    given = parser_of("browse").parse(["--mount", f"{tmp_path}/"])
    assert browse_command._mountpoint(given) == str(tmp_path)


def test_the_extra_is_named_if_it_is_missing(words, tmp_path):
    (tmp_path / "starlette.py").write_text("raise ImportError(name='starlette')")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = run_cli("browse", *words, check=False, env=env)
    assert done.returncode == 2
    assert "browse needs starlette" in complaint(done)
    assert "pip install 'ego4dfs[browse]'" in complaint(done)


def test_mounts_are_read_once_a_second_for_all_pages(monkeypatch):
    """What they say is printable."""
    now_s, read = [100.0], []
    gone = {"dead": True, "silent": False, "last_error": "gone\u202e"}

    def read_mounts(named):
        read.append(named)
        return {Path("/mnt/\u202e"): gone}

    monkeypatch.setattr(browse_live, "read_mounts", read_mounts)
    monkeypatch.setattr(browse_live.time, "monotonic", lambda: now_s[0])
    live = browse_live.LiveTables()
    for moment_s in (100.0, 100.9, 101.0):
        now_s[0] = moment_s
        [table] = live()["tables"]
    assert len(read) == 2
    assert (table["header"][0], table["right"][:2]) == ("MOUNT", [False, True])
    assert (table["rows"][0][0], table["rows"][0][-1]) == ("/mnt/\\u202e", "dead")
    assert live()["errors"] == ["/mnt/\\u202e: gone\\u202e"]
