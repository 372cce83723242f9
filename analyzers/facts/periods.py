"""The period of a sequence of launches: where a program repeats itself without saying so.

A loop leaves a pattern in what it launches. Some kernel, or some short run of kernels, comes once
in each repetition; it marks where repetitions begin, whatever comes between was inserted, left out
or reordered. So the search is for such *markers*: runs of one, two, four or eight launches whose
occurrences lie at regular distances. Each marker proposes a way to cut the sequence; a proposal
holds when what is launched between two markers is the same work again and again. Of the proposals
that hold, the coarsest is the loop, unless a finer one explains everything that it explains: a
step holds layers, and what it launches besides tells it from a layer; a logged number every tenth
step holds nothing but steps.

The repetition of marked substrings for finding the steps of a training run from kernel names is
an old idea; the weighted Jaccard similarity is Ruzicka's (1958).
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
MIN_COVERED_SHARE = 0.5  # of the time and of the launches: what is less is not the main loop
MIN_SIMILARITY = 0.7  # of a repetition to the typical one, by what is launched
MIN_REGULAR_GAPS = 0.6  # of a marker's distances are close to the typical one
GAP_TOLERANCE = 0.35  # of the typical distance
MAX_LENGTH = 1.5  # times the typical length: what is longer holds something between repetitions
MIN_LENGTH = 0.5
MIN_LAST_LENGTH = 0.9
SPLIT_TOLERANCE = 0.2  # of a typical length, for a distance that is a multiple of it
NEGLIGIBLE_SHARE = 0.005  # what a finer loop may leave unexplained and still be the loop
MAX_WORK_RATIO = 2.5  # of a repetition's busy time to the typical one, either way
MIN_ALIKE_SHARE = 0.75  # of repetitions with similar work
MAX_TREND = 0.9  # rank correlation of busy time with time: stages of one solve shrink step by step
MIN_TREND_RATIO = 1.5  # longest repetition to shortest, for a trend to matter
MIN_PAUSE = 0.02  # of a repetition, for a pause that separates two
PAUSE_RATIO = 5  # to the median pause
RUNS = (1, 2, 4, 8)  # launches in a marker
COUNT_STEP = 1.03  # counts this close are one proposal
SAMPLED = 64  # repetitions that are looked at to judge a proposal
PROPOSALS = 60  # the coarsest that are judged, for each alphabet
ORDERED = 4  # launches in a row that must come in the same order
ORDER_WEIGHT = 2.5  # a launch that is lost, inserted or overtaken breaks four such rows


@dataclass(frozen=True, eq=False)
class Period:
    """Repetitions in a sequence of launches.

    Attributes:
        first: Place in the sequence where each repetition begins.
        stop: Place where it ends, exclusive.
        launches: Typical number of launches in one.
        similarity: Of the repetitions to the typical one, median: 1 when they launch the same.
        explained: Share of all launches that are one of a typical repetition's.
        covered: Share of the time from the first launch to the last that repetitions hold.
        alphabet: Place, in what was given, of the alphabet in which they repeat.
    """

    first: Array
    stop: Array
    launches: int
    similarity: float
    explained: float
    covered: float
    alphabet: int

    @property
    def confidence(self) -> float:
        """How sure the repetitions are, 0 to 1: alike, complete, and not few."""
        return self.similarity * self.covered * (1 - 1 / (1 + len(self.first)))


@dataclass(frozen=True, eq=False)
class _Sequence:
    """What is launched, one place a launch: its letter, and when it ran."""

    letter: Array
    lane: Array
    start_ns: Array
    end_ns: Array

    @functools.cached_property
    def four(self) -> Array:
        """Each launch and the next three of its lane, as one code; shorter at a lane's end."""
        order = np.argsort(self.lane, kind="stable")
        code = _codes_of_runs(self.letter[order], ORDERED)
        tail = np.full(len(order) - len(code), int(code[-1]))
        result = np.empty(len(order), np.int64)
        result[order] = np.concatenate((code, tail))
        return result

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


@dataclass(frozen=True, eq=False)
class _Cut:
    """A way to cut the sequence that was judged."""

    first: Array
    stop: Array
    alike: Array
    explained: Array
    explained_ns: Array

    @property
    def length(self) -> int:
        return int(np.median(self.stop - self.first))

    def shares(self, sequence: _Sequence, chosen: Array) -> tuple[float, float]:
        """Return what share of launches, and of their time, chosen repetitions explain.

        Of all that lies between the first and the last of them: what lies before and after says
        nothing about how well they fit.
        """
        low, high = int(self.first[chosen][0]), int(self.stop[chosen][-1])
        all_ns = sequence.mean_ns_before[high] - sequence.mean_ns_before[low]
        launches = self.explained[chosen].sum() / (high - low)
        return float(launches), float(self.explained_ns[chosen].sum() / max(all_ns, 1))


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
    if len(start_ns) < MIN_LAUNCHES:
        return None
    for place, alphabet in enumerate(alphabets):
        letter = pd.factorize(alphabet)[0].astype(np.int64)
        sequence = _Sequence(letter, lane, start_ns, end_ns)
        cuts = list(_judged(sequence))
        if cuts and (period := _period(sequence, _loop(sequence, cuts), place)) is not None:
            return period
    return None


def _judged(sequence: _Sequence) -> Iterator[_Cut]:
    """Yield the proposals that hold, the coarsest first."""
    for markers in _proposals(sequence.letter)[:PROPOSALS]:
        first, stop = _repetitions(markers, len(sequence.letter))
        if len(first) < MIN_REPETITIONS:
            continue
        if len(first) > 2 * SAMPLED:  # at random: a regular choice may always hit the same layer
            chosen = np.sort(np.random.default_rng(0).choice(len(first), SAMPLED, replace=False))
            if _cut(sequence, first[chosen], stop[chosen]) is None:
                continue
        if (cut := _cut(sequence, first, stop)) is not None:
            yield cut


def _loop(sequence: _Sequence, cuts: list[_Cut]) -> _Cut:
    """Return the coarsest cut, or the finest that explains as much as those above it."""
    chosen = cuts[0]
    for finer in cuts[1:]:
        inside = (finer.first >= chosen.first[0]) & (finer.stop <= chosen.stop[-1])
        if inside.sum() < MIN_REPETITIONS:
            continue
        launches, time = finer.shares(sequence, inside)
        of_chosen = chosen.shares(sequence, np.ones(len(chosen.first), bool))
        if launches > of_chosen[0] - NEGLIGIBLE_SHARE and time > of_chosen[1] - NEGLIGIBLE_SHARE:
            chosen = finer
    return chosen


def _proposals(letter: Array) -> list[Array]:
    """Return places of markers for each proposal, those with the fewest occurrences first."""
    found = [row for run in RUNS for row in _markers_of_runs(letter, run)]
    best: dict[int, tuple[float, int, Array]] = {}
    for regular, places in found:
        key = round(np.log(len(places)) / np.log(COUNT_STEP))
        rank = (round(regular, 2), -int(places[0]))
        if key not in best or rank > best[key][:2]:
            best[key] = (*rank, places)
    return [best[key][2] for key in sorted(best)]


def _markers_of_runs(letter: Array, run: int) -> Iterator[tuple[float, Array]]:
    """Yield runs of this many launches that come at regular distances, and how regular.

    Of runs that occur equally often only the first and the most regular are of use.
    """
    code = _codes_of_runs(letter, run)
    count = np.bincount(code)
    order = np.argsort(code, kind="stable")
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
    by_size = np.lexsort((gap, owner))
    middle = (np.cumsum(gaps) - gaps) + (gaps - 1) // 2
    typical = gap[by_size][middle]
    close = np.abs(gap - typical[owner]) <= GAP_TOLERANCE * typical[owner]
    share: Array = np.bincount(owner, close, minlength=len(count)) / gaps
    return share


def _cut(sequence: _Sequence, first: Array, stop: Array) -> _Cut | None:
    """Judge repetitions; None unless they do the same work in the same order.

    Args:
        sequence: The launches.
        first: Places where repetitions begin.
        stop: Where they end, exclusive.
    """
    parts = [
        _compared(sequence, first[i : i + SAMPLED], stop[i : i + SAMPLED])
        for i in range(0, len(first), SAMPLED)
    ]
    alike, explained, explained_ns = (np.concatenate(column) for column in zip(*parts, strict=True))
    if np.mean(alike >= MIN_SIMILARITY) < MIN_ALIKE_SHARE:
        return None
    busy = sequence.busy_before_ns
    if not _similar_work(busy[stop] - busy[first]):
        return None
    return _Cut(first=first, stop=stop, alike=alike, explained=explained, explained_ns=explained_ns)


def _compared(sequence: _Sequence, first: Array, stop: Array) -> tuple[Array, Array, Array]:
    """Compare a few repetitions with their typical one.

    Returns:
        How similar each is (by its launches, or by rows of four launches times
        ``ORDER_WEIGHT``, what is less), how many of its launches the typical one has too, and how
        long these run.
    """
    counts, letters = _counts(sequence.letter, first, stop)
    alike, shared = _similarity(counts)
    ordered, _ = _similarity(_counts(sequence.four, first, stop)[0])
    alike = np.minimum(alike, ordered * ORDER_WEIGHT)
    return alike, shared.sum(axis=1), shared @ sequence.mean_ns[letters]


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


def _similarity(counts: Array) -> tuple[Array, Array]:
    """Return each repetition's Jaccard similarity to the median one, and what they share."""
    typical = np.median(counts, axis=0)
    shared = np.minimum(counts, typical)
    alike: Array = shared.sum(axis=1) / np.maximum(np.maximum(counts, typical).sum(axis=1), 1)
    return alike, shared


def _similar_work(busy_ns: Array) -> bool:
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
    cut = _cut(sequence, first, stop) if len(first) >= MIN_REPETITIONS else None
    cut = cut or loop
    alike = cut.alike >= MIN_SIMILARITY / 2
    first, stop = cut.first[alike], cut.stop[alike]
    if len(first) < MIN_REPETITIONS or (stop - first).sum() < MIN_LAUNCHES:
        return None
    covered = _covered_share(sequence, first, stop)
    share = float((stop - first).sum()) / len(sequence.letter)
    if covered < MIN_COVERED_SHARE or share < MIN_COVERED_SHARE:
        return None
    return Period(
        first=first,
        stop=stop,
        launches=cut.length,
        similarity=float(np.median(cut.alike[alike])),
        explained=float(cut.explained[alike].sum()) / len(sequence.letter),
        covered=covered,
        alphabet=alphabet,
    )


def _begun_at_pause(sequence: _Sequence, cut: _Cut) -> Array:
    """Move all begins to where in a repetition the device pauses longest, if that stands out."""
    first = cut.first
    reach = np.maximum.accumulate(sequence.end_ns)
    pause = np.maximum(sequence.start_ns - np.concatenate(([sequence.start_ns[0]], reach[:-1])), 0)
    chosen = np.unique(np.linspace(1, len(first) - 1, min(SAMPLED, len(first) - 1)).astype(int))
    offsets = np.arange(-cut.length + 1, 1)
    places = first[chosen][:, None] + offsets[None, :]
    typical = np.median(np.where(places >= 0, pause[np.maximum(places, 0)], 0), axis=0)
    best = int(np.argmax(typical))
    step_ns = float(np.median(np.diff(sequence.start_ns[first])))
    stands_out = typical[best] > max(MIN_PAUSE * step_ns, PAUSE_RATIO * np.median(typical))
    if not stands_out:
        return first
    moved = first + offsets[best]
    return moved[moved >= 0]


def _covered_share(sequence: _Sequence, first: Array, stop: Array) -> float:
    """Return the share of the time from first to last launch that lies in repetitions."""
    begin = sequence.start_ns[first]
    after = np.minimum(stop, len(sequence.letter) - 1)
    reach = np.maximum.accumulate(sequence.end_ns)
    end = np.where(stop < len(sequence.letter), sequence.start_ns[after], reach[-1])
    ends = np.maximum(np.minimum(end, np.append(begin[1:], reach[-1])), begin)
    whole = max(int(reach[-1] - sequence.start_ns[0]), 1)
    return float(min((ends - begin).sum() / whole, 1.0))
