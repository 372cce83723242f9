"""What a comparison says of what is below a program: hardware, precision, libraries, driver."""

from __future__ import annotations

from dataclasses import dataclass

from analyzers.words import TIMES, time_text
from analyzers.work.element_types import is_narrower

PRECISION = "precision"
"""Name of a ``BelowProgram`` that is no version."""


@dataclass(frozen=True, kw_only=True)
class ClassOnMachines:
    """Kernel time of one class of work on both machines, per iteration.

    Attributes:
        work_class: A ``WorkClass``.
        base_ns: On base.
        new_ns: On new.
        hardware_ns: The part of the change that the limits of the GPUs explain.
        precision_ns: The change of operators that compute in another precision on the other side,
            whatever else changed with it.
        software_ns: The rest of the change of the same work: kernels come nearer to the limits or
            less near, or there are more or fewer calls.
        other_kernels_ns: The part of ``software_ns`` that lies in work for which other kernels ran.
        unattributed_ns: The change of kernels whose work is not known on both sides, or which are
            far from what the GPU allows.
    """

    work_class: str
    base_ns: int
    new_ns: int
    hardware_ns: int
    precision_ns: int
    software_ns: int
    other_kernels_ns: int
    unattributed_ns: int


@dataclass(frozen=True, kw_only=True)
class BelowProgram:
    """Something below the program that differs between both sides.

    Attributes:
        name: "driver", "CUDA", "PyTorch" or "precision".
        base: Version, or type in which the operators compute, on base.
        new: The same on new.
        operator: Of another precision the operator that it changes most; else empty.
    """

    name: str
    base: str
    new: str
    operator: str = ""

    @property
    def is_narrower(self) -> bool:
        """Whether results may be less exact: new computes in a narrower type than base did."""
        base, new = ({*text.split(", ")} for text in (self.base, self.new))
        before, after = base - new or base, new - base or new
        return any(is_narrower(ours, theirs) for ours in after for theirs in before)

    def __str__(self) -> str:
        where = f" of {self.operator}" if self.operator else ""
        return f"{self.name}{where} ({self.base} to {self.new})"


@dataclass(frozen=True, kw_only=True)
class RatedLimit:
    """One limit of both GPUs by their data sheets.

    Attributes:
        name: "memory bandwidth", "bf16 on matrix units" …
        base: Bytes or operations a second.
        new: The same of the other GPU.
    """

    name: str
    base: float
    new: float


@dataclass(frozen=True, kw_only=True)
class MachineChange:
    """The change of time between two machines, or two states of one; its parts sum to it.

    Attributes:
        base: Name of the GPU.
        new: Of the other one, or of the same.
        base_ns: Mean time of an iteration, or of the window.
        new_ns: The same on the other.
        hardware_ns: What the limits of the GPUs explain, by the work of operators that ran on both.
        precision_ns: The change of operators that compute in another precision.
        software_ns: The rest of the change of these operators' kernels.
        other_kernels_ns: The part of ``software_ns`` in work for which other kernels ran.
        unattributed_ns: The change of the other kernels.
        outside_ns: The change of the time in which no kernel ran: host, driver, copies, waiting.
        classes: Kernel time by class of work, the largest change first.
        limits: Of both GPUs, those that are known of both; none where the GPU is the same.
        below: What else differs below the program, as far as it was recorded.
    """

    base: str
    new: str
    base_ns: int
    new_ns: int
    hardware_ns: int
    precision_ns: int
    software_ns: int
    other_kernels_ns: int
    unattributed_ns: int
    outside_ns: int
    classes: tuple[ClassOnMachines, ...]
    limits: tuple[RatedLimit, ...]
    below: tuple[BelowProgram, ...]

    @property
    def change_ns(self) -> int:
        """How much longer (above 0) or shorter it takes on the other machine."""
        return self.new_ns - self.base_ns

    @property
    def is_other_gpu(self) -> bool:
        """Whether the GPUs differ, not only what runs on them."""
        return self.base != self.new

    @property
    def knows_work(self) -> bool:
        """Whether any kernel time could be divided."""
        return bool(self.hardware_ns or self.software_ns or self.precision_ns)

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """The parts of the change in words, which sum to it.

        Hardware is a part where the GPUs differ; precision and other kernels where there are such.
        """
        hardware = ("hardware (what the limits of the GPUs explain)", self.hardware_ns)
        known_parts = (
            ("other precision", self.precision_ns),
            ("other kernels for the same work (libraries, compiler)", self.other_kernels_ns),
        )
        own = (
            "software (how near kernels come to them, and their number)"
            if self.is_other_gpu
            else "the same kernels, at another speed or in another number"
        )
        unknown = (
            "kernels whose work is not known or far from any limit"
            if self.is_other_gpu
            else "kernels of one side only"
        )
        return (
            *((hardware,) if self.is_other_gpu else ()),
            *(part for part in known_parts if part[1]),
            (own, self.software_ns - self.other_kernels_ns),
            (unknown, self.unattributed_ns),
            ("time without a kernel (host, driver, copies, waiting)", self.outside_ns),
        )

    @property
    def precision_words(self) -> str:
        """A sentence about another precision, where that is most of the change; else empty."""
        other = next((b for b in self.below if b.name == PRECISION), None)
        if other is None or 2 * abs(self.precision_ns) < abs(self.change_ns):
            return ""
        went = time_text(abs(self.precision_ns))
        how = "less" if self.precision_ns < 0 else "more"
        check = ": check that the results are still good enough" if other.is_narrower else ""
        return (
            f"{went} {how} is in operators that compute in another precision ({other.operator}: "
            f"{other.base} to {other.new}){check}."
        )

    def sentence(self, quantity: str) -> str:
        """Say what the machines differ by, without charging it to the program.

        Args:
            quantity: What takes the time: "an iteration".
        """
        ratio = self.base_ns / max(self.new_ns, 1)
        speed = f"{ratio:.2f} {TIMES} as fast"
        return (
            f"Different machines: {quantity} takes {time_text(self.base_ns)} on {self.base} and "
            f"{time_text(self.new_ns)} on {self.new}, {speed}. The program is neither credited "
            "nor charged with it."
        )
