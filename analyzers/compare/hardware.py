"""What a comparison of two machines says: how much of a change is hardware, how much is not."""

from __future__ import annotations

from dataclasses import dataclass

from analyzers.words import TIMES, time_text


@dataclass(frozen=True, kw_only=True)
class ClassOnMachines:
    """Kernel time of one class of work on both machines, per iteration.

    Attributes:
        work_class: A ``WorkClass``.
        base_ns: On base.
        new_ns: On new.
        hardware_ns: The part of the change that the limits of the GPUs explain.
        software_ns: The rest of the change of the same work: kernels come nearer to the limits or
            less near, or there are more or fewer calls.
        unattributed_ns: The change of kernels whose work is not known on both sides, or which are
            far from what the GPU allows.
    """

    work_class: str
    base_ns: int
    new_ns: int
    hardware_ns: int
    software_ns: int
    unattributed_ns: int


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
    """The change of time between two machines; its four parts sum to it.

    Attributes:
        base: Name of the GPU.
        new: Of the other one.
        base_ns: Mean time of an iteration, or of the window.
        new_ns: The same on the other.
        hardware_ns: What the limits of the GPUs explain, by the work of operators that ran on both.
        software_ns: The rest of the change of these operators' kernels.
        unattributed_ns: The change of the other kernels.
        outside_ns: The change of the time in which no kernel ran: host, driver, copies, waiting.
        classes: Kernel time by class of work, the largest change first.
        limits: Of both GPUs, those that are known of both.
    """

    base: str
    new: str
    base_ns: int
    new_ns: int
    hardware_ns: int
    software_ns: int
    unattributed_ns: int
    outside_ns: int
    classes: tuple[ClassOnMachines, ...]
    limits: tuple[RatedLimit, ...]

    @property
    def change_ns(self) -> int:
        """How much longer (above 0) or shorter it takes on the other machine."""
        return self.new_ns - self.base_ns

    @property
    def knows_work(self) -> bool:
        """Whether any kernel time could be divided into hardware and software."""
        return bool(self.hardware_ns or self.software_ns)

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """The four parts of the change in words."""
        return (
            ("hardware (what the limits of the GPUs explain)", self.hardware_ns),
            ("software (how near kernels come to them, and their number)", self.software_ns),
            ("kernels whose work is not known or far from any limit", self.unattributed_ns),
            ("time without a kernel (host, driver, copies, waiting)", self.outside_ns),
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
