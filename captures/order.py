"""What a capture does: which programs, under which tools, how often.

Baseline and optimized runs alternate, so that a machine that warms up or slows down does so for
both. Nsight Compute comes last: which kernels it examines is taken from a timeline of the same
capture.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captures.store import Run
from collectors.errors import EnvironmentFailedError, RefusedError

TOOLS = ("nsys", "torch", "telemetry", "ncu")  # in the order in which they run
ALL = "all"
ROLES = ("baseline", "optimized")
PROGRAM = "program"  # the role of a command of the user's
MAX_REPEAT = 100
MAX_TIMEOUT_S = 1e7  # four months
INSTALL_TORCH = 'pip install -c constraints.txt -e ".[workloads]"'
PYTHON_START_S = 60.0  # to answer whether torch is there; a cold disk may need many of them
WORKLOADS = Path(__file__).resolve().parents[1] / "workloads"

_PYTHON = re.compile(r"python[0-9.]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be captured.

    Attributes:
        workload: Name of a workload or of a pair; empty for ``command``.
        command: A program and its arguments, when there is no workload.
        tools: What records, of ``TOOLS`` or ``ALL``.
        repeat: How many times each program runs under each tool.
        options: Options of a workload, such as ``("--steps", "20")``.
        out: Where recordings are put; None for the capture's own folder.
        timeout_s: How long one run may take.
        python: Interpreter that runs a workload; empty for ours.
        whole_graphs: Record CUDA graphs as one block each.
        rate_hz: Telemetry samples a second; 0 for the usual.
    """

    workload: str = ""
    command: tuple[str, ...] = ()
    tools: tuple[str, ...] = ("nsys",)
    repeat: int = 1
    options: tuple[str, ...] = ()
    out: Path | None = None
    timeout_s: float = 600.0
    python: str = ""
    whole_graphs: bool = False
    rate_hz: float = 0.0

    @property
    def chosen_tools(self) -> tuple[str, ...]:
        """The tools, in the order in which they run."""
        return TOOLS if ALL in self.tools else tuple(t for t in TOOLS if t in self.tools)

    @property
    def recorders(self) -> tuple[str, ...]:
        """The tools that have runs of their own; telemetry samples beside those of others."""
        others = tuple(t for t in self.chosen_tools if t != "telemetry")
        if others == ("ncu",):  # a timeline tells it which kernels to examine
            return ("nsys" if shutil.which("nsys") else "torch", "ncu")
        return others or ("telemetry",)

    @property
    def roles(self) -> tuple[str, ...]:
        """Which programs run, of ``ROLES`` or ``PROGRAM``."""
        if not self.workload:
            return (PROGRAM,)
        pair, _, role = self.workload.rpartition("_")
        return (role,) if role in ROLES and pair else ROLES


def order_of(chosen: Any) -> Order:
    """Return what the command line asks for; see ``carry_out``.

    Raises:
        RefusedError: It asks for something that there is not, or for too little or too much.
    """
    if bool(chosen.workload) == bool(chosen.command) or len(chosen.workload) > 1:
        raise RefusedError(
            "capture: give one workload or pair (`whyslow capture launch`), or a command after -- "
            "(`whyslow capture -- python train.py`)"
        )
    tools = tuple(word.strip() for word in chosen.tools.split(","))
    if unknown := [tool for tool in tools if tool not in (*TOOLS, ALL)]:
        raise RefusedError(
            f"--with {unknown[0][:40]}: no such tool. Known: {', '.join((*TOOLS, ALL))}"
        )
    if not 1 <= chosen.repeat <= MAX_REPEAT:
        raise RefusedError(f"--repeat {chosen.repeat}: give 1 to {MAX_REPEAT}")
    if not 0 < chosen.timeout <= MAX_TIMEOUT_S:
        raise RefusedError(f"--timeout {chosen.timeout:g}: give seconds above 0")
    values = {name: getattr(chosen, name) for name in ("steps", "warmup", "seed", "device")}
    options = [
        word for name, v in values.items() if v is not None for word in (f"--{name}", str(v))
    ]
    if chosen.command and (options or chosen.python):
        name = options[0] if options else "--python"
        raise RefusedError(f"{name}: is for workloads. Give it to your own command after --")
    return Order(
        workload=chosen.workload[0] if chosen.workload else "",
        command=tuple(chosen.command),
        tools=tools,
        repeat=chosen.repeat,
        options=tuple(options),
        out=chosen.out,
        timeout_s=chosen.timeout,
        python=chosen.python,
        whole_graphs=chosen.whole_graphs,
        rate_hz=chosen.rate,
    )


def known_workloads() -> dict[str, Path]:
    """Return every workload by name."""
    workloads: dict[str, Path] = {}
    for role in ROLES:
        workloads |= {path.stem: path for path in WORKLOADS.glob(f"*_{role}.py")}
    return dict(sorted(workloads.items()))


def commands(order: Order) -> dict[str, tuple[str, ...]]:
    """Return the command of each role.

    Raises:
        RefusedError: There is no such workload.
    """
    if not order.workload:
        return {PROGRAM: order.command}
    workloads = known_workloads()
    names = {role: f"{_pair_of(order.workload)}_{role}" for role in order.roles}
    if not set(names.values()) <= set(workloads):
        pairs = sorted({_pair_of(name) for name in workloads})
        choices = ", ".join(f"{p} ({p}_baseline, {p}_optimized)" for p in pairs) or "none"
        raise RefusedError(
            f"{order.workload[:80]}: no such workload. Known: {choices}; or give a command after --"
        )
    python = order.python or sys.executable
    return {
        role: (python, "-m", f"workloads.{name}", *order.options) for role, name in names.items()
    }


def _pair_of(workload: str) -> str:
    pair, _, role = workload.rpartition("_")
    return pair if role in ROLES else workload


def checked_commands(order: Order) -> dict[str, tuple[str, ...]]:
    """Return the command of each role, whose program is there.

    Raises:
        RefusedError: There is no such workload or program, or Python is given no script that
            there is.
    """
    by_role = commands(order)
    for command in by_role.values():
        if shutil.which(command[0]) is None:
            raise RefusedError(
                f"{command[0][:80]}: no such program, or it is not executable. Give its path"
            )
        script = command[1] if len(command) > 1 else "-"
        is_python = _PYTHON.fullmatch(Path(command[0]).name) is not None
        if is_python and not script.startswith("-") and not os.path.lexists(script):
            raise RefusedError(f"{script[:80]}: no such script. Give its path from here")
    return by_role


def check_torch(order: Order) -> None:
    """Refuse workloads where the interpreter that would run them has no PyTorch.

    Raises:
        EnvironmentFailedError: It has none.
    """
    if not order.workload:
        return
    python = order.python or sys.executable
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"
    try:
        process = subprocess.run(
            [python, "-c", code], timeout=PYTHON_START_S, capture_output=True, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return  # the run itself says what is wrong
    if process.returncode == 1:
        raise EnvironmentFailedError(
            f"{order.workload}: workloads need PyTorch, which {python} does not have. "
            f"Install it in whyslow's folder ({INSTALL_TORCH}), or give an interpreter "
            "that has it (--python)"
        )


def runs_of(order: Order) -> tuple[Run, ...]:
    """Return all runs in order; baseline and optimized alternate."""
    return tuple(
        Run(tool=tool, role=role, number=number)
        for tool in order.recorders
        for number in range(1, (1 if tool == "ncu" else order.repeat) + 1)
        for role in order.roles
    )


def stem_of(order: Order, role: str) -> str:
    """Return what files of one program's runs are called."""
    return _script(order.command) if role == PROGRAM else f"{_pair_of(order.workload)}_{role}"


def _script(command: Sequence[str]) -> str:
    """Return a file name for what a command runs: the script rather than its interpreter."""
    scripts = [word for word in command[1:] if word.endswith((".py", ".sh"))]
    name = Path((scripts or command)[0]).stem
    return _UNSAFE.sub("_", name)[:60] or PROGRAM
