"""What the reader compares: two sides, a part of each iteration, a device.

The address names all of it (``?base=…&new=…&part=…&gpu=…``), so that a link reopens it; the session
keeps it while the reader walks from page to page. A run of the page waits for an answer and draws
it; why no timer does is told in ``views/shared/jobs.py``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analyzers.compare.side import Side
from analyzers.compare.types import Comparison, ComparisonVerdict
from analyzers.facts.facts import WindowError, holds_counters_only
from analyzers.whatif.whatif import WhatIf
from collectors.errors import TraceError
from collectors.trace import Trace
from jobs import api
from library import cache, comparisons
from views.shared.choices import window_choices
from views.shared.markdown import md_escape
from views.shared.server_paths import trouble
from views.shared.session import chosen, draw_error

SELECTION = "compare_asked"
KEPT = 16  # comparisons that stay in memory
LOOK_AGAIN_S = 0.1
PATIENCE_S = 0.6  # what is faster shows no progress
MAX_SIDE = 20  # recordings of one side

Key = TypeVar("Key")
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class ComparisonSelection:
    """What is compared with what.

    Attributes:
        base: Ids of the recordings before the change.
        new: Ids of those after it.
        window: Part of them, as ``whyslow compare --window`` takes it; empty for iterations.
        device: Number of the device among those that both sides have; -1 for the first one.
    """

    base: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    window: str = ""
    device: int = -1

    @property
    def is_complete(self) -> bool:
        """Whether there is something on both sides."""
        return bool(self.base and self.new)


def choices() -> list[Trace]:
    """Return the recordings that can be compared, the newest first."""
    return [t for t in cache.traces() if not holds_counters_only(t)]


def adopt(recordings: Sequence[Trace]) -> ComparisonSelection:
    """Take what the address names, else what was compared before, else the only pair there is.

    Of more than two the one that the reader looks at is the new one: its baseline is asked for.
    """
    address = st.query_params
    if address.get("base") or address.get("new"):
        return ComparisonSelection(
            base=_ids("base"),
            new=_ids("new"),
            window=address.get("part", ""),
            device=int(gpu) if (gpu := address.get("gpu", "")).isdecimal() and len(gpu) < 4 else -1,
        )
    remembered = st.session_state.get(SELECTION)
    if isinstance(remembered, ComparisonSelection):
        return remembered
    if len(recordings) == 2:  # opened one after the other: the older one is what was there before
        return ComparisonSelection(base=(recordings[1].id,), new=(recordings[0].id,))
    current = chosen().trace_id
    is_offered = any(recording.id == current for recording in recordings)
    return ComparisonSelection(new=(current,) if is_offered else ())


def write_address(selection: ComparisonSelection) -> None:
    """Write to the address what is compared."""
    st.session_state[SELECTION] = selection
    fields = {
        "base": ",".join(selection.base),
        "new": ",".join(selection.new),
        "part": selection.window,
        "gpu": str(selection.device) if selection.device >= 0 else "",
    }
    for key, value in fields.items():
        if value and st.query_params.get_all(key) != [value]:
            st.query_params[key] = value
        elif not value and key in st.query_params:
            del st.query_params[key]


def _ids(key: str) -> tuple[str, ...]:
    """Return the ids that the address names: repeated, or separated by commas."""
    named = [i.strip() for text in st.query_params.get_all(key) for i in text.split(",")]
    return tuple(dict.fromkeys(i for i in named if i))[:MAX_SIDE]


def windows_of(selection: ComparisonSelection) -> dict[str, str]:
    """Return the parts worth offering: ranges that every recording has, by the baseline's words."""
    shared: dict[str, str] = {}
    for number, trace_id in enumerate((*selection.base[:1], *selection.new[:1])):
        try:
            offered = window_choices(trace_id)
        except (TraceError, WindowError, OSError):  # the comparison itself says what is wrong
            return {}
        ranges = {
            w.rpartition("#")[0]: words.partition(" · first of ")[0]
            for w, words in offered.items()
            if w.startswith("nvtx:")
        }
        shared = ranges if not number else {w: t for w, t in shared.items() if w in ranges}
    return shared


def answer_place(selection: ComparisonSelection) -> DeltaGenerator:
    """Return where the comparison is to be drawn, after showing there how far it is."""
    count = len(selection.base) + len(selection.new)
    return _awaited_place(_job(selection), f"Comparing {count:d} recordings")


def answer(selection: ComparisonSelection) -> Comparison | None:
    """Return the comparison, or None after telling what is wrong."""
    return _result(_jobs(), selection, _job(selection))


def forecast_place(selection: ComparisonSelection, comparison: Comparison) -> DeltaGenerator:
    """Return where the predictions are to be drawn, after showing there how far they are."""
    return _awaited_place(_forecast_job(selection, comparison)[1], "Predicting from the baseline")


def forecast(selection: ComparisonSelection, comparison: Comparison) -> WhatIf | None:
    """Return what is predicted from the first recording of the baseline.

    None after telling why it cannot be.
    """
    key, job = _forecast_job(selection, comparison)
    return _result(_forecasts(), key, job)


def forecast_in_the_end(selection: ComparisonSelection, comparison: Comparison) -> WhatIf | None:
    """Wait for what is predicted; None when it cannot be."""
    if comparison.verdict is ComparisonVerdict.NOT_COMPARABLE:
        return None
    try:
        return _forecast_job(selection, comparison)[1].result()
    except (TraceError, WindowError, OSError):
        return None  # the page has told it


def _awaited_place(job: Future[Any], doing: str) -> DeltaGenerator:
    """Return a container once ``job`` is done; until then progress stands there, and no answer."""
    wait([job], PATIENCE_S)
    if job.done():
        return st.container()
    place, began = st.empty(), time.monotonic()
    while not job.done():
        _draw_progress(place, doing, time.monotonic() - began)
        wait([job], LOOK_AGAIN_S)
    return place.container()


def _result(jobs: dict[Key, Future[Answer]], key: Key, job: Future[Answer]) -> Answer | None:
    """Return the result of a job, or None after telling what is wrong."""
    try:
        return job.result()
    except (TraceError, WindowError) as error:
        jobs.pop(key, None)
        draw_error(str(error))
    except OSError as error:
        jobs.pop(key, None)
        draw_error(trouble(error))
    return None


def _draw_progress(place: DeltaGenerator, doing: str, waited_s: float) -> None:
    share = min(waited_s / (waited_s + 5.0), 0.95)
    place.progress(share, md_escape(f"{doing}, {waited_s:.0f} s"))


@st.cache_resource(show_spinner=False)
def _jobs() -> dict[ComparisonSelection, Future[Comparison]]:
    return {}


@st.cache_resource(show_spinner=False)
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="compare")  # one needs all memory it may have


def _job(selection: ComparisonSelection) -> Future[Comparison]:
    jobs = _jobs()
    if selection not in jobs:
        while len(jobs) >= KEPT:
            jobs.pop(next(iter(jobs)))
        jobs[selection] = _thread().submit(_compare, selection)
    return jobs[selection]


def _compare(selection: ComparisonSelection) -> Comparison:
    return comparisons.compare_recordings(
        [cache.get(i) for i in selection.base],
        [cache.get(i) for i in selection.new],
        window=selection.window,
        device=str(selection.device) if selection.device >= 0 else "",
        measure=_measure,
    )


def _measure(trace: Trace, window: str, device: int) -> Side:
    """Measure what a recording brings, in a child process, under limits."""
    return api.measure(trace, window, device)


def known_devices(selection: ComparisonSelection) -> tuple[str, ...]:
    """Return the devices that both sides have, once a comparison told them."""
    for compared, job in list(_jobs().items()):
        same = (compared.base, compared.new) == (selection.base, selection.new)
        if same and job.done() and job.exception() is None and len(job.result().devices) > 1:
            return job.result().devices
    return ()


Forecast = tuple[str, str, int]  # recording, part, iterations of warm-up


@st.cache_resource(show_spinner=False)
def _forecasts() -> dict[Forecast, Future[WhatIf]]:
    return {}


@st.cache_resource(show_spinner=False)
def _forecaster() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="forecast")


def _forecast_job(
    selection: ComparisonSelection, comparison: Comparison
) -> tuple[Forecast, Future[WhatIf]]:
    jobs = _forecasts()
    recording = comparison.base.recordings[0]
    key = selection.base[0], recording.request, recording.warm_up
    if key not in jobs:
        while len(jobs) >= KEPT:
            jobs.pop(next(iter(jobs)))
        jobs[key] = _forecaster().submit(_predict, *key)
    return key, jobs[key]


def _predict(trace_id: str, window: str, warm_up: int) -> WhatIf:
    return api.predict_compared(cache.get(trace_id), window, warm_up)
