"""One run of a program under the torch profiler, which the program or a hook starts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from collectors.capture.recorded import (
    NotForThisError,
    Recorded,
    has_content,
    keep,
    no_recording,
    private_folder,
)
from collectors.capture.run import GuardedProgram, run_guarded

NO_TORCH_SEEN = (
    "no Python that it started imported torch with PYTHONPATH in effect (python -I and -E "
    "ignore it); call the torch profiler in the program itself, and open what it exports"
)

_HOOK = Path(__file__).with_name("torch_hook.py")


def run_torch(program: GuardedProgram, target: Path) -> Recorded:
    """Record a program that writes a torch profiler trace when asked with ``--torch-trace``.

    Args:
        program: What is run, without that option.
        target: Where the trace is put; ends with ``.json.gz``.

    Raises:
        RefusedError: There is no trace afterwards.
        EnvironmentFailedError: The disk is full.
    """
    with private_folder(program) as private:
        trace = private / "trace.json.gz"
        command = [*program.command, "--torch-trace", str(trace)]
        ending = run_guarded(command, program, private)
        if not has_content(trace):
            raise no_recording("the torch profiler", ending, target.parent)
        keep(trace, target)
    return Recorded(path=target, ending=ending)


def run_torch_hook(program: GuardedProgram, target: Path) -> Recorded:
    """Record any program that imports torch, by starting its profiler from within.

    The hook is a ``sitecustomize`` module, which Python imports when it starts. It waits until
    torch was imported, records from there on, and writes the trace when the program exits.

    Raises:
        NotForThisError: The program ended well and never imported torch.
        RefusedError: There is no trace afterwards.
        EnvironmentFailedError: The disk is full.
    """
    with private_folder(program) as private:
        hook, traces = private / "hook", private / "traces"
        hook.mkdir()
        traces.mkdir()
        shutil.copy(_HOOK, hook / "sitecustomize.py")
        paths = [str(hook), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables = {"PYTHONPATH": os.pathsep.join(paths), "WHYSLOW_TORCH_TRACES": str(traces)}
        ending = run_guarded(program.command, program, private, variables)
        written = sorted(traces.glob("*.json.gz"), key=lambda p: p.stat().st_size, reverse=True)
        if not written:
            if not ending.trouble() and not any(traces.iterdir()):
                raise NotForThisError(f"the torch profiler left no recording: {NO_TORCH_SEEN}")
            raise no_recording("the torch profiler", ending, target.parent, _why_no_trace(traces))
        notes = [
            f"process {path.stem}: {path.read_text(encoding='utf-8', errors='replace')}"
            for path in sorted(traces.glob("*.note"))
        ]
        more = [_further(target, number) for number in range(2, len(written) + 1)]
        for source, place in zip(written, [target, *more], strict=True):
            keep(source, place)
        if more:
            notes.append(f"{len(written)} processes used torch; the largest trace is shown")
    return Recorded(path=target, ending=ending, notes=tuple(notes), more=tuple(more))


def _why_no_trace(traces: Path) -> str:
    notes = sorted(traces.glob("*.note"))
    if notes:
        return notes[0].read_text(encoding="utf-8", errors="replace")
    if any(traces.glob("*.began")):
        return "the program was ended before the profiler could write"
    return NO_TORCH_SEEN


def _further(target: Path, number: int) -> Path:
    stem = target.name.removesuffix(".json.gz")
    return target.with_name(f"{stem}.{number}.json.gz")
