"""What can be captured on this machine: pairs of workloads, profilers, and why one cannot be."""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from captures.order import INSTALL_TORCH
from collectors.capture import tools
from collectors.capture.tools import has_gpu
from collectors.errors import EnvironmentFailedError

WORKLOADS = Path(__file__).resolve().parents[2] / "workloads"
FIRST = "launch"  # the pair that is offered first: its lesson is the easiest to see
BASELINE, OPTIMIZED = "_baseline.py", "_optimized.py"
COMMANDS_VARIABLE = "WHYSLOW_ALLOW_COMMANDS"
TELEMETRY = "telemetry"
TOOL_WORDS = {
    "torch": "torch profiler",
    "nsys": "Nsight Systems",
    "ncu": "Nsight Compute",
    TELEMETRY: "telemetry",
}
NO_TORCH = (
    "PyTorch is not installed here, so no workload can run. Install it in whyslow's folder: "
    f"{INSTALL_TORCH}"
)
NO_GPU = (
    "There is no NVIDIA GPU here: workloads run on the CPU, scaled down, and show only host-side "
    "causes. Start whyslow on a machine with a GPU to see the rest."
)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A baseline and its optimized twin.

    Attributes:
        name: What the command line calls it.
        title: What is slow about it, in one line.
        why: The reason, in sentences.
    """

    name: str
    title: str
    why: str


@functools.cache
def pairs() -> tuple[Pair, ...]:
    """Return every pair, by name; reads their text and imports nothing of theirs."""
    complete_pairs = []
    for path in sorted(WORKLOADS.glob(f"[!_]*{BASELINE}")):
        name = path.name.removesuffix(BASELINE)
        if path.with_name(name + OPTIMIZED).exists():
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            title = text.partition("\n")[0].rstrip(".")
            complete_pairs.append(
                Pair(name=name, title=title, why=_section(text, "Why it is slow:"))
            )
    return tuple(complete_pairs)


def _section(text: str, heading: str) -> str:
    after = text.partition(heading)[2]
    return " ".join(after.partition("\n\n")[0].split())


def impossible() -> dict[str, str]:
    """Return why each tool that cannot be used here cannot, with the way out."""
    reasons: dict[str, str] = {}
    for name, find in (("nsys", tools.find_nsys), ("ncu", tools.find_ncu)):
        try:
            find()
        except EnvironmentFailedError as error:
            reasons[name] = str(error)
    if "ncu" not in reasons and not has_gpu():
        reasons["ncu"] = "ncu examines kernels, but there is no NVIDIA GPU here"
    return reasons


def has_torch() -> bool:
    """Tell whether PyTorch is there, without paying for its import."""
    return importlib.util.find_spec("torch") is not None


def commands_allowed() -> bool:
    """Tell whether whoever reaches this page may run any command as the server's user.

    Not even a server that only this machine reaches may: a team's proxy stands on this machine,
    too. So it has to be said explicitly.
    """
    return os.environ.get(COMMANDS_VARIABLE, "") == "1"


def parsed(command: str) -> tuple[str, ...]:
    """Return the words of a command line; nothing when its quotes do not match."""
    try:
        return tuple(shlex.split(command))
    except ValueError:
        return ()
