"""The period of a sequence of launches: where a program repeats itself without saying so.

A loop leaves a pattern in what it launches. Some kernel, or some short run of kernels, comes once
in each repetition; it marks where repetitions begin, whatever comes between was inserted, left out
or reordered. So the search is for such *markers*: runs of one, two, four or eight launches whose
occurrences lie at regular distances. Each marker proposes a way to cut the sequence; a proposal
holds when what is launched between two markers is the same work again and again. Of the proposals
that hold, the coarsest is the loop, unless a finer one explains everything that it explains: a
step holds layers, and what it launches besides tells it from a layer; a logged number every tenth
step holds nothing but steps.

The weighted Jaccard similarity is Ruzicka's (1958). Rates: ``python -m benchmarks.periods``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.intervals import Array

MIN_REPETITIONS = 3  # two equal stretches may be coincidence
MIN_LAUNCHES = 6  # in all repetitions together: three launches of one kernel are no loop
MIN_COVERED_SHARE = 0.5  # of the work and of the launches: what is less is not the main loop
MIN_SIMILARITY = 0.7  # of a repetition to the typical one, by what is launched
MIN_REGULAR_GAPS = 0.6  # of a marker's distances are close to the typical one
GAP_TOLERANCE = 0.35  # of the typical distance
MAX_LENGTH = 1.5  # times the typical length: what is longer holds something between repetitions
MIN_LENGTH = 0.5
FEW = 6  # repetitions; a few that differ in length may be chance
MIN_SIMILARITY_OF_FEW = 0.9
MIN_SURE_SIMILARITY, MIN_SURE_COVERED = 0.9, 0.8
MAX_LENGTH_SPREAD = 0.25  # of the typical length, longest to shortest, of a few
MIN_LAST_LENGTH = 0.9
SPLIT_TOLERANCE = 0.2  # of a typical length, for a distance that is a multiple of it
MAX_INTERRUPTED = 0.15  # of a loop's span, by what is no repetition: an evaluation, say
MAX_PART = 0.6  # of a repetition's length, for a shorter one to be a part of it
NEGLIGIBLE_SHARE = 0.005  # what a finer loop may leave unexplained and still be the loop
MAX_WORK_RATIO = 2.5  # of a repetition's busy time to the typical one, either way
MIN_ALIKE_SHARE = 0.75  # of repetitions with similar work
MAX_TREND = 0.9  # rank correlation of busy time with time: stages of one solve shrink step by step
MIN_TREND_RATIO = 1.5  # longest repetition to shortest, for a trend to matter
MIN_PAUSE = 0.02  # of a repetition, for a pause that separates two
PAUSE_RATIO = 5  # to the median pause
RUNS = (1, 2, 4, 8)  # launches in a marker
COUNT_STEP = 1.03  # counts this close are one proposal
GLANCED, JUDGED = 64, 2048  # repetitions that are looked at to judge a proposal
TOGETHER = 256  # repetitions that are compared with the typical one among them
PROPOSALS = 60  # the coarsest that are judged, for each alphabet
ORDERED = 4  # launches in a row that must come in the same order
ORDER_WEIGHT = 1.4  # a launch that is lost, inserted or overtaken breaks four such rows


@dataclass(frozen=True, eq=False)
class Period:
    """Repetitions in a sequence of launches.

    Attributes:
        first: Place in the sequence where each repetition begins.
        stop: Place where it ends, exclusive.
        launches: Typical number of launches in one.
        similarity: Of the repetitions to the typical one, median: 1 when they launch the same.
        covered: Share of the time in which something runs that repetitions hold.
        alphabet: Place, in what was given, of the alphabet in which they repeat.
    """

    first: Array
    stop: Array
    launches: int
    similarity: float
    covered: float
    alphabet: int

    @property
    def is_sure(self) -> bool:
        """Whether hardly anything else could be meant: many, alike, and nearly all of the work."""
        alike = self.similarity >= MIN_SURE_SIMILARITY and self.covered >= MIN_SURE_COVERED
        return alike and len(self.first) >= FEW


@dataclass(frozen=True, eq=False)
class _Counted:
    """Which launches count when two ways to cut a sequence are compared.

    Attributes:
        launches_before: How many of them lie before each place, one place more than launches.
        mean_ns_before: How long these ran, were all of a letter equally long.
    """

    launches_before: Array
    mean_ns_before: Array


@dataclass(frozen=True, eq=False)
class _Sequence:
    """What is launched, one place a launch: its letter, and when it ran."""

    letter: Array
    lane: Array
    start_ns: Array
    end_ns: Array

    @functools.cached_property
    def lanes(self) -> int:
        return int(pd.unique(self.lane).size)

    @functools.cached_property
    def by_lane(self) -> Array:
        order: Array = np.argsort(self.lane, kind="stable")
        return order

    def runs(self, run: int) -> Array:
        """Number each launch with the next ones of its lane; fewer at a lane's end.

        Args:
            run: How many launches together, a power of two.
        """
        order = self.by_lane
        code = _codes_of_runs(self.letter[order], run)
        result = np.full(len(order), int(code[-1]))
        result[order[: len(code)]] = code
        return result

    @functools.cached_property
    def in_order(self) -> Array:
        """The runs whose likeness tells the order of launches."""
        return self.runs(ORDERED)

    @functools.cached_property
    def busy_before_ns(self) -> Array:
        """How long all launches before each place ran, one place more than launches."""
        return np.concatenate(([0], np.cumsum(self.end_ns - self.start_ns)))

    @functools.cached_property
    def mean_ns(self) -> Array:
        """How long launches of each letter run, on average."""
        mean: Array = np.bincount(self.letter, self.end_ns - self.start_ns) / np.bincount(
            self.letter
        )
        return mean

    @functools.cached_property
    def mean_ns_before(self) -> Array:
        """As ``busy_before_ns``, were all launches of a letter equally long."""
        return np.concatenate(([0], np.cumsum(self.mean_ns[self.letter])))

    @functools.cached_property
    def whole(self) -> _Counted:
        """All launches."""
        return _Counted(np.arange(len(self.letter) + 1), self.mean_ns_before)


@dataclass(frozen=True, eq=False)
class _Cut:
    """A way to cut the sequence that was judged.

    Attributes:
        first: Place where each repetition begins.
        stop: Where it ends, exclusive.
        alike: Similarity to the typical one of each that was looked at.
        explained: Share that the typical one explains, of the launches and of how long these run
            (columns): of each repetition by itself, and of all together (rows). Launches that
            overtake each other at a border are missing in one and too many in the next, and so
            explained only together; launches inserted at random are in none, but in each of ten
            together.
    """

    first: Array
    stop: Array
    alike: Array
    explained: Array

    @property
    def length(self) -> int:
        return int(np.median(self.stop - self.first))

    def shares(self, counted: _Counted, low: int, high: int) -> Array | None:
        """Return ``explained``, of all that lies between repetitions in [low, high) too.

        What lies before the first and after the last of them says nothing about how well they
        fit. None when there are too few.
        """
        counts = counted.launches_before[self.stop] - counted.launches_before[self.first]
        is_mostly_counted = 2 * counts >= self.stop - self.first
        inside = np.flatnonzero((self.first >= low) & (self.stop <= high) & is_mostly_counted)
        if len(inside) < MIN_REPETITIONS:
            return None
        first, stop = self.first[inside], self.stop[inside]
        launches, of_time = (
            (before[stop] - before[first]).sum() / max(before[stop[-1]] - before[first[0]], 1)
            for before in (counted.launches_before, counted.mean_ns_before)
        )
        shares: Array = self.explained * np.array([launches, of_time])
        return shares

    def uninterrupted(self, sequence: _Sequence) -> _Counted:
        """Return the launches that tell this loop from a part of it: all, if much is in no step.

        An evaluation between steps may hold kernels of a step's parts, and does not say what a
        step is.
        """
        between = int(self.stop[-1] - self.first[0] - (self.stop - self.first).sum())
        if not 0 < between <= MAX_INTERRUPTED * (self.stop[-1] - self.first[0]):
            return sequence.whole
        edges = np.zeros(len(sequence.letter) + 1, np.int64)
        np.add.at(edges, self.stop[:-1], 1)
        np.add.at(edges, self.first[1:], -1)
        is_counted = np.cumsum(edges)[:-1] == 0
        mean_ns = sequence.mean_ns[sequence.letter] * is_counted
        return _Counted(
            launches_before=np.concatenate(([0], np.cumsum(is_counted))),
            mean_ns_before=np.concatenate(([0], np.cumsum(mean_ns))),
        )


def find_period(
    alphabets: Sequence[Array], lane: Array, start_ns: Array, end_ns: Array
) -> Period | None:
    """Return how a sequence of launches repeats, or None when it does not.

    Args:
        alphabets: What is launched, as integers, in the order of launching; the alphabet that
            tells most apart (kernel, launch configuration, stream) first. A coarser one counts
            only when nothing repeats in the finer.
        lane: Stream of each launch: only within one is the order of launches telling.
        start_ns: When each launch began to run.
        end_ns: When it was done.

    The time is linear in the number of launches, but for one sort for each length of a marker.
    """
    for place, alphabet in enumerate(alphabets if len(start_ns) >= MIN_LAUNCHES else ()):
        letter = pd.factorize(alphabet)[0].astype(np.int64)
        sequence = _Sequence(letter, lane, start_ns, end_ns)
        cuts = list(_judged(sequence))
        if cuts and (period := _period(sequence, _loop(sequence, cuts), place)) is not None:
            return period
    return None


def _judged(sequence: _Sequence) -> Iterator[_Cut]:
    """Yield the proposals that hold, the coarsest first."""
    for markers in _proposals(sequence)[:PROPOSALS]:
        first, stop = _repetitions(markers, len(sequence.letter))
        if len(first) < MIN_REPETITIONS:
            continue
        if len(first) > 2 * GLANCED and _cut(sequence, first, stop, GLANCED) is None:
            continue
        if (cut := _cut(sequence, first, stop, JUDGED)) is not None:
            yield cut


def _loop(sequence: _Sequence, cuts: list[_Cut]) -> _Cut:
    """Return the coarsest cut, or the finest that explains as much as those above it."""
    chosen = cuts[0]
    uninterrupted = chosen.uninterrupted(sequence)
    for finer in cuts[1:]:
        margin = finer.length  # they need not begin at the same launch of a repetition
        span = int(chosen.first[0]) - margin, int(chosen.stop[-1]) + margin
        is_part = finer.length <= MAX_PART * chosen.length  # else it is another cut of the same
        counted = uninterrupted if is_part else sequence.whole
        coarse, fine = (cut.shares(counted, *span) for cut in (chosen, finer))
        if coarse is None or fine is None:
            continue
        if (fine > coarse - NEGLIGIBLE_SHARE).all(axis=1).any():
            chosen, uninterrupted = finer, finer.uninterrupted(sequence)
    return chosen


def _proposals(sequence: _Sequence) -> list[Array]:
    """Return places of markers for each proposal, those with the fewest occurrences first."""
    codes = [_codes_of_runs(sequence.letter, run) for run in RUNS]
    if sequence.lanes > 1:  # launches of streams that overtake each other
        codes += [sequence.runs(run) for run in RUNS[1:]]
    best: dict[int, tuple[float, int, Array]] = {}
    for regular, places in (row for code in codes for row in _markers(code)):
        key = round(np.log(len(places)) / np.log(COUNT_STEP))
        rank = (round(regular, 2), -int(places[0]))
        if key not in best or rank > best[key][:2]:
            best[key] = (*rank, places)
    return [best[key][2] for key in sorted(best)]


def _markers(code: Array) -> Iterator[tuple[float, Array]]:
    """Yield where a code comes at regular distances, and how regular, for every number of places.

    Of codes that occur equally often only the first of the most regular is of use.
    """
    count = np.bincount(code)
    # Small numbers are sorted by their digits, in linear time.
    narrow = code.astype(np.uint16) if len(count) <= np.iinfo(np.uint16).max else code
    order = np.argsort(narrow, kind="stable")
    stop = np.cumsum(count)
    begin = stop - count
    reach = order[stop - 1] - order[begin]
    kept = np.flatnonzero((count >= MIN_REPETITIONS) & (reach >= MIN_COVERED_SHARE / 2 * len(code)))
    if not len(kept):
        return
    regular = _regularity(order, begin[kept], count[kept])
    frame = pd.DataFrame(
        {"count": count[kept], "regular": regular.round(2), "first": order[begin[kept]]}
    )
    frame["row"] = np.arange(len(kept))
    frame = frame[frame["regular"] >= MIN_REGULAR_GAPS]
    frame = frame.sort_values(["count", "regular", "first"], ascending=[True, False, True])
    for row in frame.drop_duplicates("count")["row"].tolist():
        where = slice(begin[kept[row]], stop[kept[row]])
        yield float(regular[row]), order[where]


def _codes_of_runs(letter: Array, run: int) -> Array:
    """Number the runs of ``run`` launches that begin at each place; run is a power of two."""
    code, width = letter, 1
    while width < run and len(code) > width:
        wide = code.astype(np.int64)
        pair = wide[:-width] * (int(code.max()) + 1) + wide[width:]
        code = pd.factorize(pair)[0]
        width *= 2
    return code


def _regularity(order: Array, begin: Array, count: Array) -> Array:
    """Return the share of each marker's distances that are close to its median distance.

    Args:
        order: Places of all markers, those of one together and sorted.
        begin: Where each marker's places begin.
        count: How many it has.
    """
    gaps = count - 1
    owner = np.repeat(np.arange(len(count)), gaps)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(gaps) - gaps, gaps)
    left = np.repeat(begin, gaps) + within
    gap = order[left + 1] - order[left]
    above = int(gap.max()) + 1
    by_size = np.sort(owner * above + gap)
    typical = by_size[(np.cumsum(gaps) - gaps) + (gaps - 1) // 2] % above
    close = np.abs(gap - typical[owner]) <= GAP_TOLERANCE * typical[owner]
    share: Array = np.bincount(owner, close, minlength=len(count)) / gaps
    return share


def _cut(sequence: _Sequence, first: Array, stop: Array, sample: int) -> _Cut | None:
    """Judge repetitions; None unless they do the same work in the same order.

    Args:
        sequence: The launches.
        first: Places where repetitions begin.
        stop: Where they end, exclusive.
        sample: How many are compared, chosen at random: one in so many would always hit the
            same layer.
    """
    begin, end = first, stop
    if len(first) > sample:
        rows = np.sort(np.random.default_rng(0).choice(len(first), sample, replace=False))
        begin, end = first[rows], stop[rows]
    parts = [
        _compared(sequence, begin[i : i + TOGETHER], end[i : i + TOGETHER])
        for i in range(0, len(begin), TOGETHER)
    ]
    alike = np.concatenate([part[0] for part in parts])
    if np.mean(alike >= MIN_SIMILARITY) < MIN_ALIKE_SHARE:
        return None
    if len(first) < FEW:
        uneven = np.ptp(stop - first) > MAX_LENGTH_SPREAD * np.median(stop - first)
        if uneven or np.median(alike) < MIN_SIMILARITY_OF_FEW:
            return None
    busy = sequence.busy_before_ns
    if not has_similar_work(busy[end] - busy[begin]):
        return None
    time = sequence.mean_ns_before
    whole = np.array([(end - begin).sum(), max((time[end] - time[begin]).sum(), 1)])
    explained = np.sum([part[1] for part in parts], axis=0) / whole
    return _Cut(first=first, stop=stop, alike=alike, explained=explained)


def _compared(sequence: _Sequence, first: Array, stop: Array) -> tuple[Array, Array]:
    """Compare a few repetitions with their typical one.

    Returns:
        How similar each is (by its launches, or by rows of four launches times
        ``ORDER_WEIGHT``, what is less), and what is explained as ``_Cut`` has it, in launches.
    """
    counts, letters = _counts(sequence.letter, first, stop)
    typical = np.median(counts, axis=0)
    alike = _similarity(counts)
    whole = np.maximum(stop - ORDERED + 1, first)  # rows of launches that end in the repetition
    if (whole > first).any():
        ordered = _similarity(_counts(sequence.in_order, first, whole)[0])
        alike = np.where(whole > first, np.minimum(alike, ordered * ORDER_WEIGHT), alike)
    each = np.minimum(counts, typical).sum(axis=0)
    together = np.minimum(counts.sum(axis=0), typical * len(first))
    mean_ns = sequence.mean_ns[letters]
    return alike, np.array([[each.sum(), each @ mean_ns], [together.sum(), together @ mean_ns]])


def _repetitions(markers: Array, launches: int) -> tuple[Array, Array]:
    """Return begin and end of each repetition: to the next marker, unless that is far.

    A distance of two or three typical ones is that of a marker that was lost. What reaches
    further otherwise holds something else behind it, an evaluation say: the repetition then ends
    at its typical length. So does the last, if as much was recorded.
    """
    typical = int(np.median(np.diff(markers)))
    gap = np.diff(markers)
    steps = np.rint(gap / typical).astype(np.int64)
    is_multiple = (steps > 1) & (np.abs(gap - steps * typical) <= SPLIT_TOLERANCE * typical)
    pieces = np.append(np.where(is_multiple, steps, 1), 1)
    within = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    width = np.append(gap, typical) / pieces
    first = (np.repeat(markers, pieces) + within * np.repeat(width, pieces)).astype(np.int64)
    stop = np.append(first[1:], min(first[-1] + typical, launches))
    length = stop - first
    stop = np.where(length > MAX_LENGTH * typical, first + typical, stop)
    whole = stop - first >= max(MIN_LENGTH * typical, 1)
    if launches - first[-1] < typical * MIN_LAST_LENGTH:
        whole[-1] = False
    return first[whole], stop[whole]


def _counts(codes: Array, first: Array, stop: Array) -> tuple[Array, Array]:
    """Return how often each repetition has each code, and which codes the columns are."""
    lengths = stop - first
    owner = np.repeat(np.arange(len(first)), lengths)
    places = np.repeat(first - (np.cumsum(lengths) - lengths), lengths) + np.arange(len(owner))
    column, used = pd.factorize(codes[places])
    table = np.bincount(owner * len(used) + column, minlength=len(first) * len(used))
    return table.reshape(len(first), len(used)), used


def _similarity(counts: Array) -> Array:
    """Return each repetition's Jaccard similarity to the median one."""
    typical = np.median(counts, axis=0)
    shared = np.minimum(counts, typical).sum(axis=1)
    alike: Array = shared / np.maximum(np.maximum(counts, typical).sum(axis=1), 1)
    return alike


def has_similar_work(busy_ns: Array) -> bool:
    """Tell whether repetitions work about equally long, without shrinking one after the other."""
    typical = max(float(np.median(busy_ns)), 1.0)
    ratio = np.maximum(busy_ns, 1) / typical
    alike = (ratio <= MAX_WORK_RATIO) & (ratio >= 1 / MAX_WORK_RATIO)
    if np.mean(alike) < MIN_ALIKE_SHARE:
        return False
    middle = ratio[1:] if len(ratio) > MIN_REPETITIONS else ratio  # the first warms up
    if middle.max() < MIN_TREND_RATIO * middle.min():
        return True
    rank = pd.Series(middle).rank().to_numpy()
    trend = np.corrcoef(rank, np.arange(len(rank)))[0, 1]
    return bool(abs(trend) < MAX_TREND)


def _period(sequence: _Sequence, loop: _Cut, alphabet: int) -> Period | None:
    """Begin a loop's repetitions where the device pauses; None if they cover too little."""
    first, stop = _repetitions(_begun_at_pause(sequence, loop), len(sequence.letter))
    every = len(sequence.letter)
    cut = _cut(sequence, first, stop, every) if len(first) >= MIN_REPETITIONS else None
    if (cut := cut or _cut(sequence, loop.first, loop.stop, every)) is None:
        return None
    alike = cut.alike >= MIN_SIMILARITY / 2
    first, stop = cut.first[alike], cut.stop[alike]
    if len(first) < MIN_REPETITIONS or (stop - first).sum() < MIN_LAUNCHES:
        return None
    busy = sequence.busy_before_ns
    covered = float((busy[stop] - busy[first]).sum() / max(busy[-1], 1))
    share = float((stop - first).sum()) / len(sequence.letter)
    if covered < MIN_COVERED_SHARE or share < MIN_COVERED_SHARE:
        return None
    return Period(
        first=first,
        stop=stop,
        launches=cut.length,
        similarity=float(np.median(cut.alike[alike])),
        covered=covered,
        alphabet=alphabet,
    )


def _begun_at_pause(sequence: _Sequence, cut: _Cut) -> Array:
    """Move all begins to where in a repetition the device pauses longest, if that stands out."""
    first = cut.first
    reach = np.maximum.accumulate(sequence.end_ns)
    pause = np.maximum(sequence.start_ns - np.concatenate(([sequence.start_ns[0]], reach[:-1])), 0)
    chosen = np.unique(np.linspace(1, len(first) - 1, min(GLANCED, len(first) - 1)).astype(int))
    offsets = np.arange(-cut.length + 1, 1)
    places = first[chosen][:, None] + offsets[None, :]
    typical = np.median(np.where(places >= 0, pause[np.maximum(places, 0)], 0), axis=0)
    best = int(np.argmax(typical))
    step_ns = float(np.median(np.diff(sequence.start_ns[first])))
    stands_out = typical[best] > max(MIN_PAUSE * step_ns, PAUSE_RATIO * np.median(typical))
    if not stands_out:
        return first
    moved: Array = first + offsets[best]
    begins: Array = moved[moved >= 0]
    return begins
