"""The profilers that are installed here, and what is known not to work with them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from collectors.errors import EnvironmentFailedError

QUICK_S = 30.0  # for a question to a program that answers in a second on an idle machine
FIRST_SILENT_NVTX = (0, 2, 12)
LAST_SILENT_NSYS = (2023, 4)  # the newest known to be affected

NSYS_WAY_OUT = (
    "Install Nsight Systems (https://developer.nvidia.com/nsight-systems), or capture with "
    "--with torch"
)

NVTX_WAY_OUT = "install nvtx<=0.2.11 in the program's environment, or a newer Nsight Systems"
_PYTHON = re.compile(r"python[0-9.]*")


def find_nsys() -> str:
    """Return the path of nsys.

    Raises:
        EnvironmentFailedError: It is not installed.
    """
    if (nsys := shutil.which("nsys")) is None:
        raise EnvironmentFailedError(f"nsys is not installed here. {NSYS_WAY_OUT}")
    return nsys


def find_ncu() -> str:
    """Return the path of ncu, when there is a GPU that it could examine.

    Raises:
        EnvironmentFailedError: One of both is missing.
    """
    if not has_gpu():
        raise EnvironmentFailedError("ncu examines kernels, and there is no NVIDIA GPU here")
    if (ncu := shutil.which("ncu")) is None:
        raise EnvironmentFailedError(
            "ncu is not installed here. Install Nsight Compute "
            "(https://developer.nvidia.com/nsight-compute)"
        )
    return ncu


def has_gpu() -> bool:
    """Tell whether an NVIDIA driver shows a GPU here."""
    # /dev/nvidiactl is there in containers without a GPU, too; in WSL, dxg is the only one.
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()


def nvtx_trap(command: Sequence[str]) -> str:
    """Say whether nsys will miss the ranges of a Python program; empty when not, or unknown.

    The package nvtx asks nsys for something that older ones do not know, takes the answer for "not
    profiled", and stays silent. The interpreter that the command names is asked for its version.
    """
    if not command or not _PYTHON.fullmatch(Path(command[0]).name):
        return ""
    ask = "import importlib.metadata as m; print(m.version('nvtx'))"
    package = _version(_answer([command[0], "-c", ask]))
    if package < FIRST_SILENT_NVTX:
        return ""
    nsys = _version(_answer([find_nsys(), "--version"]).rpartition(" version ")[2])
    if not nsys or nsys[:2] > LAST_SILENT_NSYS:
        return ""
    nvtx_text, nsys_text = ".".join(map(str, package)), ".".join(map(str, nsys[:2]))
    return f"nvtx {nvtx_text} records nothing under nsys {nsys_text}: {NVTX_WAY_OUT}"


def _answer(command: list[str]) -> str:
    try:
        process = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=QUICK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.decode("utf-8", "replace").strip()


def _version(text: str) -> tuple[int, ...]:
    number = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, number[0].split("."))) if number else ()


def find_importer(nsys: str) -> str | None:
    """Return the importer that belongs to this nsys; Debian puts it into another folder."""
    target = Path(nsys).resolve().parent
    for place in (target.parent, Path("/usr/lib/nsight-systems"), target):
        for importer in sorted(place.glob("host-*/QdstrmImporter")):
            return str(importer)
    return None
