"""What a capture on a GPU machine found: verdicts, speed-ups and losses, as a table and as files.

At most eight files are written: results, table, log, and recordings in archives.
"""

from __future__ import annotations

import dataclasses
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workloads import harness

RESULTS, TABLE, LOG = "results.json", "table.md", "log.txt"
ARCHIVES = 5  # beside the three above: eight files
ARCHIVE_BYTES = 15 << 20
RESAMPLES = 10_000
WON_BACK = 0.5  # a twin that keeps its cause must have lost at least so much of the loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedRecording:
    """One recording of one twin, and what whyslow says about it.

    Attributes:
        role: ``baseline`` or ``optimized``.
        tool: ``torch``, ``ncu`` or ``nsys``.
        steps: Measured steps in it.
        file: Its name; "" when there is none.
        note: Why there is none, or why it was not judged.
        cause: The verdict's cause; "" when it was not judged.
        sentence: The verdict.
        lost_ns: What whyslow booked to the pair's cause, or what else is right, in all steps.
    """

    role: str
    tool: str
    steps: int
    file: str = ""
    note: str = ""
    cause: str = ""
    sentence: str = ""
    lost_ns: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairOutcome:
    """One pair: how long its steps took, whether its results agree, and its recordings.

    Attributes:
        name: The pair.
        cause: What whyslow should say about the baseline.
        also: What else is right.
        seen_by: ``timeline`` or ``counters``.
        step_ns: Mean time of a measured step, for each run, by role.
        agree: Whether every run had the same result; ``None`` when nothing ran.
        note: Why it did not run.
        recordings: What was recorded.
    """

    name: str
    cause: str
    also: tuple[str, ...]
    seen_by: str
    step_ns: dict[str, list[float]]
    agree: bool | None = None
    note: str = ""
    recordings: tuple[JudgedRecording, ...] = ()


def outcome_from(pair: dict[str, Any]) -> PairOutcome:
    """Return one of the outcomes that ``write`` wrote."""
    fields = {f.name for f in dataclasses.fields(PairOutcome)}
    values = {key: value for key, value in pair.items() if key in fields}
    recordings = tuple(JudgedRecording(**recording) for recording in pair["recordings"])
    return PairOutcome(**{**values, "also": tuple(pair["also"]), "recordings": recordings})


def write(
    folder: Path, outcomes: Sequence[PairOutcome], environment: dict[str, Any], device: str
) -> None:
    """Write results and table."""
    pairs = [
        {**dataclasses.asdict(o), "speed_up": speed_up(o.step_ns), "holds": holds(o)}
        for o in outcomes
    ]
    results = {"schema": 1, "device": device, "environment": environment, "pairs": pairs}
    (folder / RESULTS).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / TABLE).write_text(table(outcomes, environment, device), encoding="utf-8")


def pack(folder: Path, out: Path, outcomes: Iterable[PairOutcome]) -> list[str]:
    """Put recordings, smallest first, and the log into ``out``; return what did not fit."""
    for old in out.glob("recordings_*.tar"):
        old.unlink()
    if (folder / LOG).is_file():
        text = (folder / LOG).read_bytes()
        (out / LOG).write_bytes(text[-ARCHIVE_BYTES:])
    names = [r.file for outcome in outcomes for r in outcome.recordings if r.file]
    files = sorted((folder / name for name in names), key=lambda path: path.stat().st_size)
    number, filled, left_out = 1, 0, []
    for path in files:
        sidecar = path.with_name(f"{path.name}.workload.json")
        together = [p for p in (path, sidecar) if p.is_file()]
        size = sum(p.stat().st_size + 2 * tarfile.BLOCKSIZE for p in together)
        if filled and filled + size > ARCHIVE_BYTES:
            number, filled = number + 1, 0
        if number > ARCHIVES or size > ARCHIVE_BYTES:
            left_out.append(path.name)
            continue
        with tarfile.open(out / f"recordings_{number}.tar", "a") as tar:
            for p in together:
                tar.add(p, p.name, filter=_without_owner)
        filled += size
    return left_out


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def speed_up(step_ns: dict[str, list[float]]) -> dict[str, float] | None:
    """Return how many times faster the twin's steps are, with a 95 % interval over runs.

    Each run of the baseline is compared with the twin's run beside it; the interval is that of the
    geometric mean, by bootstrap. ``None`` without two runs of both.
    """
    runs = min(len(values) for values in step_ns.values())
    if runs < 2:
        return None
    slow, fast = (np.array(step_ns[role][:runs]) for role in harness.ROLES)
    ratios = np.log(slow / fast)
    chosen = np.random.default_rng(0).integers(runs, size=(RESAMPLES, runs))
    low, high = np.quantile(ratios[chosen].mean(axis=1), [0.025, 0.975])
    times, low, high = np.exp([ratios.mean(), low, high])
    return {"times": float(times), "low": float(low), "high": float(high), "runs": runs}


def deciding(outcome: PairOutcome, role: str) -> JudgedRecording | None:
    """Return the recording that can show the pair's cause."""
    tools = ("ncu",) if outcome.seen_by == "counters" else ("torch", "nsys")
    of_role = [r for r in outcome.recordings if r.role == role and r.tool in tools]
    return next((r for r in of_role if r.cause), of_role[0] if of_role else None)


def holds(outcome: PairOutcome) -> bool | None:
    """Tell whether whyslow was right about both twins; ``None`` when it could not tell.

    The twin's verdict may stay the same where another limit of the same kind comes next (memory is
    still what bounds a fused chain), but then most of the loss must be gone.
    """
    slow, fast = (deciding(outcome, role) for role in harness.ROLES)
    if slow is None or fast is None or {"", "unknown"} & {slow.cause, fast.cause}:
        return None
    right = {outcome.cause, *outcome.also}
    won_back = fast.lost_ns / fast.steps <= (1 - WON_BACK) * slow.lost_ns / slow.steps
    return slow.cause in right and (fast.cause not in right or won_back)


def table(outcomes: Sequence[PairOutcome], environment: dict[str, Any], device: str) -> str:
    """Return the Markdown table, and below it what is missing and why."""
    where = environment.get("gpu") or f"{environment.get('cpu', 'a CPU')}, no GPU: a smoke test"
    versions = f"torch {environment.get('torch')}, driver {environment.get('driver')}"
    lines = [
        f"{where}; {versions}" if device == "cuda" else where,
        "",
        "| Pair | Expected | Baseline | Optimized | Right | Speed-up (95 %) | Loss per step |",
        "|---|---|---|---|---|--:|--:|",
        *(_row(outcome) for outcome in outcomes),
        "",
    ]
    for outcome in outcomes:
        notes = {outcome.note} if outcome.note else set()
        notes |= {
            f"{r.tool}: {r.note}" for r in outcome.recordings if r.note and r.note not in notes
        }
        if outcome.agree is False:
            notes.add("the results of its twins differ")
        lines += [f"- {outcome.name}: {note}" for note in sorted(notes)]
    if any(r.tool == "nsys" and r.file for outcome in outcomes for r in outcome.recordings):
        lines.append(
            "- The recordings of nsys hold names, and as root the environments, of all processes "
            "that ran: look through them before you pass them on"
        )
    return "\n".join(lines) + "\n"


def _row(outcome: PairOutcome) -> str:
    slow, fast = (deciding(outcome, role) for role in harness.ROLES)
    times = speed_up(outcome.step_ns)
    cells = (
        outcome.name,
        " or ".join((outcome.cause, *outcome.also)),
        _verdict(slow),
        _verdict(fast),
        {True: "yes", False: "**no**", None: "cannot tell"}[holds(outcome)],
        f"{times['times']:.2f} times ({times['low']:.2f} to {times['high']:.2f})"
        if times
        else "not run",
        f"{_loss(slow)} → {_loss(fast)}",
    )
    return f"| {' | '.join(cells)} |"


def _verdict(recording: JudgedRecording | None) -> str:
    if recording is None or not recording.file:
        return "not recorded"
    return f"{recording.cause or 'not judged'} ({recording.tool})"


def _loss(recording: JudgedRecording | None) -> str:
    if recording is None or recording.cause in ("", "unknown"):
        return "?"
    return f"{recording.lost_ns / recording.steps / 1e3:,.1f} µs"
