"""How fast the timeline is at 10 thousand, 1 million and 10 million events.

One run makes a recording of each size (not timed) and measures

* index: what building the timeline's index costs beside everything else that opening does;
* tile: answering what a view shows, over views from the whole recording down to microseconds;
* search: all names for a text that many, few or none contain, and all columns for a query;
* and with Chromium, against a server of the product: from the address to the first picture, from
  the wheel to the pixels of the new view, and the server's memory for each further viewer.

Run ``python -m benchmarks.timeline [--check] [--keep DIR] [--no-browser]``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from analyzers.analysis import investigate
from analyzers.facts.facts import build_facts
from benchmarks.ingest_export import make_export
from benchmarks.served import ROOT, serve
from collectors import open_trace
from common.files import replacing
from library import analyses, cache
from timeline import store
from timeline.view import Timeline
from views.server.tiles import answer

SIZES = {"10 k": 0.00125, "1 M": 0.125, "10 M": 1.25}  # of ``make_export``: 8 M events are 1
LARGEST = "10 M"
QUERIES, SEARCHES, WHEELS, PAINTS, VIEWERS = 300, 9, 160, 5, 8
BINS = 1_200
SCREEN_LANES = 40
SEARCHED = ("gemm", "op_id = 123456", "e", "no such name")
ASKED = ("kernel > 1ms", "name:gemm stream:7", "cause:sync", "call > 10us -name:Launch")
WAIT_MS = 60_000
SMALLEST_VIEW_NS = 10_000
STATS = "window.__whyslow_timeline.stats"
SETTLED = f"() => {STATS}.pending === 0"
LATENCY = f"""(before) => {{
  const {{ lastInput, lastPixels, pending }} = {STATS};
  return lastInput > before && lastPixels > lastInput && !pending && lastPixels - lastInput;
}}"""

MAX_TILE_P95_MS = 100.0
MAX_PAINT_S = 2.5
MAX_WHEEL_P50_MS, MAX_WHEEL_P95_MS = 150.0, 350.0
MAX_SEARCH_MS = 150.0
MAX_VIEWER_MB = 5.0
MAX_INDEX_SHARE = 0.40


@dataclass(frozen=True, kw_only=True)
class TimelineFigures:
    """What was measured on one recording; times of the browser are empty without one.

    Attributes:
        events: Events of the recording.
        open_s: Opening it without the index.
        index_s: Building the index.
        tile_ms: Times of tile queries.
        search_ms: Median time of searching for each text.
        paint_s: Times from the address to the first picture.
        wheel_ms: Times from the wheel to the pixels of the new view.
        viewer_mb: Server memory for each further viewer, -1 when not measured.
    """

    events: int
    open_s: float
    index_s: float
    tile_ms: list[float]
    search_ms: list[float]
    paint_s: list[float]
    wheel_ms: list[float]
    viewer_mb: float

    @property
    def index_share(self) -> float:
        """Time of the index over that of everything else."""
        return self.index_s / self.open_s

    def row(self, size: str) -> str:
        """Return the figures as one line of a table: medians and 95th percentiles."""
        cells = [
            f"{size:>5}",
            f"{self.events:>11,}",
            f"{100 * self.index_share:>8.0f} %",
            _pair(self.tile_ms, "ms"),
            _pair(self.search_ms, "ms"),
            _pair(self.paint_s, "s"),
            _pair(self.wheel_ms, "ms"),
            f"{self.viewer_mb:>9.1f} MB" if self.viewer_mb >= 0 else f"{'-':>12}",
        ]
        return "  ".join(cells)

    def misses(self) -> list[str]:
        """Return a line for each reach that was missed."""
        checks = [
            ("tile query, 95th percentile, ms", percentile(self.tile_ms, 95), MAX_TILE_P95_MS),
            ("search, slowest text's median, ms", max(self.search_ms), MAX_SEARCH_MS),
            ("index over the rest of opening", self.index_share, MAX_INDEX_SHARE),
        ]
        if self.wheel_ms:
            checks += [
                ("first paint, median, s", statistics.median(self.paint_s), MAX_PAINT_S),
                ("wheel to pixels, median, ms", percentile(self.wheel_ms, 50), MAX_WHEEL_P50_MS),
                ("wheel to pixels, 95th, ms", percentile(self.wheel_ms, 95), MAX_WHEEL_P95_MS),
                ("server memory a viewer, MB", self.viewer_mb, MAX_VIEWER_MB),
            ]
        return [f"{n}: {have:,.2f}, reach {most:,.2f}" for n, have, most in checks if have > most]


HEAD = "  ".join(
    (
        f"{'size':>5}",
        f"{'events':>11}",
        f"{'index':>10}",
        f"{'tile p50 / p95':>19}",
        f"{'search p50 / max':>19}",
        f"{'paint p50 / p95':>19}",
        f"{'wheel p50 / p95':>19}",
        f"{'each viewer':>12}",
    )
)


def _pair(values: Sequence[float], unit: str) -> str:
    if not values:
        return f"{'-':>19}"
    return f"{percentile(values, 50):>6.1f} / {percentile(values, 95):>6.1f} {unit:>2}"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that ``share`` percent of the values do not exceed."""
    ordered = sorted(values)
    place = max(0, math.ceil(share / 100 * len(ordered)) - 1)
    return ordered[place]


def measure(path: Path, data: Path, *, browser: bool) -> TimelineFigures:
    """Measure everything on the export at ``path``; ``data`` gets the library."""
    shutil.rmtree(data, ignore_errors=True)
    opening = _child("open", str(path), data)
    print(f"opened in {opening['open_s']:.2f} s, index {opening['index_s']:.2f} s", flush=True)
    answered = _child("ask", opening["trace"], data)
    paint_s, wheel_ms, viewer_mb = _look(opening["trace"], data) if browser else ([], [], -1.0)
    return TimelineFigures(
        events=answered["events"],
        open_s=opening["open_s"],
        index_s=opening["index_s"],
        tile_ms=answered["tiles"],
        search_ms=answered["searches"],
        paint_s=paint_s,
        wheel_ms=wheel_ms,
        viewer_mb=viewer_mb,
    )


def _child(part: str, argument: str, data: Path) -> dict[str, Any]:
    """Run a part of this program in a fresh process over the library in ``data``."""
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.timeline", "--part", part, argument],
        cwd=ROOT,
        env=os.environ | {"WHYSLOW_DATA_DIR": str(data)},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    figures: dict[str, Any] = json.loads(output)
    return figures


def _open(path: str) -> dict[str, Any]:
    """Open an export as the worker does, but the index last and alone.

    Usually other work runs beside it, which would hide a part of its cost.
    """
    cache.cache_root().mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    trace = open_trace(Path(path), cache.cache_root())
    cache.remember(Path(path), trace)
    facts = build_facts(trace)
    analysis = investigate(trace, "", facts)
    stored = analyses.save(analysis, trace, "")
    index_begin = time.perf_counter()
    store.add_recording_index(facts)
    store.write_window_index(analysis, stored.folder)
    index_s = time.perf_counter() - index_begin
    return {"trace": trace.id, "open_s": index_begin - begin, "index_s": index_s}


def _ask(trace_id: str) -> dict[str, Any]:
    """Answer questions as the route does, in a process that has nothing else to do."""
    trace = cache.get(trace_id)
    stored = analyses.load(trace)
    if stored is None:
        raise SystemExit(f"{trace_id}: not analysed")
    index = store.recording_index(trace)
    window = store.window_index(stored, index.meta["origin_ns"])
    timeline = Timeline(index, window, {0: "GPU 0"})
    return {
        "events": len(index.start),
        "tiles": list(_tile_times(timeline)),
        "searches": [
            statistics.median(_milliseconds(partial(_search, timeline, t)) for _ in range(SEARCHES))
            for t in (*SEARCHED, *ASKED)
        ],
    }


def _tile_times(timeline: Timeline) -> Iterator[float]:
    shuffled = random.Random(1)
    lanes = f"0-{min(len(timeline.lanes), SCREEN_LANES) - 1}"
    for _ in range(QUERIES):
        share = shuffled.random()  # widths of all sizes are equally likely
        width = int(timeline.duration_ns**share * SMALLEST_VIEW_NS ** (1 - share))
        start = shuffled.randint(0, max(timeline.duration_ns - width, 1))
        query = {"what": "tile", "start": str(start), "end": str(start + width), "lanes": lanes}
        yield _milliseconds(partial(answer, timeline, query | {"bins": str(BINS)}))


def _search(timeline: Timeline, text: str) -> None:
    # Of a timeline of its own: one keeps what it has searched.
    Timeline(timeline.recording, timeline.window, timeline.devices).step(text, 0, -1, 1)


def _milliseconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - begin)


def _look(trace: str, data: Path) -> tuple[list[float], list[float], float]:
    """Look at the timeline in Chromium: paint times, wheel times, memory for each viewer."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    arguments = ["--no-sandbox", "--disable-gpu"]
    with serve(data) as server, sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=arguments)

        def viewer() -> tuple[Any, float]:
            context = launched.new_context(
                viewport={"width": 1440, "height": 900}, base_url=server.address
            )
            page = context.new_page()
            page.set_default_timeout(WAIT_MS)
            begin = time.perf_counter()
            page.goto(f"/timeline?trace={trace}", wait_until="commit")
            page.wait_for_function("!!window.__whyslow_timeline?.ready", polling=20)
            return page, time.perf_counter() - begin

        viewer()[0].context.close()  # the server's own first look: imports, maps
        paint_s = []
        for _ in range(PAINTS):
            page, painted_s = viewer()
            paint_s.append(painted_s)
            page.context.close()
        page, _ = viewer()
        wheel_ms = _wheel(page)
        one = _private_mb(server.pid)
        others = [viewer() for _ in range(VIEWERS)]
        viewer_mb = (_private_mb(server.pid) - one) / len(others)
        launched.close()
    return paint_s, wheel_ms, viewer_mb


def _wheel(page: Any) -> list[float]:
    """Turn the wheel at random places, in and out, and return how long the pixels took.

    Steps whose pixels were there already, because the neighbourhood is fetched too, do not count.
    """
    box = page.locator(".timeline canvas").last.bounding_box()
    shuffled, taken = random.Random(1), []
    for number in range(WHEELS):
        page.mouse.move(
            box["x"] + shuffled.uniform(250, box["width"] - 20),
            box["y"] + shuffled.uniform(0.3, 0.9) * box["height"],
        )
        page.wait_for_function(SETTLED, polling=20)
        loads, before = page.evaluate(f"[{STATS}.loads, {STATS}.lastInput]")
        direction = 1 if number % 16 >= 12 else -1  # twelve bursts in, four out
        for _ in range(shuffled.choice((1, 2, 4))):
            page.mouse.wheel(0, direction * 120)
        took = page.wait_for_function(LATENCY, arg=before, polling=20).json_value()
        if page.evaluate(f"{STATS}.loads") > loads:
            taken.append(float(took))
    return taken


def _private_mb(pid: int) -> float:
    return float(psutil.Process(pid).memory_full_info().uss / 1e6)


def growth(small: TimelineFigures, large: TimelineFigures) -> str:
    """Say how the cost of a query grows with the events."""
    events = large.events / max(small.events, 1)
    times = percentile(large.tile_ms, 50) / percentile(small.tile_ms, 50)
    return f"{events:,.0f} times the events: a tile query takes {times:.1f} times as long (medians)"


def main() -> int:
    """Measure and print; 1 when ``--check`` was given and a reach was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 when a reach is missed")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the exports in DIR")
    parser.add_argument("--no-browser", action="store_true", help="server figures only")
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--part", nargs=2, metavar=("PART", "ARGUMENT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        part, argument = options.part
        print(json.dumps({"open": _open, "ask": _ask}[part](argument)))
        return 0
    by_size: dict[str, TimelineFigures] = {}
    with tempfile.TemporaryDirectory(prefix="whyslow-benchmark-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for size in options.sizes:
            path = _export(folder, SIZES[size])
            by_size[size] = measure(path, Path(temporary) / "data", browser=not options.no_browser)
    print("\n".join([HEAD, *(figures.row(size) for size, figures in by_size.items())]))
    if len(by_size) > 1:
        first, *_, last = by_size.values()
        print(growth(first, last))
    misses = by_size[LARGEST].misses() if options.check else []
    for miss in misses:
        print(f"missed at {LARGEST}: {miss}")
    return int(bool(misses))


def _export(folder: Path, scale: float) -> Path:
    path = folder / f"timeline-{scale:g}.sqlite"
    if not path.exists():
        print(f"making {path} (not timed)", flush=True)
        with replacing(path) as draft:
            make_export(draft, scale=scale, unique_texts=True)
    return path


if __name__ == "__main__":
    sys.exit(main())
