"""Whether anything runs out: memory and descriptors of the server over many pages and recordings.

    python -m benchmarks.soak [--minutes 10] [--check] [--json FILE]

Readers open pages, look at timelines and close their tabs; another one opens recordings that are
all different; a stranger leaves connections half open and uploads half done. The server's memory
and descriptors are sampled all the while. What the caches hold is not a leak: growth is counted
from the first fifth of the time to the last.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import psutil

from benchmarks.served import ROOT, serve
from benchmarks.tabs import open_tab
from jobs.api import open_recording
from library import cache

SAMPLE = ROOT / "traces" / "synthetic" / "synthetic_launch.sqlite"
PAGES = ("", "timeline", "kernels", "compare", "open")
READERS, OPENERS = 2, 2
MOST_TIMES = 3.0  # as long as asked for, on a machine that is too slow for what is due
OPENED_S = 120.0
SETTLE_S = 20.0  # half-open connections have to go, too
SAMPLE_EVERY_S = 1.0
STRANGER_EVERY_S = 2.0
MOST_GROWTH_MB, MOST_DESCRIPTORS = 64.0, 4
LOADS, RECORDINGS, FULL_MINUTES = 1_000, 200, 10.0  # what a whole run is meant to reach
FAILED = b"defect in whyslow"


@dataclass
class Soak:
    """What happened, and what the server used.

    Attributes:
        minutes: How long it was used.
        loads: Pages that were drawn.
        recordings: That were opened.
        half_open: Connections that a stranger left.
        failures: Pages that failed or did not come, uploads that were taken, recordings that did
            not open.
        rss_mb: Memory of the server (resident), once a second.
        descriptors: That it holds, once a second.
        idle_descriptors: Before anybody came, and when all had left.
        slowest_s: The longest that a page took.
    """

    minutes: float
    loads: int = 0
    recordings: int = 0
    half_open: int = 0
    failures: list[str] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    idle_descriptors: tuple[int, int] = (0, 0)
    slowest_s: float = 0.0

    @property
    def grown_mb(self) -> float:
        """The median memory of the last fifth less that of the first."""
        fifth = max(len(self.rss_mb) // 5, 1)
        return statistics.median(self.rss_mb[-fifth:]) - statistics.median(self.rss_mb[:fifth])

    @property
    def kept_descriptors(self) -> int:
        """Descriptors that are still held when everybody has left."""
        return self.idle_descriptors[1] - self.idle_descriptors[0]

    def troubles(self) -> list[str]:
        """Return what is not as it should be, in sentences."""
        troubles = list(self.failures[:10])
        if self.grown_mb > MOST_GROWTH_MB:
            troubles.append(f"memory grew by {self.grown_mb:.0f} MB")
        if self.kept_descriptors > MOST_DESCRIPTORS:
            troubles.append(f"{self.kept_descriptors} descriptors were not given back")
        return troubles


class _SoakRun:
    """One run: its threads, and what they count."""

    def __init__(self, address: str, pid: int, watched: Path, first: str, minutes: float) -> None:
        self.address, self.watched, self.trace_ids = address, watched, [first]
        self.server = psutil.Process(pid)
        self.soak = Soak(minutes=minutes)
        self.begun, self.seconds = time.monotonic(), minutes * 60
        self.lock, self.files = threading.Lock(), 0
        self.upload_token = ""  # of the page Open

    def is_over(self) -> bool:
        """Tell whether the time is up and what is due was done, or it takes too long."""
        passed = (time.monotonic() - self.begun) / self.seconds
        due = min(self.seconds / 60 / FULL_MINUTES, 1.0)
        is_done = self.soak.loads >= LOADS * due and self.soak.recordings >= RECORDINGS * due
        return passed >= (1.0 if is_done else MOST_TIMES)

    def repeat(self, action: Callable[[int], None]) -> None:
        """Do ``action`` until the time is up; what fails is noted."""
        number = 0
        while not self.is_over():
            number += 1
            try:
                action(number)
            except Exception as error:  # whatever it is, the others go on
                with self.lock:
                    self.soak.failures.append(f"{action.__name__}: {error!r}"[:200])

    def read_page(self, number: int) -> None:
        """Open one page in a tab of its own; on a timeline ask what its canvas asks."""
        page = PAGES[number % len(PAGES)]
        trace = self.trace_ids[-1 - number % min(len(self.trace_ids), 5)]
        query = {"base": trace, "new": trace} if page == "compare" else {"trace": trace}
        begun = time.monotonic()
        with open_tab(self.address) as tab:
            frames = tab.run(page, urlencode(query))
            took_s = time.monotonic() - begun
            if page == "timeline":
                self._ask_timeline(trace, frames)
        with self.lock:
            self.soak.loads += 1
            self.soak.slowest_s = max(self.soak.slowest_s, took_s)
            if FAILED in frames:
                self.soak.failures.append(f"page {page or 'overview'} of {trace} failed")

    def _ask_timeline(self, trace: str, frames: bytes) -> None:
        query = urlencode({"trace": trace, "device": "-1", "what": "layout"})
        request = urllib.request.Request(
            f"{self.address}/api/timeline?{query}",
            headers={"x-whyslow-token": _page_token(frames, "timeline")},
        )
        urllib.request.urlopen(request, timeout=60).close()

    def open_recording(self, _number: int) -> None:
        """Press the button of a file that has just appeared in the watched folder."""
        with self.lock:
            self.files += 1
            number = self.files
        path = self.watched / f"run_{number}.sqlite"
        shutil.copy(SAMPLE, path)
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute(f"PRAGMA user_version = {number}")  # so that its content is new
            database.commit()
        name = hashlib.sha256(str(path).encode()).hexdigest()[:12]
        with open_tab(self.address) as tab:
            widget = re.search(rb"\$\$ID-[0-9a-f]+-open " + name.encode(), tab.run("open"))
            if widget is None:
                raise RuntimeError("the file is not listed")
            tab.press(widget[0].decode(), "open")
            folder = _wait_for(path)
        with self.lock:
            self.soak.recordings += 1
            self.trace_ids.append(folder.name)
        path.unlink()

    def trouble_server(self, number: int) -> None:
        """Leave a connection half open or an upload half done, and ask by a foreign name."""
        parts = urlsplit(self.address)
        stranger = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10)
        beginnings = (b"", b"GET / HTTP/1.1\r\nHost:", self._half_upload(number))
        stranger.sendall(beginnings[number % len(beginnings)])
        stranger.detach()  # nobody closes it before we end
        request = urllib.request.Request(self.address, headers={"Host": "evil.example"})
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except urllib.error.HTTPError as error:
            if error.code != 403:
                raise
        else:
            raise RuntimeError("a foreign name was answered")
        with self.lock:
            self.soak.half_open += 1
        time.sleep(STRANGER_EVERY_S)

    def _half_upload(self, number: int) -> bytes:
        """Return a request that announces a megabyte and brings a few bytes of it."""
        head = (
            f"PUT /api/upload?key={number:016x}&name=half.sqlite&size=1000000&off=0 HTTP/1.1",
            f"Host: {urlsplit(self.address).netloc}",
            f"Origin: {self.address}",
            f"X-Whyslow-Token: {self.upload_token}",
            "Content-Length: 1000000",
        )
        return "\r\n".join(head).encode() + b"\r\n\r\nSQLite format 3\0"

    def sample(self, _number: int) -> None:
        """Note what the server uses."""
        with self.lock:
            self.soak.rss_mb.append(self.server.memory_info().rss / 1e6)
            self.soak.descriptors.append(self.server.num_fds())
        time.sleep(SAMPLE_EVERY_S)


def _page_token(frames: bytes, purpose: str) -> str:
    """Return the token that a page got for ``purpose``, as ``views.server.tokens`` makes it."""
    token = re.search(rb'"token": ?"(' + purpose.encode() + rb'[^"]+)"', frames)
    if token is None:
        raise RuntimeError(f"the page has no token for {purpose}")
    return token[1].decode()


def _wait_for(path: Path) -> Path:
    """Return the folder in the library of the recording at ``path`` as soon as it is there."""
    until = time.monotonic() + OPENED_S
    while time.monotonic() < until:
        if (folder := cache.find_folder(path)) is not None:
            return folder
        time.sleep(0.1)
    raise TimeoutError(f"{path.name} was not opened")


def soak(minutes: float) -> Soak:
    """Use a server of its own for some minutes and return what it used."""
    with _folders() as (data, watched):
        first = open_recording(SAMPLE).trace.id
        with serve(data, {"WHYSLOW_TRACE_ROOTS": str(watched)}) as server:
            with open_tab(server.address) as tab:
                tab.run("", f"trace={first}")  # what is imported once is no leak
                upload_token = _page_token(tab.run("open"), "upload")
            time.sleep(2)
            run = _SoakRun(server.address, server.pid, watched, first, minutes)
            run.upload_token = upload_token
            idle = run.server.num_fds()
            actions: list[Callable[[int], None]] = [run.read_page] * READERS
            actions += [run.open_recording] * OPENERS + [run.trouble_server, run.sample]
            threads = [threading.Thread(target=run.repeat, args=(a,)) for a in actions]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            run.soak.minutes = (time.monotonic() - run.begun) / 60
            time.sleep(SETTLE_S)
            run.soak.idle_descriptors = idle, run.server.num_fds()
        return run.soak


@contextlib.contextmanager
def _folders() -> Iterator[tuple[Path, Path]]:
    """Make a library and a watched folder, and let this process use that library, too."""
    with tempfile.TemporaryDirectory(prefix="whyslow-soak-") as place:
        data, watched = Path(place) / "data", Path(place) / "watched"
        watched.mkdir()
        before = os.environ.get(cache.DATA_DIR_VARIABLE)
        os.environ[cache.DATA_DIR_VARIABLE] = str(data)
        try:
            yield data, watched
        finally:
            os.environ.pop(cache.DATA_DIR_VARIABLE)
            if before is not None:
                os.environ[cache.DATA_DIR_VARIABLE] = before


def main() -> int:
    """Run it from the command line; with ``--check`` the status says whether anything ran out."""
    command = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    command.add_argument("--minutes", type=float, default=FULL_MINUTES)
    command.add_argument("--check", action="store_true", help="exit with 1 when anything ran out")
    command.add_argument("--json", type=Path, help="write all samples to this file")
    chosen = command.parse_args()
    result = soak(chosen.minutes)
    if chosen.json:
        chosen.json.write_text(json.dumps(asdict(result)))
    print(
        f"{result.minutes:.1f} minutes: {result.loads} page loads (slowest {result.slowest_s:.1f} "
        f"s), {result.recordings} recordings, {result.half_open} half-open connections\n"
        f"memory {result.rss_mb[0]:.0f} MB at first, {max(result.rss_mb):.0f} at most, "
        f"{result.rss_mb[-1]:.0f} at last; first to last fifth {result.grown_mb:+.0f} MB\n"
        f"descriptors {result.idle_descriptors[0]} idle before, {max(result.descriptors)} at most, "
        f"{result.idle_descriptors[1]} idle after"
    )
    troubles = result.troubles()
    for trouble in troubles:
        print(f"trouble: {trouble}")
    return int(chosen.check and bool(troubles))


if __name__ == "__main__":
    sys.exit(main())
