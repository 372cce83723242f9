"""One run of a program under Nsight Systems, repeated when nsys fails to start."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from collectors.capture.recorded import Recorded, has_content, keep, no_recording, private_folder
from collectors.capture.run import GuardedProgram, run_guarded
from collectors.capture.tools import find_importer, find_nsys
from collectors.errors import EnvironmentFailedError

NSYS_TRIES = 3
IMPORT_S = 600.0  # nsys imports about half a million events a second
# Processes of nsys that miss each other while it starts, before there is a program.
_NSYS_STUMBLED = (b"= sem_open", b"= shm_open", b"Local Endpoint is not available")


def run_nsys(program: GuardedProgram, target: Path, *, whole_graphs: bool = False) -> Recorded:
    """Record the program with Nsight Systems.

    Args:
        program: What is run.
        target: Where the report is put; ends with ``.nsys-rep``.
        whole_graphs: Record CUDA graphs as one block each; costs less than their kernels.

    Raises:
        EnvironmentFailedError: nsys is missing, or the disk is full.
        RefusedError: There is no report afterwards.
    """
    nsys = find_nsys()
    with private_folder(program) as private:
        report = private / "recorded.nsys-rep"
        command = nsys_command(nsys, program, report, whole_graphs=whole_graphs)
        variables = {"TMPDIR": str(private)} if "," not in _temporary() else {}
        ending = run_guarded(command, program, private, variables)
        for _ in range(NSYS_TRIES - 1):
            if has_content(report) or not any(text in ending.printed for text in _NSYS_STUMBLED):
                break
            ending = run_guarded(command, program, private, variables)
        notes: tuple[str, ...] = ()
        if not report.is_file() and (raw := next(private.glob("**/*.qdstrm"), None)):
            _import_again(nsys, raw, report, program, private)
            notes = ("nsys did not import what it recorded, so it was imported afterwards",)
        if not has_content(report):
            raise no_recording("nsys", ending, target.parent)
        keep(report, target)
    return Recorded(path=target, ending=ending, notes=notes)


def nsys_command(
    nsys: str, program: GuardedProgram, report: Path, *, whole_graphs: bool = False
) -> list[str]:
    """Return the command that records ``program`` with Nsight Systems into ``report``.

    CUDA calls, NVTX ranges and what the host waited for answer why a GPU idles. Samples of the
    processor and thread switches would not, cost time, and need rights.
    """
    command = [nsys, "profile", "--trace=cuda,nvtx,osrt", "--sample=none", "--cpuctxsw=none"]
    command += [f"--cuda-graph-trace={'graph' if whole_graphs else 'node'}"]
    # Containers that share /tmp fight for the names that nsys makes up by itself.
    command += [f"--session-new=whyslow-{uuid.uuid4().hex[:16]}", "--force-overwrite=true"]
    command += ["--output=" + str(report).replace("%", "%%")]
    if "," not in _temporary():  # nsys splits its list of variables there
        command += [f"--env-var=TMPDIR={_temporary()}"]  # ours is for the files of nsys alone
    return [*command, *program.command]


def _import_again(
    nsys: str, raw: Path, report: Path, program: GuardedProgram, private: Path
) -> None:
    """Import what nsys recorded but left as it was; nothing is there when that fails, too."""
    importer = find_importer(nsys)
    if importer is None:
        raise EnvironmentFailedError(
            "nsys recorded, but could not import it, and its QdstrmImporter was not found. "
            "Install the whole of Nsight Systems"
        )
    command = [importer, "--input-file", str(raw), "--output-file", str(report)]
    waiting = GuardedProgram(
        command=command,
        folder=program.folder,
        log=program.log,
        timeout_s=IMPORT_S,
        tick=program.tick,
    )
    for _ in range(2):
        run_guarded(command, waiting, private)
        if has_content(report):
            return


def _temporary() -> str:
    return os.environ.get("TMPDIR") or "/tmp"
