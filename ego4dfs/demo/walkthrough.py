"""The steps of `ego4dfs demo`: a sample of Ego4D on a local S3 server is mounted and read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import which

from ego4dfs.demo.decode_window import Window, decode_middle
from ego4dfs.demo.keeper import RunningDemo, write_credentials
from ego4dfs.demo.sample import Sample, build
from ego4dfs.demo.server import S3Server
from ego4dfs.errors import Ego4DError, starting_process
from ego4dfs.text import human_size, printable, shell_word

DATASETS = ("full_scale", "clips", "annotations", "imu", "slowfast8x8_r101_k400")
BROWSED = ("full_scale", "clips", "annotations", "viz")
CACHE_SIZE = "1GiB"
_SETTLE_S = 0.25
_CLIP_START, _CLIP_END = "0:10", "0:12"


def own_command() -> str:
    """Return the `ego4dfs` command, with its directory if that is not in PATH."""
    ours = Path(sys.executable).with_name("ego4dfs")
    found = which("ego4dfs")
    is_found = found is not None and Path(found).resolve() == ours.resolve()
    return "ego4dfs" if is_found else shell_word(str(ours))


class Walkthrough:
    """Runs the steps of the demo and prints each of them; `directory` holds all files."""

    def __init__(self, directory: Path) -> None:
        """Prepare the mountpoint, `ego4d` in `directory`."""
        self._directory = directory
        self._mountpoint = directory / "ego4d"
        self._mountpoint.mkdir(exist_ok=True)
        self._step = 0
        self._started = time.monotonic()

    def run(self) -> None:
        """Run all steps, and leave nothing mounted or running."""
        with self._started_server() as (server, environment):
            try:
                first = self._mount_and_read(environment)
                self._next("Unmount, stop the S3 server, and mount again: only the cache is left")
                self._unmount()
                server.stop()
                self._say("the S3 server is stopped")
                self._read_from_cache(environment, first)
                self._next("Start the S3 server again, and cut two other seconds out of the video")
                server.start()
                self._clip(environment)
            finally:
                if self._is_mounted():
                    self._unmount()
        seconds = time.monotonic() - self._started
        print(f"\nDone in {seconds:.0f} s; nothing is left behind. With your own keys:")
        self._say(f"$ mkdir -p ~/ego4d_data && {own_command()} mount ~/ego4d_data")
        print()

    def browse(self) -> None:
        """Serve the pages of the sample until Ctrl-C or SIGTERM, and leave nothing running.

        Raises Ego4DError if they end by themselves.
        """
        with self._started_server() as (_, environment):
            self._next("Look at it in a browser; Ctrl-C ends and removes everything")
            words = ["browse", "--datasets", *BROWSED]
            self._command(f"ego4dfs {' '.join(words)}")
            env = self._environment({**environment, "EGO4DFS_CACHE_SIZE": CACHE_SIZE})
            with starting_process():
                process = subprocess.Popen(self._line(words), env=env, stdin=subprocess.DEVNULL)
            try:
                process.wait()
            except KeyboardInterrupt:  # a terminal has sent it to both
                process.terminate()
            finally:
                process.wait()
            if process.returncode > 0:
                raise Ego4DError("the pages of the sample are not served; the reason is above")

    @contextmanager
    def _started_server(self) -> Iterator[tuple[S3Server, Mapping[str, str]]]:
        """Yield a server with the sample, and the variables that make ego4dfs use it."""
        self._next("Start a local S3 server and fill it with a sample in Ego4D's layout")
        with S3Server(self._directory / "s3") as server:
            sample = build(server, self._directory / "media")
            credentials = self._directory / "credentials"
            write_credentials(credentials, server.licensee)
            self._describe_sample(sample, server.endpoint_url)
            yield (
                server,
                {
                    "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
                    "AWS_ENDPOINT_URL": server.endpoint_url,
                },
            )

    def show(self, running: RunningDemo) -> None:
        """Mount a server that keeps running, read from it, and print how to use and stop it."""
        self._mount_and_read(running.environment())
        mountpoint = shell_word(str(self._mountpoint))
        self._next("Server and mount keep running. Try:")
        self._command(f"ls -l {mountpoint}/v2/full_scale")
        player = next(filter(which, ("ffplay", "mpv", "ffprobe")), None)
        if player is not None:
            self._command(f"{player} {mountpoint}/v2/full_scale/{self._video().name}")
        self._command(f"{own_command()} status {mountpoint}")
        self._next("The sample without the mount: ego4dfs ls and clip, and ego4d:// from Python")
        for name, value in running.environment().items():
            self._command(f"export {name}={shell_word(value)}")
        self._command(f"{own_command()} ls -l v2/annotations --datasets annotations")
        self._command(f"{own_command()} clip {self._video().stem} {_CLIP_START} {_CLIP_END}")
        self._next("Stop and remove it all")
        self._command(f"{own_command()} demo --stop")

    def _mount_and_read(self, environment: Mapping[str, str]) -> Window:
        self._next("Mount it, with keys that may read objects but not list buckets")
        self._mount(environment)
        self._tree()
        video = self._video()
        size = video.stat().st_size
        self._next("Decode two seconds from the middle of a video")
        first = self._decode(video)
        fetched = self._fetched()
        share = 100 * fetched / size
        self._say(
            f"fetched {human_size(fetched)} of the video's {human_size(size)} ({share:.0f} %)"
        )
        self._next("Decode the same two seconds again")
        self._decode(video)
        self._say(f"fetched {self._fetched() - fetched} bytes more")
        return first

    def _read_from_cache(self, environment: Mapping[str, str], first: Window) -> None:
        self._mount(environment)
        again = self._decode(self._video())
        if again != first:
            raise Ego4DError(
                "the frames from the cache differ from those that came over the network"
            )
        fetched = self._fetched()
        self._say(f"the same frames, {fetched} bytes fetched: they came from the cache")

    def _clip(self, environment: Mapping[str, str]) -> None:
        """Write a clip, and say what it cost: the program's own line."""
        file = self._directory / "clip.mp4"
        words = ["clip", self._video().stem, _CLIP_START, _CLIP_END, "-o"]
        self._command(f"ego4dfs {' '.join(words)} {file.name}")
        line = self._run([*words, str(file)], environment)
        self._say(line.strip().removeprefix(f"{self._directory}/"))

    def _describe_sample(self, sample: Sample, endpoint_url: str) -> None:
        buckets = {file.bucket for files in sample.files.values() for file in files}
        self._say(
            f"{sample.object_count} objects, {human_size(sample.total_bytes)},"
            f" {len(buckets)} buckets at {endpoint_url}"
        )

    def _tree(self) -> None:
        root = self._mountpoint
        self._command(f"ls {root.name}/v2 {root.name}/v2/full_scale")
        self._say("  ".join(sorted(os.listdir(root / "v2"))))  # noqa: PTH208 - names
        for entry in sorted((root / "v2" / "full_scale").iterdir())[:3]:
            self._say(f"{entry.name}  {human_size(entry.stat().st_size)}")
        self._say("…")

    def _video(self) -> Path:
        """Return the largest video, whose middle is far from both ends."""
        videos = (self._mountpoint / "v2" / "full_scale").glob("*.mp4")
        return max(videos, key=lambda path: path.stat().st_size)

    def _decode(self, video: Path) -> Window:
        started = time.monotonic()
        window = decode_middle(video)
        milliseconds = 1000 * (time.monotonic() - started)
        self._say(
            f"{window.frames} frames from {window.start_s:.1f} s to {window.stop_s:.1f} s"
            f" of {video.name}, in {milliseconds:.0f} ms"
        )
        return window

    def _mount(self, environment: Mapping[str, str]) -> None:
        self._command(f"ego4dfs mount {self._mountpoint.name} --datasets {' '.join(DATASETS)}")
        self._run(
            ["mount", str(self._mountpoint), "--datasets", *DATASETS],
            {**environment, "EGO4DFS_CACHE_SIZE": CACHE_SIZE},
        )

    def _unmount(self) -> None:
        self._command(f"ego4dfs unmount {self._mountpoint.name}")
        self._run(["unmount", str(self._mountpoint)], {})

    def _run(self, arguments: list[str], environment: Mapping[str, str]) -> str:
        """Run `ego4dfs` and return its output. Raises Ego4DError with its message if it fails."""
        with starting_process():
            done = subprocess.run(
                self._line(arguments),
                env=self._environment(environment),
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        if done.returncode:
            message, _, rest = done.stderr.strip().removeprefix("ego4dfs: ").partition("\n")
            raise Ego4DError(message, hint=rest.strip().removeprefix("hint: "))
        return done.stdout

    def _line(self, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "ego4dfs", *arguments]

    def _environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the demo's own keys and settings, not those of the user."""
        own = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "EGO4DFS_"))}
        return {**own, **environment, "EGO4DFS_CACHE_DIR": str(self._directory / "cache")}

    def _is_mounted(self) -> bool:
        return os.path.ismount(self._mountpoint)

    def _fetched(self) -> int:
        """Return the bytes fetched so far, after read-ahead has ended."""
        status = self._mountpoint / ".ego4dfs" / "status.json"
        before, fetched = -1, 0
        while fetched != before:
            before = fetched
            time.sleep(_SETTLE_S)
            fetched = int(json.loads(status.read_bytes())["bytes_fetched"])
        return fetched

    def _next(self, title: str) -> None:
        self._step += 1
        print(f"\n{self._step}. {title}", flush=True)

    def _command(self, command: str) -> None:
        self._say(f"$ {command}")

    def _say(self, text: str) -> None:
        print(f"   {printable(text)}", flush=True)
