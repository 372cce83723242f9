"""One run of a program under Nsight Compute, for the counters of chosen kernels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from collectors.capture.recorded import Recorded, has_content, keep, no_recording, private_folder
from collectors.capture.run import GuardedProgram, run_guarded
from collectors.capture.tools import find_ncu
from collectors.errors import EnvironmentFailedError


def run_ncu(program: GuardedProgram, target: Path, options: Sequence[str]) -> Recorded:
    """Record counters of chosen kernels with Nsight Compute.

    Args:
        program: What is run.
        target: Where the report is put; ends with ``.ncu-rep``.
        options: Which kernels, launches and counters.

    Raises:
        EnvironmentFailedError: ncu or a GPU is missing, its counters may not be read, or the disk
            is full.
        RefusedError: There is no report afterwards.
    """
    ncu = find_ncu()
    with private_folder(program) as private:
        report = private / "counters.ncu-rep"
        command = [ncu, *options, "--force-overwrite", "--target-processes", "all"]
        command += ["--export", str(report).replace("%", "%%"), *program.command]
        ending = run_guarded(command, program, private)
        if not has_content(report):
            if b"ERR_NVGPUCTRPERM" in ending.printed:
                raise EnvironmentFailedError(
                    "ncu: this user may not read the GPU's counters (ERR_NVGPUCTRPERM). Run as "
                    "root, or see https://developer.nvidia.com/ERR_NVGPUCTRPERM"
                )
            raise no_recording("ncu", ending, target.parent)
        keep(report, target)
    return Recorded(path=target, ending=ending)
