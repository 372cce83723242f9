"""What was predicted of each program, and what became of it: kept beyond the traces.

``<data folder>/predictions/<key>.json`` holds one program: what it is known by, its recordings with
what was predicted from each, and the comparisons that set measurements beside them. Recordings come
and go; this stays, as small as it is. Nobody but the user can read it; what is damaged is set aside
and begun anew.

Two recordings are of one program if what ran is called the same, and they share a kernel; where it
is an interpreter, or no name was recorded, if half of the names of their kernels and ranges are the
same.

In plain text are kept: names of recordings and of executables, both without folders, and the names
of kernels that the user asked about with ``--speed-up``. All other names of kernels and ranges are
kept as unsalted digests of 48 bits: none can be read from them, but whoever has the file can test
whether a name that he knows is among them.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import time
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from analyzers.facts.window_request import parse_request
from common.platform import file_lock
from library import kept_answers
from library.cache import data_dir
from library.predicted_programs import (
    KeptOutcome,
    KeptPrediction,
    PredictedProgram,
    PredictedRecording,
    bounded,
    neighbours_of,
    pair_of,
    pairs_with,
)

if TYPE_CHECKING:
    from pathlib import Path

    from analyzers.compare.prediction_outcomes import PredictedSpeedup, PredictionOutcome
    from analyzers.compare.types import Comparison
    from analyzers.facts.facts import Facts
    from analyzers.report import Report
    from analyzers.whatif.whatif import WhatIf
    from collectors.trace import Trace

MAX_PROGRAMS = 64
MAX_RECORDINGS = 32  # of a program
MAX_PREDICTIONS = 24  # of a recording
MAX_NAMES = 256  # that a program is known by: the smallest numbers, a sample that any two share
MAX_COUNTED = 2_000  # names of kernels or ranges that are looked at
MIN_ALIKE = 0.5  # of the names of either, for programs that an interpreter runs
KERNEL = "kernel:"  # how changes of kernels begin that have a name
_DIGITS = re.compile(r"\d+")
_INTERPRETER = re.compile(r"python[0-9.]*|java|julia|node|perl|ruby|(ba|da|z)?sh|mpi(run|exec)")
LOG = logging.getLogger(__name__)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What tells whether two recordings are of one program.

    Attributes:
        executables: Names of the processes that used a GPU, without folders, sorted.
        kernels: Numbers of the short names of its kernels, sorted.
        names: Numbers of these and of its ranges.
    """

    executables: tuple[str, ...]
    kernels: tuple[int, ...]
    names: tuple[int, ...]


# --- what is kept ---------------------------------------------------------------------------------


def keep_findings(facts: Facts, report: Report) -> None:
    """Keep what a diagnosis predicts; a defect in that must not cost the diagnosis."""
    from analyzers.speedups import CLOSE

    gains = {f.predicted_gain.change: f.predicted_gain for f in report.findings if f.predicted_gain}
    predictions = [
        KeptPrediction(
            change=gain.change,
            title=gain.title,
            low=gain.window_ns / max(gain.window_ns - gain.low_ns, 1),
            high=gain.window_ns / max(gain.window_ns - gain.high_ns, 1),
        )
        for gain in sorted(gains.values(), key=lambda g: -(g.low_ns + g.high_ns))
    ]
    _keep(facts, [p for p in predictions if p.high >= 1 + CLOSE])  # less is no promise


def keep_what_if(facts: Facts, answer: WhatIf, speed_ups: Sequence[tuple[str, float]] = ()) -> None:
    """Keep what a replay predicts of whole changes; a defect in that must not cost the answer.

    Args:
        facts: The recording.
        answer: Every prediction.
        speed_ups: Parts of kernel names that the user asked about, and how many times as fast those
            kernels become. Predictions of other kernels are no advice, only a measure of what they
            weigh; they are not kept, and neither are their names.
    """
    typed_changes = typed_kernels([p.change for p in answer.predictions], speed_ups)
    _keep(
        facts,
        [
            KeptPrediction(change=p.change, title=p.title, low=p.speedup[0], high=p.speedup[1])
            for p in answer.predictions
            # Parts of a change, such as waits of one function, leave no trace of their own.
            if p.wins
            and (p.change in typed_changes or not p.change.startswith(("sync:", "host:", KERNEL)))
        ],
    )


def typed_kernels(changes: Collection[str], speed_ups: Sequence[tuple[str, float]]) -> set[str]:
    """Return those changes that the user asked for by a part of a kernel's name.

    Such a change is named by that part; where it is part of one name only, by that name.

    Args:
        changes: Of an answer, ``kernel:NAME:TIMES`` among them.
        speed_ups: Parts of names, and how many times as fast.
    """
    typed_changes: set[str] = set()
    for part, times in speed_ups:
        of_all = f"{KERNEL}{part}:{times:g}"
        of_one = (
            c
            for c in changes
            if c.startswith(KERNEL)
            and c.endswith(f":{times:g}")
            and part.casefold() in c.removeprefix(KERNEL).rpartition(":")[0].casefold()
        )
        typed_changes.update([of_all] if of_all in changes else of_one)
    return typed_changes


def _keep(facts: Facts, predictions: Sequence[KeptPrediction]) -> None:
    try:
        identity = identity_of(facts)
        if identity.kernels:
            source = facts.trace.source
            recording = PredictedRecording(
                sha256=source.sha256,
                trace_id=facts.trace.id,
                name=source.name,
                made_utc_ns=source.start_utc_ns,
                opened_utc_ns=time.time_ns(),
                predictions=tuple(predictions[:MAX_PREDICTIONS]),
            )
            with contextlib.suppress(OSError):  # a full disk is told by what needs it
                add_recording(identity, recording)
    except Exception:
        LOG.exception("predictions were not kept")


def identity_of(facts: Facts) -> Identity:
    """Return what a recording's program is known by."""
    trace = facts.trace
    processes = trace.frame("processes", ["process", "name"])
    indexes = facts.launches["process_index"].unique()
    used = set(facts.process_keys[indexes[indexes >= 0]].tolist())
    executables = {
        str(name).replace("\\", "/").rpartition("/")[2]
        for key, name in zip(processes["process"], processes["name"], strict=True)
        if key in used and name
    }
    short = trace.columns("kernels", ["short_name_id"])["short_name_id"]
    kernels = {_number(n) for n in _most_frequent(trace, short)}
    # Names that count, "batch 17", are one name.
    marks = {_number(_DIGITS.sub("#", n)) for n in _most_frequent(trace, facts.ranges["name_id"])}
    return Identity(
        executables=tuple(sorted(executables)),
        kernels=tuple(sorted(kernels)),
        names=tuple(sorted(kernels | marks)[:MAX_NAMES]),
    )


def _most_frequent(trace: Trace, name_ids: Any) -> list[str]:
    """Return the names that come most often, so many that it takes no time."""
    import pandas as pd

    ids = pd.Series(name_ids).value_counts().index[:MAX_COUNTED].to_numpy()
    return [str(name) for name in trace.names(ids) if name] if len(ids) else []


def _number(name: str) -> int:
    digest = hashlib.blake2b(str(name).encode("utf-8", "replace"), digest_size=6).digest()
    return int.from_bytes(digest, "big")


def is_of(identity: Identity, program: PredictedProgram) -> bool:
    """Tell whether a recording is of a program; see the rule above."""
    if identity.executables and program.executables:
        if identity.executables != program.executables:
            return False
        if not all(_INTERPRETER.fullmatch(name) for name in identity.executables):
            return bool(set(identity.kernels) & set(program.kernels or program.names))
    one, other = set(identity.names), set(program.names)
    sample = set(sorted(one | other)[:MAX_NAMES])  # Broder's bottom-k sketch of the similarity
    return len(sample & one & other) >= MIN_ALIKE * max(len(sample), 1)


def add_recording(identity: Identity, recording: PredictedRecording) -> None:
    """Keep a recording with what was predicted from it, beside others of its program.

    Raises:
        OSError: The disk is full or cannot be written.
    """
    with _locked():
        programs = all_programs()
        own = next((p for p in programs if _recording(p, recording.sha256) is not None), None)
        own = own or next((p for p in programs if is_of(identity, p)), None)
        own = own or _new_program(identity, recording, {p.key for p in programs})
        before = _recording(own, recording.sha256)
        if before is not None:
            recording = _merged(before, recording)
        others = [r for r in own.recordings if r.sha256 != recording.sha256]
        recordings = sorted([*others, recording], key=lambda r: r.opened_utc_ns)
        _write(
            msgspec.structs.replace(
                own,
                executables=identity.executables or own.executables,
                names=identity.names,
                kernels=identity.kernels,
                recordings=tuple(recordings[-MAX_RECORDINGS:]),
                # What brought nothing is tried again, since its recording was read anew.
                compared=tuple(p for p in own.compared if recording.sha256 not in p),
            )
        )


def _new_program(
    identity: Identity, recording: PredictedRecording, taken: Collection[str]
) -> PredictedProgram:
    """Return the program of a recording that is of none of those that could be read."""
    key = hashlib.sha256(recording.sha256.encode()).hexdigest()[:24]
    if key in taken:  # by a program that began with this recording and has changed since
        key = hashlib.sha256(f"{key} {recording.opened_utc_ns}".encode()).hexdigest()[:24]
    binaries = [n for n in identity.executables if not _INTERPRETER.fullmatch(n)]
    name = ", ".join(binaries) or recording.name
    program = PredictedProgram(key=key, name=name, executables=(), names=())
    if _path(program).exists():  # and could not be read: nothing may take its place
        raise OSError(f"{_path(program)} cannot be read")
    return program


def _merged(before: PredictedRecording, now: PredictedRecording) -> PredictedRecording:
    """Return a recording with what was predicted anew, and what was predicted only before."""
    changes = {p.change for p in now.predictions}
    kept = (*now.predictions, *(p for p in before.predictions if p.change not in changes))
    return msgspec.structs.replace(
        now, opened_utc_ns=before.opened_utc_ns, predictions=kept[:MAX_PREDICTIONS]
    )


def _recording(program: PredictedProgram, sha256: str) -> PredictedRecording | None:
    return next((r for r in program.recordings if r.sha256 == sha256), None)


# --- what became of it ----------------------------------------------------------------------------


def with_outcomes(comparison: Comparison) -> Comparison:
    """Return a comparison with what had been predicted of its base, and keep what became of it.

    Predictions are about the program, so a comparison of a part that somebody chose tests none. A
    defect in that, or a full disk, must not cost the comparison.
    """
    import dataclasses

    from analyzers.compare.outcomes import prediction_outcomes

    try:
        for recording in comparison.base.recordings:
            if parse_request(recording.request).window:
                continue
            predictions = predictions_from(recording.sha256)
            outcomes = prediction_outcomes(comparison, predictions) if predictions else ()
            if outcomes:
                with contextlib.suppress(OSError):  # a full disk costs the table, not the answer
                    _keep_outcomes(comparison, recording.sha256, outcomes)
                return dataclasses.replace(comparison, predictions=outcomes)
    except Exception:
        LOG.exception("predictions were not set beside the comparison")
    return comparison


def predictions_from(sha256: str) -> list[PredictedSpeedup]:
    """Return what was predicted from a recording, the largest gain first."""
    from analyzers.compare.prediction_outcomes import PredictedSpeedup

    recordings = (_recording(program, sha256) for program in all_programs())
    own = next((r for r in recordings if r is not None), None)
    kept = own.predictions if own is not None else ()
    speedups = [
        PredictedSpeedup(change=p.change, title=p.title, low=p.low, high=p.high) for p in kept
    ]
    return sorted(speedups, key=lambda p: -(p.low + p.high))


def _keep_outcomes(
    comparison: Comparison, base_sha256: str, outcomes: Sequence[PredictionOutcome]
) -> None:
    names = {r.sha256: r.name for r in comparison.base.recordings}
    new = comparison.new.recordings[0]
    kept = [
        KeptOutcome(
            base_sha256=base_sha256,
            new_sha256=new.sha256,
            base_name=names[base_sha256],
            new_name=new.name,
            prediction=KeptPrediction(
                change=o.predicted.change,
                title=o.predicted.title,
                low=o.predicted.low,
                high=o.predicted.high,
            ),
            outcome=o.outcome.value,
            evidence=o.evidence,
            speedup=o.speedup,
            low=o.low,
            high=o.high,
        )
        for o in outcomes
    ]
    with _locked():
        for program in all_programs():
            if _recording(program, base_sha256) is None:
                continue
            pair = base_sha256, new.sha256
            others = [o for o in program.outcomes if pair_of(o) != pair]
            outcomes_of_all = bounded([*others, *kept], program.recordings)
            compared = pairs_with(program, pair)
            if (outcomes_of_all, compared) != (program.outcomes, program.compared):
                _write(
                    msgspec.structs.replace(program, outcomes=outcomes_of_all, compared=compared)
                )


def keep_attempt(base: PredictedRecording, new: PredictedRecording) -> None:
    """Keep that two recordings were compared, whatever came of it.

    Raises:
        OSError: The disk is full or cannot be written.
    """
    with _locked():
        for program in all_programs():
            if _recording(program, base.sha256) is None:
                continue
            compared = pairs_with(program, (base.sha256, new.sha256))
            if compared != program.compared:
                _write(msgspec.structs.replace(program, compared=compared))


def pairs_to_compare(
    program: PredictedProgram,
) -> list[tuple[PredictedRecording, PredictedRecording]]:
    """Return each recording with predictions and the next one of the program, not compared yet."""
    compared = {*program.compared, *map(pair_of, program.outcomes)}
    return [
        (base, new)
        for base, new in neighbours_of(program.recordings)
        if base.predictions and (base.sha256, new.sha256) not in compared
    ]


# --- files ----------------------------------------------------------------------------------------


def folder() -> Path:
    """Return where programs are kept."""
    return data_dir() / "predictions"


def all_programs() -> list[PredictedProgram]:
    """Return every program, the one whose file was written last first."""
    files = sorted(folder().glob("*.json"), key=_age, reverse=True)
    loaded = (kept_answers.load(file, _decoder, is_remade=False) for file in files)
    return [program for program in loaded if program is not None]


def _age(file: Path) -> int:
    with contextlib.suppress(OSError):  # another process deletes the same ones
        return file.stat().st_mtime_ns
    return 0


def _decoder(data: Any) -> PredictedProgram:
    return msgspec.convert(data, PredictedProgram)


def _path(program: PredictedProgram) -> Path:
    return folder() / f"{program.key}.json"


def _write(program: PredictedProgram) -> None:
    data = msgspec.to_builtins(program)
    kept_answers.save(_path(program), data, MAX_PROGRAMS, is_private=True)


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Let one process at a time read and write what is kept."""
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    with file_lock(folder() / "lock"):
        yield
