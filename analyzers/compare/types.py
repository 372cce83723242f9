"""The answer of a comparison, in the words that page, command line, report and gate all use.

*Base* is the run before a change, *new* the one after it. A change is always ``new - base``: what
is negative became less, and less time is better. Numbers that could not be had are ``None``; they
are never replaced by 0. One file because it is the JSON contract, which is read as a whole.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from dataclasses import dataclass, field
from typing import Any

from analyzers.compare.hardware import MachineChange
from analyzers.compare.prediction_outcomes import PredictionOutcome
from analyzers.finding import Row

SCHEMA = 1  # of the JSON contract; keys may be added, never renamed

REMAINDER = "remainder"
"""The row of the waterfall that is no row of the ledger; see ``WaterfallRow``."""
WORK = "work"
"""The row of the waterfall for more or less work, where both did the same in another amount."""


class ComparisonVerdict(enum.StrEnum):
    """What a comparison may answer."""

    IMPROVED = "improved"
    REGRESSED = "regressed"
    NO_DIFFERENCE = "no_difference"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARABLE = "not_comparable"


OTHER_MACHINE = "gpu"
"""What a ``Difference`` is called that makes hardware a part of the change."""


OTHER_DRIVER = "driver"
"""What one is called that makes the driver a part of it."""


class Level(enum.StrEnum):
    """How much a difference between two sides matters."""

    SAME = "same"  # looked at, and equal
    INFO = "info"
    WARNING = "warning"  # numbers hold, with care
    BLOCKING = "blocking"  # no number is given
    UNKNOWN = "unknown"  # not recorded on one side or on both


class Certainty(enum.StrEnum):
    """How sure a change is; what is not known has three words."""

    IN_GENERAL = "in general"  # above the noise, and further runs will differ, too
    IN_RUNS = "in these two runs"  # above the noise within them; runs may differ by as much
    SMALL = "small"  # surely there, and less than the smallest change that matters
    NOISE = "within the noise"  # tested, and not above it
    COUNTED = "counted"  # not measured: it has no noise, and no interval
    NOT_TESTED = "not tested"  # nothing measured how much it varies
    UNCHANGED = "no change"  # the same on both sides


class KernelMatch(enum.StrEnum):
    """How a kernel of one side is found on the other."""

    SAME = "same"  # the same name and launch configuration
    RESHAPED = "reshaped"  # the same name, another launch configuration
    RENAMED = "renamed"  # another name, at the same place among the others, with the same shape
    REPLACED = "replaced"  # other kernels, for the same operator and shapes or at the same place
    NEW = "new"
    GONE = "gone"


@dataclass(frozen=True, kw_only=True)
class EvidencePlace:
    """A stretch of one recording, to open its timeline at.

    Attributes:
        recording: Number of the recording on its side, from 0; see ``SideSummary.recordings``.
        start_ns: Begin, in the recording's own nanoseconds.
        end_ns: End.
        device: Key of the ledger's device, -1 when it concerns none.
    """

    recording: int
    start_ns: int
    end_ns: int
    device: int = -1


@dataclass(frozen=True, kw_only=True)
class SideRecording:
    """One recording of a side, and what was taken from it.

    Attributes:
        name: File name.
        sha256: Digest of the file.
        trace_id: Id in the library, for links; empty when it is not in a library.
        window: What was analysed, in words.
        iterations: Repetitions that were found; 0 when the whole window is one sample.
        request: Window and choice of iterations that it was measured with.
        warm_up: Iterations at the beginning that were left out.
        warm_up_how: How it was decided how many, in words.
        warm_up_ns: Duration of each of them; they take no part in any other number.
        median_ns: Median of the samples that were kept.
    """

    name: str
    sha256: str
    trace_id: str
    window: str
    iterations: int
    warm_up: int
    warm_up_how: str
    median_ns: int
    warm_up_ns: tuple[int, ...] = ()
    request: str = ""


@dataclass(frozen=True, kw_only=True)
class SideSummary:
    """One side of the comparison.

    Attributes:
        recordings: Its recordings, in the order in which they were given.
        samples_ns: Duration of each iteration that was kept, by recording.
        median_ns: Its time per iteration: the median of its samples, of several recordings the
            mean of their medians. ``None`` when not comparable.
        p95_ns: 95th percentile of all samples; ``None`` when there are fewer than 20.
        ledger_ns: A typical iteration's account by row: the means of the rows over the middle half
            of the iterations. Integers; they sum to ``median_ns`` less ``remainder_ns``.
        remainder_ns: ``median_ns`` less the sum of ``ledger_ns``.
        typical: A stretch that shows a typical iteration.
    """

    recordings: tuple[SideRecording, ...]
    samples_ns: tuple[tuple[int, ...], ...] = ()
    median_ns: int | None = None
    p95_ns: int | None = None
    ledger_ns: dict[str, int] = field(default_factory=dict)
    remainder_ns: int = 0
    typical: EvidencePlace | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something about the two sides that was compared before any number.

    Attributes:
        what: Short name: ``gpu``, ``driver``, ``clocks``, ``throttling``, ``tool``, ``schema``,
            ``window``, ``iterations``, ``shapes``, ``kernels``, ``devices``, ``workload`` …
        base: Its value on the base side, as text; empty when not recorded.
        new: Its value on the new side.
        level: How much it matters.
        sentence: The difference in words, or what could not be compared.
    """

    what: str
    base: str
    new: str
    level: Level
    sentence: str

    @property
    def blocking(self) -> bool:
        """Whether it forbids an answer in numbers."""
        return self.level is Level.BLOCKING


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A change with its uncertainty.

    Attributes:
        base: The quantity on the base side.
        new: On the new side.
        change: ``new - base``.
        low: Lower end of the 95 % interval of the change; ``None`` when no uncertainty can be
            given, for instance because it was measured once.
        high: Upper end.
        p_value: Probability of a change at least as large if the two sides did not differ.
        p_adjusted: The same, adjusted for the number of rows in its table (Benjamini-Hochberg);
            equal to ``p_value`` for a quantity that stands alone.
        detectable: The smallest change that this comparison would have found in four of five
            cases (minimum detectable effect).
        significant: Whether the change is above the noise: interval without 0, and ``p_adjusted``
            at most 5 %. What is not significant is not to be coloured.
        low_in_runs: Lower end of the 95 % interval within the two runs, one recording a side;
            ``low`` and ``high`` then also hold what runs may differ by. ``None`` otherwise.
        high_in_runs: Upper end.
        p_in_runs: Of the test within the two runs.
        significant_in_runs: As ``significant``, within the two runs.
        is_assumed: Whether nothing measured stands behind the interval.
        is_counted: Whether both numbers were counted, once, and not measured.
        unit: ``ns``, ``bytes``, ``count`` …; for the workload's metrics its own.
    """

    base: float
    new: float
    change: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    detectable: float | None = None
    significant: bool = False
    low_in_runs: float | None = None
    high_in_runs: float | None = None
    p_in_runs: float | None = None
    significant_in_runs: bool = False
    is_assumed: bool = False
    is_counted: bool = False
    unit: str = "ns"

    @property
    def ratio(self) -> float | None:
        """``change`` as a part of ``base``; None when there was nothing before."""
        return self.change / self.base if self.base else None

    def certainty(self, smallest: float) -> Certainty:
        """Return how sure the change is, in a word.

        Args:
            smallest: The smallest change of a time that matters, in ns.
        """
        if self.low is None or self.high is None:
            if not self.change:
                return Certainty.UNCHANGED
            return Certainty.COUNTED if self.is_counted else Certainty.NOT_TESTED
        in_runs = (self.low_in_runs, self.high_in_runs)
        if not self.change and (0, 0) in ((self.low, self.high), in_runs):
            return Certainty.UNCHANGED
        if not self.significant and not self.significant_in_runs:
            return Certainty.NOT_TESTED if self.is_assumed else Certainty.NOISE
        if self.unit == "ns" and abs(self.change) < smallest:
            return Certainty.SMALL
        return Certainty.IN_GENERAL if self.significant else Certainty.IN_RUNS


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What may be said, and how far it reaches.

    Attributes:
        verdict: The answer.
        low_ns: Lower end of the 95 % interval of the change.
        high_ns: Upper end.
    """

    verdict: ComparisonVerdict
    low_ns: float
    high_ns: float


@dataclass(frozen=True, kw_only=True)
class WaterfallRow:
    """What one row of the ledger contributes to the change; all rows sum to it.

    The row ``remainder`` is the part that the rows do not explain: the change is one of medians,
    and a median is not the sum of its parts. It is 0: the rows are taken from iterations around the
    median, weighted so that their durations average to it (``typical_weights``).

    Attributes:
        row: A row of the ledger, or ``remainder``; or first of all ``work``, where both did the
            same in another amount: what the new side's amount of work takes at base's speed. The
            other rows then compare what both take for that amount.
        base_ns: Nanoseconds per iteration on the base side.
        new_ns: On the new side.
        change_ns: ``new_ns - base_ns``.
        low_ns: 95 % interval; ``None`` as in ``Delta``.
        high_ns: Its upper end.
        p_adjusted: As in ``Delta``, over the rows of the waterfall.
        significant: As in ``Delta``.
        low_in_runs_ns: As in ``Delta``.
        high_in_runs_ns: Its upper end.
        significant_in_runs: As in ``Delta``.
        note: What is behind it, in a sentence; may be empty.
        base_place: Where it costs most in a typical iteration of the base side.
        new_place: The same for the new side.
    """

    row: str
    base_ns: int
    new_ns: int
    change_ns: int
    low_ns: int | None = None
    high_ns: int | None = None
    p_adjusted: float | None = None
    significant: bool = False
    low_in_runs_ns: int | None = None
    high_in_runs_ns: int | None = None
    significant_in_runs: bool = False
    note: str = ""
    base_place: EvidencePlace | None = None
    new_place: EvidencePlace | None = None

    @property
    def delta(self) -> Delta:
        """The row as a change with its uncertainty."""
        return Delta(
            base=self.base_ns,
            new=self.new_ns,
            change=self.change_ns,
            low=self.low_ns,
            high=self.high_ns,
            p_adjusted=self.p_adjusted,
            significant=self.significant,
            low_in_runs=self.low_in_runs_ns,
            high_in_runs=self.high_in_runs_ns,
            significant_in_runs=self.significant_in_runs,
            is_counted=self.row == WORK,
        )


@dataclass(frozen=True, kw_only=True)
class KernelMember:
    """One kernel of one side, as it is launched.

    Attributes:
        name: Full name.
        short_name: Name without template arguments and parameters.
        shape: Launch configuration, blocks of the grid and threads of a block in each dimension;
            empty when not recorded.
        registers: Of a thread; None when not recorded.
        shared_bytes: Shared memory of a block, static and dynamic; None when not recorded.
        launches: In a typical iteration, of what the row holds.
        ns: Their summed duration there.
    """

    name: str
    short_name: str
    shape: str = ""
    registers: int | None = None
    shared_bytes: int | None = None
    launches: int = 0
    ns: int = 0


@dataclass(frozen=True, kw_only=True)
class KernelChange:
    """One kernel on both sides, or kernels of one side that those of the other replace.

    Attributes:
        kind: How the two were matched.
        name: Full name on the base side; of a new kernel that on the new side.
        new_name: Full name on the new side; differs only when ``kind`` is ``renamed`` or
            ``replaced``. Of several kernels the one that takes most time.
        short_name: Name without template arguments and parameters.
        shape: Launch configuration on the base side, blocks of the grid and threads
            of a block in each dimension.
        new_shape: The same on the new side.
        time: Summed duration per iteration; of windows with another amount of the same work, on
            base that of as many launches as on the new side.
        base_launches: Launches per iteration on the base side.
        new_launches: On the new side.
        pairs: Launches that were paired with one of the new side; 0 when none were.
        faster: Pairs in which the new side took less time.
        base_place: Its longest launch in a typical iteration of the base side.
        new_place: The same for the new side.
        operator: What replaced kernels ran for; empty where they were found by their place.
        shapes: Of its inputs, a JSON list.
        neighbours: Of kernels found by their place, those that both sides launch before and after;
            empty at an end of the iteration.
        ranges: Of replaced kernels, the innermost ranges of the program around base's launches,
            most launches first.
        base_members: The kernels of the row on the base side, most time first; one, unless
            several were replaced; none of a new kernel.
        new_members: The same for the new side.
    """

    kind: KernelMatch
    name: str
    new_name: str
    short_name: str
    shape: str
    new_shape: str
    time: Delta
    base_launches: float
    new_launches: float
    pairs: int = 0
    faster: int = 0
    base_place: EvidencePlace | None = None
    new_place: EvidencePlace | None = None
    operator: str = ""
    shapes: str = ""
    neighbours: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()
    base_members: tuple[KernelMember, ...] = ()
    new_members: tuple[KernelMember, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RegionChange:
    """What one row of the ledger costs in one region of the program, on both sides.

    Attributes:
        level: What the region is; one of ``analyzers.ledger.regions.LEVELS``.
        name: Its name; empty for what no region submitted.
        row: Row of the ledger.
        time: Per iteration. For one level, the changes of all regions sum to the change of the
            row's mean.
        base_place: Where it costs most on the base side.
        new_place: The same for the new side.
    """

    level: str
    name: str
    row: Row
    time: Delta
    base_place: EvidencePlace | None = None
    new_place: EvidencePlace | None = None


@dataclass(frozen=True, kw_only=True)
class WorkChange:
    """Kernel time of one kind of work on both sides, per iteration.

    Attributes:
        work_class: A ``WorkClass``.
        operator: Name; empty for a kernel without one.
        shapes: Of its inputs, a JSON list; empty where not recorded.
        types: Of its inputs, a JSON list.
        kernel: Name of a kernel without an operator.
        new_kernel: Name of the one that replaces it on the new side; empty when none does.
        time: Kernel time. All rows sum to the mean of the ledger's row ``kernel``.
        base_calls: Calls per iteration on the base side.
        new_calls: On the new side.
        amount_ns: The part of the change that comes from more or fewer calls.
        speed_ns: The rest: calls of the same work take longer or shorter.
        base_place: Its longest launch in a typical iteration of the base side.
        new_place: The same for the new side.
    """

    work_class: str
    operator: str
    shapes: str
    types: str
    kernel: str
    time: Delta
    base_calls: float
    new_calls: float
    amount_ns: int
    speed_ns: int
    base_place: EvidencePlace | None = None
    new_place: EvidencePlace | None = None
    new_kernel: str = ""


@dataclass(frozen=True, kw_only=True)
class MetricChange:
    """Any other quantity on both sides.

    Attributes:
        name: What is counted: ``HtoD bytes``, ``kernel launches``, ``peak memory``, ``throughput``.
        group: ``iteration`` (per iteration), ``transfers`` (per iteration), ``memory``, ``roles``
            (what ran, per iteration) or ``workload`` (what the program measured itself).
        better: ``lower``, ``higher``, or empty when neither is.
        value: The change.
    """

    name: str
    group: str
    better: str
    value: Delta

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` when significant and with a direction, else empty."""
        if not self.value.significant or not self.better or not self.value.change:
            return ""
        return "better" if (self.value.change < 0) == (self.better == "lower") else "worse"


@dataclass(frozen=True, kw_only=True)
class SubResult:
    """The answer to one of the questions that a reader asks, whatever the whole is.

    Attributes:
        question: ``same work`` (the time for it, where both did another amount), ``wall`` (time
            of an iteration, or of the window), ``mean`` (the same as a mean of
            iterations, which also sees rare slow ones), ``busy`` (of that the GPU was busy),
            ``cause`` (a row of the ledger), ``kernel`` (one of the largest changes), ``memory`` or
            ``metric`` (what the program measured itself).
        name: The quantity, the row or the kernel.
        change: Its change.
        certainty: How sure that is.
    """

    question: str
    name: str
    change: Delta
    certainty: Certainty


@dataclass(frozen=True, kw_only=True)
class SameWork:
    """What both sides take for the new side's amount of work, where they did another amount.

    Attributes:
        scale: The new side's work as a part of base's.
        name: What is compared, in words.
        time: Of that work, on base scaled to it, and on the new side.
        is_judged: Whether verdict and claims are about it: of whole windows.
    """

    scale: float
    name: str
    time: Delta
    is_judged: bool


@dataclass(frozen=True, kw_only=True)
class Outliers:
    """Iterations of one recording that take far longer than the others.

    Attributes:
        side: ``base`` or ``new``.
        recording: Number of the recording on its side, from 0.
        name: Its file name.
        iterations: Their numbers, from 1, warm-up counted.
        of: How many iterations there are.
        longest_ns: The longest of them.
        median_ns: Of all iterations that are compared.
        mean_ns: With them.
        mean_without_ns: Without them.
    """

    side: str
    recording: int
    name: str
    iterations: tuple[int, ...]
    of: int
    longest_ns: int
    median_ns: int
    mean_ns: int
    mean_without_ns: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything a comparison says.

    Attributes:
        verdict: The answer.
        sentence: The answer in words, with its number.
        how: How the numbers were made: units of analysis, interval, test; one sentence each.
        base: The run before.
        new: The run after.
        comparability: What was compared before any number; blocking differences first.
        delta: Change of the time per iteration; ``None`` when not comparable.
        mean_delta: Change of the mean, which also sees rare slow iterations; ``None`` when not
            comparable.
        in_these_runs: What holds for these two runs, one recording a side; None when runs were
            repeated, or the time was measured once.
        in_general: What holds for further runs too, by repeated recordings or by what runs are
            assumed to differ by; None without an interval.
        smallest_ns: The smallest change that matters; ``no_difference`` means that the interval
            lies within plus and minus this.
        waterfall: Rows of the ledger in its order, then ``remainder``; sums to ``delta.change``.
            Empty when not comparable.
        kernels: Largest change first.
        regions: Largest change first, by level.
        metrics: Launches, transfers, memory, the workload's own numbers.
        work: Kernel time by class, operator and shapes, largest change first.
        predictions: What had been predicted from its base, beside what was measured.
        sub_results: A line for each question: wall, GPU busy, causes, kernels, memory, metrics.
        same_work: The time for the same amount of work, where both sides did another amount of it;
            None else.
        amount_sentence: How much work both sides did, where that differs: launches, FLOP, bytes.
        outliers: Iterations that take far longer than the others, by recording.
        outlier_sentences: The same in words, with the change with them and without.
        machines: What the machines differ by, where they do; also where nothing else is compared.
        notes: What the reader must know besides; what could not be told, and why.
        device: Name of the device whose ledger is compared.
        devices: Names of the devices that both sides have, to choose from.
    """

    verdict: ComparisonVerdict
    sentence: str
    how: tuple[str, ...]
    base: SideSummary
    new: SideSummary
    comparability: tuple[Difference, ...]
    delta: Delta | None = None
    mean_delta: Delta | None = None
    in_these_runs: Claim | None = None
    in_general: Claim | None = None
    smallest_ns: int = 0
    waterfall: tuple[WaterfallRow, ...] = ()
    kernels: tuple[KernelChange, ...] = ()
    regions: tuple[RegionChange, ...] = ()
    metrics: tuple[MetricChange, ...] = ()
    work: tuple[WorkChange, ...] = ()
    sub_results: tuple[SubResult, ...] = ()
    predictions: tuple[PredictionOutcome, ...] = ()
    same_work: SameWork | None = None
    amount_sentence: str = ""
    outliers: tuple[Outliers, ...] = ()
    outlier_sentences: tuple[str, ...] = ()
    machines: MachineChange | None = None
    notes: tuple[str, ...] = ()
    device: str = ""
    devices: tuple[str, ...] = ()

    @property
    def judged(self) -> Delta | None:
        """The change that verdict and claims are about: for the same work, where it differs."""
        if self.same_work is not None and self.same_work.is_judged:
            return self.same_work.time
        return self.delta

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of ``whyslow compare --json``."""
        data = dataclasses.asdict(self)
        for fields, difference in zip(data["comparability"], self.comparability, strict=True):
            fields["blocking"] = difference.blocking
        for fields, metric in zip(data["metrics"], self.metrics, strict=True):
            fields["verdict"] = metric.verdict
        data["predictions"] = [outcome.to_dict() for outcome in self.predictions]
        for name, changes in self._changes().items():
            for fields, change in zip(data[name], changes, strict=True):
                fields["certainty"] = change.certainty(self.smallest_ns)
        delta = self.delta
        has_interval = delta is not None and delta.low is not None and delta.high is not None
        return {
            "schema": SCHEMA,
            **data,
            "delta_ns_per_iteration": None if delta is None else int(delta.change),
            "ci95_ns": [delta.low, delta.high] if has_interval and delta is not None else None,
            "waterfall": {row.row: row.change_ns for row in self.waterfall},
            "waterfall_rows": data["waterfall"],
        }

    def _changes(self) -> dict[str, list[Delta]]:
        return {
            "waterfall": [row.delta for row in self.waterfall],
            "kernels": [kernel.time for kernel in self.kernels],
            "regions": [region.time for region in self.regions],
            "metrics": [metric.value for metric in self.metrics],
            "work": [work.time for work in self.work],
        }

    def to_json(self) -> str:
        """Return ``to_dict`` as text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)
