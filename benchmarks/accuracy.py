"""Whether the verdicts are right: programs of known trouble, and what whyslow says about them.

Each case is simulated, written as an Nsight Systems export, opened and analysed like any other.
The truth does not come from whyslow: it is the time that the same program takes without the cause.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from analyzers import analyze
from analyzers.facts.windows import STEPS
from analyzers.finding import CAUSE_OF_ROW, Row
from analyzers.report import Report
from benchmarks.simulated import groups
from benchmarks.simulated.cases import HEALTHY, UNKNOWN, Case, Maker
from benchmarks.simulated.groups import FAMILIES
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.simulator import CAUSES, collectives_ns, execute, true_losses
from benchmarks.simulated.torch_recorder import TorchRecorder
from collectors import open_trace
from collectors.errors import RefusedError
from traces.nsys_layout import GENERATIONS

CLOSE = 0.8  # a cause that costs this part of the largest is as good a verdict
STRONG_FROM = 0.12  # of the window; what costs about the limit of 10 % may be called healthy
TOLERANCE = 0.05  # of the truth; a claim within counts as neither over nor under
CALIBRATED_FROM = 0.02  # of the window: a smaller loss is not worth a finding
WORKERS = 2
MIN_SINGLE, MIN_MIXED, MAX_MEDIAN_ERROR = 0.95, 0.85, 0.15
GROUPS = {
    "single": groups.SINGLE,
    "mixed": groups.MIXED,
    "tangled": groups.TANGLED,  # shown, not scored: no single cause is to blame
    "fine": groups.FINE,
    "work": groups.WORK,  # healthy as far as a recording without shapes tells
    "confounder": groups.CONFOUNDERS,
    "untold": groups.UNTOLD,
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """One case and its verdict.

    Attributes:
        family: Its name.
        seed: Of the case.
        expected: The cause that was planted or costs most, ``healthy`` or ``unknown``.
        right: Every verdict that counts as right.
        verdict: What whyslow said.
        window_ns: Length of the window, times the devices.
        claims: Nanoseconds that the ledger books to each cause, and findings inside kernels.
        lost: Nanoseconds that findings about each cause claim (``lost_ns``).
        truth: Nanoseconds that each cause costs.
        over_row: Whether a finding claims more than its row holds.
        defects: What is plainly wrong, whatever the verdict: a ledger that does not close, counts
            that differ from what was written, a finding that cannot be.
    """

    family: str
    seed: int
    expected: str
    right: tuple[str, ...]
    verdict: str
    window_ns: int
    claims: dict[str, int]
    lost: dict[str, int]
    truth: dict[str, int]
    over_row: bool
    defects: tuple[str, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether the verdict is right."""
        return self.verdict in self.right

    @property
    def group(self) -> str:
        """Which kind of family it is from."""
        names = {g: {f.__name__ for f in families} for g, families in GROUPS.items()}
        return next(group for group, members in names.items() if self.family in members)

    @property
    def errors(self) -> dict[str, float]:
        """Claim less truth, as a part of the window, for each cause that costs or claims some."""
        whole = max(self.window_ns, 1)
        return {
            cause: (self.claims.get(cause, 0) - true) / whole
            for cause, true in self.truth.items()
            if max(self.claims.get(cause, 0), true) >= CALIBRATED_FROM * whole
        }


def make_case(family: str, seed: int) -> Case:
    """Return the case of a family's name and a seed."""
    families = {f.__name__: f for f in FAMILIES}
    return families[family](Maker(seed))


def record_case(case: Case, seed: int) -> Recorder:
    """Simulate ``case`` and return its recording; the layout depends on the seed."""
    generation = GENERATIONS[seed % len(GENERATIONS)]
    recorder = Recorder(generation, case.program.devices, case.gpu)
    execute(case.program, recorder=recorder)
    for tweak in case.tweaks:
        tweak(recorder)
    return recorder


def _record_torch(case: Case) -> TorchRecorder:
    recorder = TorchRecorder(case.program.devices, case.gpu)
    execute(case.program, recorder=recorder)
    return recorder


def _write(case: Case, seed: int, path: Path) -> Path:
    """Write a recording, and the truth about it beside it."""
    truth = true_losses(case.program)
    description = {
        "planted": case.planted or "several",
        "window_ns": execute(case.program),
        "devices": case.program.devices,
        "lost_ns": truth,
    }
    path.with_name(f"{path.name}.truth.json").write_text(json.dumps(description, indent=1))
    if path.suffix == ".sqlite":
        return record_case(case, seed).write(path)
    return _record_torch(case).write(path)


def judge(family: str, seed: int, *, torch: bool = False) -> Result:
    """Simulate one case, analyse its recording and compare.

    Args:
        family: Its name.
        seed: Of the case.
        torch: Let it be recorded by the torch profiler instead of Nsight Systems.
    """
    case = make_case(family, seed)
    with tempfile.TemporaryDirectory(prefix="whyslow-accuracy-") as temporary:
        recorder = _record_torch(case) if torch else record_case(case, seed)
        path = recorder.write(Path(temporary) / ("case.json" if torch else "case.sqlite"))
        if case.spoil is not None:
            case.spoil(path)
        try:
            report: Report | None = analyze(open_trace(path, Path(temporary) / "cache"))
        except RefusedError:
            report = None
    # What whyslow says is of the steps where the program marks them: so is the truth then.
    of_steps = report is not None and report.window.label == STEPS
    losses = true_losses(case.program, of_steps=of_steps)
    truth = {c: ns * case.program.devices for c, ns in losses.items()}
    if of_ranks := collectives_ns(case.program):
        # Without collectives, nothing would hold ranks together: their own time is what they cost.
        truth["communication"] = of_ranks
    planted = (case.planted_with_operators if torch else "") or case.planted
    return Result(
        family=family,
        seed=seed,
        expected=planted or max(truth, key=lambda c: truth[c]),
        right=_right_verdicts(
            dataclasses.replace(case, planted=planted),
            truth,
            execute(case.program, of_steps=of_steps),
        ),
        verdict=report.verdict.cause if report else UNKNOWN,
        window_ns=sum(d.duration_ns for d in report.devices) if report else 0,
        claims=_claims(report) if report else {},
        lost=_lost(report) if report else {},
        truth=truth,
        over_row=report is not None and _claims_more_than_a_row(report),
        defects=tuple(_defects(report, recorder, case)) if report else (),
    )


def _right_verdicts(case: Case, truth: dict[str, int], window_ns: int) -> tuple[str, ...]:
    if case.planted:
        whole_ns = window_ns * case.program.devices
        weak = truth.get(case.planted, whole_ns) < STRONG_FROM * whole_ns
        weak &= not case.planted_with_operators
        return (case.planted, *case.also_right, *((HEALTHY,) if weak else ()))
    largest = max(truth.values())
    return tuple(c for c, ns in truth.items() if ns >= CLOSE * largest)


def _claims(report: Report) -> dict[str, int]:
    claims: Counter[str] = Counter()
    for device in report.devices:
        for row, cause in CAUSE_OF_ROW.items():
            claims[cause.value] += device.rows[row]
        claims["host"] -= device.unused_ns
    for finding in report.findings:
        if finding.row is Row.KERNEL:  # what kernels wait for has no row of its own
            claims[finding.cause.value] += finding.lost_ns
    return dict(claims)


def _lost(report: Report) -> dict[str, int]:
    lost: Counter[str] = Counter()
    for finding in report.findings:
        if finding.row in CAUSE_OF_ROW:
            lost[CAUSE_OF_ROW[finding.row].value] += finding.lost_ns
        elif finding.row is Row.KERNEL:  # what kernels wait for has no row of its own
            lost[finding.cause.value] += finding.lost_ns
    return dict(lost)


def _defects(report: Report, recorder: Recorder | TorchRecorder, case: Case) -> Iterator[str]:
    if any(sum(d.rows.values()) != d.duration_ns for d in report.devices):
        yield "the ledger does not close"
    written = {table: recorder.count(table) for table in ("KERNEL", "MEMCPY", "RUNTIME")}
    read = {
        "KERNEL": report.totals["kernels"]["count"],
        "MEMCPY": sum(c["count"] for c in report.totals["copies"].values()),
        "RUNTIME": report.totals["api_calls"]["count"],
    }
    written["KERNEL"] -= case.impossible
    if written != read:
        yield f"wrote {written}, read {read}"
    yield from (f"finding {f.id}" for f in report.findings if f.id in case.never)
    titles = {f.id: f.title for f in report.findings}
    has = (*case.has, *(case.has_with_operators if isinstance(recorder, TorchRecorder) else ()))
    yield from (f"no {name}: {words}" for name, words in has if words not in titles.get(name, ""))
    if isinstance(recorder, TorchRecorder):
        yield from case.misjudged({f.id: (f.low_ns, f.high_ns) for f in report.findings})


def _claims_more_than_a_row(report: Report) -> bool:
    claimed: Counter[Row] = Counter()
    for finding in report.findings:
        claimed[finding.row] += finding.lost_ns
    return any(ns > sum(d.rows[row] for d in report.devices) for row, ns in claimed.items())


def run(seeds: int, workers: int = WORKERS, *, torch: bool = False, first: int = 0) -> list[Result]:
    """Judge ``seeds`` cases from the seed ``first`` on, going round the families.

    With ``torch``, cases are left out that only differ in what Nsight Systems wrote down.
    """
    numbers = range(first, first + seeds)
    chosen = [(FAMILIES[seed % len(FAMILIES)].__name__, seed) for seed in numbers]
    if torch:
        chosen = [c for c in chosen if not (_is_about_nsys(make_case(*c)))]
    names, seeds_of = zip(*chosen, strict=True)
    ask = functools.partial(judge, torch=torch)
    if workers == 1:
        return list(map(ask, names, seeds_of))
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(ask, names, seeds_of, chunksize=4))


def _is_about_nsys(case: Case) -> bool:
    """Tell whether a torch trace would not show what the case is about.

    It is of one process: in traces of several that were merged, equal numbers of GPUs may be
    GPUs of different machines.
    """
    processes = {thread.process for thread in case.program.threads}
    return bool(case.tweaks) or case.spoil is not None or len(processes) > case.program.devices


def confusion(results: Iterable[Result]) -> list[str]:
    """Return the confusion matrix as lines of text: expected by verdict."""
    counts = Counter((r.expected, r.verdict) for r in results)
    rows = sorted({e for e, _ in counts})
    columns = sorted({e for e, _ in counts} | {v for _, v in counts})
    width = max(len(c) for c in columns) + 2
    lines = ["expected".ljust(16) + "".join(c.rjust(width) for c in columns)]
    for row in rows:
        cells = (counts[row, c] for c in columns)
        lines.append(row.ljust(16) + "".join((str(n) if n else "·").rjust(width) for n in cells))
    return lines


def precision_and_recall(results: Sequence[Result]) -> dict[str, tuple[float, float]]:
    """Return both for each expected cause; a verdict that is right otherwise counts as right."""
    scores = {}
    for cause in sorted({r.expected for r in results}):
        of_cause = [r for r in results if r.expected == cause]
        with_verdict = [r for r in results if r.verdict == cause]
        recall = sum(r.is_right for r in of_cause) / len(of_cause)
        scores[cause] = (
            sum(r.is_right for r in with_verdict) / len(with_verdict) if with_verdict else 1.0,
            recall,
        )
    return scores


def macro(results: Sequence[Result]) -> tuple[float, float]:
    """Return the mean precision and recall over causes."""
    scores = precision_and_recall(results).values()
    if not scores:
        return 1.0, 1.0
    return statistics.mean(p for p, _ in scores), statistics.mean(r for _, r in scores)


@dataclass(frozen=True, kw_only=True)
class AccuracyFigures:
    """What ``--check`` looks at."""

    single: tuple[float, float]
    mixed: tuple[float, float]
    work: tuple[float, float]
    false_alarms: int
    abstained: float
    median_error: float
    p95_error: float
    over_row: int
    defects: int

    def misses(self) -> list[str]:
        """Return the limits that are not kept."""
        checks = (
            (min(self.single) >= MIN_SINGLE, f"single causes: {self.single}"),
            (min(self.work) >= MIN_SINGLE, f"work of kernels: {self.work}"),
            (min(self.mixed) >= MIN_MIXED, f"mixed causes: {self.mixed}"),
            (self.false_alarms == 0, f"false alarms: {self.false_alarms}"),
            (self.abstained == 1, f"abstained where due: {self.abstained:.0%}"),
            (self.median_error <= MAX_MEDIAN_ERROR, f"median error: {self.median_error:.3f}"),
            (self.over_row == 0, f"findings above their row: {self.over_row}"),
            (self.defects == 0, f"cases with a defect: {self.defects}"),
        )
        return [text for kept, text in checks if not kept]


def figures(results: Sequence[Result]) -> AccuracyFigures:
    """Return the figures that ``--check`` looks at."""
    of = {g: [r for r in results if r.group == g] for g in GROUPS}
    fine = [r for r in (*of["fine"], *of["confounder"]) if r.expected == HEALTHY]
    errors = [abs(e) for e in relative_errors([*of["single"], *of["mixed"]])]
    return AccuracyFigures(
        single=macro(of["single"]),
        mixed=macro(of["mixed"]),
        work=macro(of["work"]),
        false_alarms=sum(not r.is_right for r in fine),
        abstained=_mean([float(r.is_right) for r in of["untold"]]),
        median_error=statistics.median(errors) if errors else 0.0,
        p95_error=sorted(errors)[int(0.95 * (len(errors) - 1))] if errors else 0.0,
        over_row=sum(r.over_row for r in results),
        defects=sum(bool(r.defects) for r in results),
    )


def relative_errors(results: Iterable[Result]) -> list[float]:
    """Return how far each cause's ``lost_ns`` is from the truth, in parts of the truth.

    Positive is claimed too much. A cause that costs something worth a finding and has none is -1.
    """
    return [
        (r.lost.get(cause, 0) - truth) / truth
        for r in results
        for cause, truth in r.truth.items()
        if truth >= CALIBRATED_FROM * max(r.window_ns, 1)
    ]


def _mean(values: Sequence[float]) -> float:
    return statistics.mean(values) if values else 1.0


def _calibration(results: Sequence[Result]) -> list[str]:
    head = ("cause", "cases", "median error", "p95 error", "over", "under", "no finding")
    lines = ["{:<16}{:>6}{:>14}{:>11}{:>7}{:>7}{:>12}".format(*head)]
    for cause in CAUSES:
        errors = relative_errors(
            dataclasses.replace(r, truth=_only(r.truth, cause)) for r in results
        )
        if not errors:
            continue
        sizes = sorted(abs(e) for e in errors)
        p95 = sizes[int(0.95 * (len(sizes) - 1))]
        over, under = sum(e > TOLERANCE for e in errors), sum(-1 < e < -TOLERANCE for e in errors)
        lines.append(
            f"{cause:<16}{len(errors):>6}{statistics.median(sizes):>14.1%}{p95:>11.1%}"
            f"{over:>7}{under:>7}{errors.count(-1.0):>12}"
        )
    return lines


def _only(truth: dict[str, int], cause: str) -> dict[str, int]:
    return {c: ns for c, ns in truth.items() if c == cause}


def _worst(results: Sequence[Result], count: int = 10) -> list[str]:
    def badness(result: Result) -> tuple[bool, float]:
        is_wrong = not result.is_right or bool(result.defects)
        return is_wrong, max((abs(e) for e in result.errors.values()), default=0.0)

    scored = [r for r in results if r.group not in ("tangled", "untold") or not r.is_right]
    ranked = sorted(scored, key=badness, reverse=True)[:count]
    return [
        f"{r.family} seed {r.seed}: expected {r.expected}, said {r.verdict}, "
        f"{''.join(f'{d}, ' for d in r.defects)}"
        f"largest error {badness(r)[1]:.0%} of the window; "
        f"python -m benchmarks.accuracy --case {r.family} {r.seed} --out case.sqlite "
        "&& whyslow open case.sqlite"
        for r in ranked
    ]


def real_lines(folder: Path, labels: Path) -> tuple[list[str], int]:
    """Score labelled real recordings; return lines and how many were wrong."""
    lines, wrong = [], 0
    for label in json.loads(labels.read_text(encoding="utf-8")):
        matches = sorted(folder.rglob(label["file"]))
        if not matches:
            lines.append(f"absent   {label['file']}")
            continue
        with tempfile.TemporaryDirectory(prefix="whyslow-accuracy-") as temporary:
            report = analyze(open_trace(matches[0], Path(temporary)))
        allowed = [*label["expected"], *label.get("allowed", [])]
        right = report.verdict.cause in allowed
        wrong += not right
        lines.append(
            f"{'right' if right else 'WRONG':<9}{label['file'][-60:]}: {report.verdict.cause}, "
            f"expected {' or '.join(allowed)} ({label['reason']})"
        )
    return lines, wrong


def print_results(results: Sequence[Result], seconds: float) -> AccuracyFigures:
    """Print every table and return the figures."""
    for group in GROUPS:
        members = [r for r in results if r.group == group]
        if members:
            print(f"\n{group}: expected (down) and verdict (across), {len(members)} cases")
            print("\n".join(confusion(members)))
    print("\nprecision and recall of single causes")
    single = [r for r in results if r.group == "single"]
    for cause, (precision, recall) in precision_and_recall(single).items():
        print(f"{cause:<16}{precision:>8.1%}{recall:>8.1%}")
    print("\nlost_ns of findings, beside the time that the program takes without the cause")
    print("\n".join(_calibration([r for r in results if r.group in ("single", "mixed")])))
    print("\nworst cases")
    print("\n".join(_worst(results)))
    summary = figures(results)
    print(f"\ncases                          {len(results)} in {seconds:.0f} s")
    print(f"single: macro precision/recall {summary.single[0]:.3f} / {summary.single[1]:.3f}")
    print(f"mixed: macro precision/recall  {summary.mixed[0]:.3f} / {summary.mixed[1]:.3f}")
    print(f"work: macro precision/recall   {summary.work[0]:.3f} / {summary.work[1]:.3f}")
    print(f"false alarms on healthy        {summary.false_alarms}")
    print(f"abstained where due            {summary.abstained:.1%}")
    print(
        f"error of the losses            {summary.median_error:.1%} median, "
        f"{summary.p95_error:.1%} p95"
    )
    print(f"findings above their row       {summary.over_row}")
    print(f"cases with another defect      {summary.defects}")
    return summary


def main() -> int:
    """Run, print and check; 1 when ``--check`` was given and a limit was not kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=500, help="cases to simulate")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="where to begin")
    parser.add_argument("--check", action="store_true", help="exit 1 when a limit is not kept")
    parser.add_argument("--torch", action="store_true", help="as traces of the torch profiler")
    parser.add_argument("--case", nargs=2, metavar=("FAMILY", "SEED"), help="write one case")
    out = "where to: .sqlite as nsys exports, .json or .json.gz as the torch profiler writes"
    parser.add_argument("--out", type=Path, default=Path("case.sqlite"), help=out)
    parser.add_argument("--real", type=Path, metavar="DIR", help="score labelled recordings")
    labels = Path(__file__).with_name("real_labels.json")
    parser.add_argument("--labels", type=Path, default=labels, help="of --real")
    options = parser.parse_args()
    if options.case:
        family, seed = options.case[0], int(options.case[1])
        print(_write(make_case(family, seed), seed, options.out))
        return 0
    if options.real:
        lines, wrong = real_lines(options.real, options.labels)
        print("\n".join(lines))
        return int(bool(wrong))
    begin = time.perf_counter()
    results = run(options.seeds, torch=options.torch, first=options.first)
    summary = print_results(results, time.perf_counter() - begin)
    misses = summary.misses() if options.check else []
    for miss in misses:
        print(f"not kept: {miss}")
    return int(bool(misses))


if __name__ == "__main__":
    sys.exit(main())
