"""BrowserPages: the static files of the pages, and the JSON that their modules ask for."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import resources

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from werkzeug.http import parse_accept_header

from ego4dfs.browse.annotations import AnnotationIndexes
from ego4dfs.browse.catalogue import Catalogue
from ego4dfs.browse.derived import derived_directory
from ego4dfs.browse.media_answers import portion
from ego4dfs.browse.posters import Posters
from ego4dfs.browse.video_page import VideoPage, seconds
from ego4dfs.config import Config
from ego4dfs.errors import MediaError, NotFound
from ego4dfs.text import printable
from ego4dfs.vfs import VFS
from ego4dfs.web import files
from ego4dfs.web.threads import Threads

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
    " object-src 'none'"
)
"""What a browser may do on a page: load from this server, and run nothing that a text has."""

RESULTS = 100
"""Results of a search in each annotation, at most."""
_WORDS_CHARACTERS = 500
_QUERIES = 16
_PICTURES = 4
_MEDIA_READS = 64
_TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
_POSTER_HEADERS = {"Cache-Control": "private, max-age=86400"}

_STALE = "the server shows other videos now: load the page again\n"

Answer = Callable[[Mapping[str, str]], object]


class BrowserPages:
    """The pages of `ego4dfs browse`, and what they ask for. All of it is read in threads."""

    def __init__(
        self,
        vfs: VFS,
        config: Config,
        catalogue: Catalogue,
        indexes: AnnotationIndexes,
        mounts: Callable[[], object],
    ) -> None:
        """Show what these parts have; for `mounts` see `open_pages`."""
        self._catalogue = catalogue
        self._indexes = indexes
        self._vfs = vfs
        self._posters = Posters(vfs, config)
        self._videos = VideoPage(vfs, config, catalogue, indexes)
        self._static = _static_files()
        self._queries = Threads("ego4dfs-browse-query", _QUERIES)
        self._media_reads = Threads("ego4dfs-browse-media", _MEDIA_READS)
        self._pictures = Threads("ego4dfs-browse-picture", _PICTURES)
        self._answers: Mapping[str, Answer] = {
            "narrations": self._narrations,
            "video": lambda given: self._videos.described(given.get("uid", "")),
            "files": lambda given: self._videos.files(given.get("uid", "")),
            "search": self._search,
            "status": self._status,
            "mounts": lambda _: mounts(),
        }

    async def answer(self, path: str, request: Request) -> Response:
        """Answer a request for a page or for data. Raises NotFound, and the error of a manifest."""
        static = self._static.get(path or "index.html")
        if static is not None:
            headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
            return Response(static[0], headers=headers, media_type=static[1])
        if path == "media":
            return await self._media(request)
        if path == "api/catalogue":
            content = await self._queries.run(self._catalogue.encoded)
            return _json(content, request)
        if path == "api/poster":
            poster = partial(self._poster, request.query_params.get("uid", ""))
            try:
                picture = await self._pictures.run(poster)
            except (NotFound, MediaError):  # no error to a browser, which would log each of them
                return Response(status_code=204, headers=_POSTER_HEADERS)
            return Response(picture, headers=_POSTER_HEADERS, media_type="image/jpeg")
        answer = self._answers.get(path.removeprefix("api/")) if path.startswith("api/") else None
        if answer is None:
            raise NotFound(f"no such page: {printable(path)}")
        return await self._data(answer, request)

    async def _data(self, answer: Answer, request: Request) -> Response:
        """Return what `answer` returns, unless places and bits of the request mean other videos."""
        given = dict(request.query_params)
        if "catalogue" in given:
            current = await self._queries.run(self._catalogue.id)
            if given["catalogue"] != current:
                return PlainTextResponse(_STALE, status_code=409)
        return _json(await self._queries.run(lambda: _encoded(answer(given))), request)

    async def _media(self, request: Request) -> Response:
        """Return the first part of the range of a video that a player asks for."""
        uid, headers = request.query_params.get("uid", ""), files.joined(request.headers)

        def read() -> Response:
            path = self._videos.path(uid)
            if request.method == "HEAD":
                return files.head(path, headers, files.current_version(self._vfs, path))
            return files.get(self._vfs, path, headers, self._media_reads, portion)

        return await self._media_reads.run(read)

    def _poster(self, uid: str) -> bytes:
        return self._posters.poster(uid, self._videos.path(uid))

    def _narrations(self, _: Mapping[str, str]) -> object:
        """Return the number of narrations of each video, in the order of the catalogue."""
        counts = self._indexes.narration_counts()
        return [counts.get(uid, 0) for uid in self._catalogue.paths()] if counts else []

    def _search(self, given: Mapping[str, str]) -> object:
        """Return what has the words `q`; with `videos`, only in those of these places."""
        words = given.get("q", "")[:_WORDS_CHARACTERS]
        uids: Collection[str] = self._catalogue.paths().keys()
        if "videos" in given:
            uids = self._catalogue.at_places(given["videos"])
        found = self._indexes.search(words, uids, RESULTS)
        tracks = defaultdict[str, list[object]](list)
        for one in (one for rows in found for one in rows):
            row = (one.uid, seconds(one.start_s), seconds(one.end_s), printable(one.text))
            tracks[printable(one.track)].append(row)
        # Of such an annotation more is found than is sent, in other tracks of it, too.
        limited = {printable(one.track) for rows in found if len(rows) == RESULTS for one in rows}
        return {"limited": sorted(limited), "tracks": tracks}

    def _status(self, _: Mapping[str, str]) -> object:
        fetched = self._vfs.session.metrics.snapshot()["bytes_fetched"]
        return {**self._indexes.progress(), "bytes_fetched": fetched}


@contextmanager
def open_pages(
    vfs: VFS, config: Config, given: Mapping[str, str], mounts: Callable[[], object]
) -> Iterator[BrowserPages]:
    """Yield the pages of a selection, and read its annotations in the background meanwhile.

    `given` is what the printed commands need: `version_option`, `store_options` and
    `datasets_option`, which select the same version, store and datasets, and `mountpoint`, where
    paths begin. `mounts` returns what the live page shows, as JSON has it. Raises CacheError.
    """
    directory = derived_directory(vfs.session, config)
    indexes = AnnotationIndexes(vfs, config)
    catalogue = Catalogue(vfs, config, directory, given)
    pages = BrowserPages(vfs, config, catalogue, indexes, mounts)
    indexes.start()
    try:
        yield pages
    finally:
        indexes.close()


def _static_files() -> Mapping[str, tuple[bytes, str]]:
    """Return the content and the media type of each file of a page, by its name."""
    return {
        file.name: (file.read_bytes(), _TYPES[file.name.rpartition(".")[2]])
        for file in resources.files(__package__).joinpath("static").iterdir()
        if file.name.rpartition(".")[2] in _TYPES
    }


def _encoded(document: object) -> bytes:
    return gzip.compress(json.dumps(document, separators=(",", ":")).encode(), compresslevel=1)


def _json(compressed: bytes, request: Request) -> Response:
    headers = {"Vary": "Accept-Encoding"}
    if _accepts_gzip(", ".join(request.headers.getlist("Accept-Encoding"))):
        headers["Content-Encoding"] = "gzip"
        return Response(compressed, headers=headers, media_type="application/json")
    return Response(gzip.decompress(compressed), headers=headers, media_type="application/json")


def _accepts_gzip(header: str) -> bool:
    """Return whether Accept-Encoding admits gzip: by its name, else by `*`, and not with q=0."""
    qualities = {name.lower(): quality for name, quality in parse_accept_header(header)}
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0
