"""The answer about one recording, in the words that page, command line and file all use."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any

from analyzers.facts.host_work import HostProfile
from analyzers.facts.spans import Iteration, LoopEvidence, Window
from analyzers.finding import Cause, Failed, Finding, Row, Skipped
from analyzers.ledger.device import DeviceLedger
from analyzers.words import name_text, share_text

CLOSE_SHARES = 0.05  # of a time; estimates no further apart agree
SCHEMA = 1  # of the JSON contract; keys may be added, never renamed


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The sentence that matters.

    Attributes:
        cause: A ``Cause``, ``healthy`` or ``unknown``.
        share: Part of the time in use that the cause costs, 0 to 1.
        sentence: The verdict in words.
        examined: Causes that the recording could answer.
        not_examined: The others.
    """

    cause: str
    share: int | float
    sentence: str
    examined: tuple[Cause, ...] = ()
    not_examined: tuple[Cause, ...] = ()


@dataclass(frozen=True, kw_only=True)
class QualityNote:
    """Something about the capture that a reader must know first.

    Attributes:
        level: ``info``, ``warning`` (numbers hold, with care) or ``error`` (no verdict).
        message: One sentence that ends in what to do.
        code: Short name of the check.
    """

    level: str
    message: str
    code: str = ""


@dataclass(frozen=True, kw_only=True)
class KernelShare:
    """What one kernel takes of a window.

    Attributes:
        name: Its full name.
        count: Launches that ran in the window.
        total_ns: Their summed time in it.
        share: Part of the summed time of all kernels, 0 to 1.
    """

    name: str
    count: int
    total_ns: int
    share: float


@dataclass(frozen=True, kw_only=True)
class ToolRule:
    """What one of the profiler's own rules said about a kernel, and what is said here.

    Attributes:
        kernel: Its full name.
        rule: Identifier of the rule.
        text: The profiler's own words, about the kernel's longest launch.
        launches: Launches that it was said of.
        total_ns: Time that they stand for.
        scope: Of what the profiler's estimate is a part: ``global`` (that time), ``local`` (what
            the rule looks at), or empty without an estimate.
        estimate: What it estimates can be saved, 0 to 1; -1 without an estimate.
        ours: The rule here that explains most of the same, empty when none does.
        low: The part of the time that is lost to the same at least, as it is judged here; -1 when
            it was not, as no counter tells it.
        booked: What is claimed of it.
        high: What is lost at most.
    """

    kernel: str
    rule: str
    text: str
    launches: int
    total_ns: int
    scope: str
    estimate: float
    ours: str
    low: float
    booked: float
    high: float

    @property
    def title(self) -> str:
        """Return the identifier as words: ``UncoalescedGlobalAccess`` in three."""
        return name_text(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.rule))

    @property
    def comparison(self) -> str:
        """Say, without a full stop, what is said here about the same, and whether it differs."""
        if self.booked < 0:
            return "whyslow does not judge that"
        most = share_text(self.high, 1)
        ours = "whyslow finds nothing to win there"
        if self.ours:
            ours = f"whyslow finds {share_text(self.booked, 1)} of its time, at most {most}"
            ours += f" ({self.ours})"
        if self.scope != "global":
            return ours
        if self.low - CLOSE_SHARES <= self.estimate <= self.high + CLOSE_SHARES:
            return f"{ours}: both agree" if self.ours else ours
        how = "more" if self.estimate > self.high else "less"
        return f"{ours}: Nsight Compute says {how}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything the analysis says about one window of one recording.

    Attributes:
        source: ``name``, ``format``, ``tool_version``, ``schema_version``, ``sha256``, ``gpus``.
        window: The analysed time.
        devices: One closed ledger per device.
        verdict: The sentence that matters.
        findings: Largest loss first.
        skipped: Rules that could not tell, with the reason.
        failed: Rules that raised.
        quality: Capture quality, worst first.
        counts: Rows by trace table, for the reader's orientation.
        operations: GPU operations that ran in the window, by trace table.
        totals: Counts and summed durations of the whole recording; see ``analyzers.facts.totals``.
        iterations: Repetitions that were found; empty when none were.
        iterations_note: How iterations were found, or why not.
        iterations_evidence: What they rest on, and how sure that is; None when there are none.
        top_kernels: The kernels with most time in the window, the largest first.
        tool_rules: What the profiler's own rules said about kernels, those of most time first.
        counters: What was joined to the timeline, as ``analyzers.counters.joining`` says it; empty
            without counters.
        work: What kernels did, one row for each operator with its inputs; see ``docs/work.md``.
        classes: The kernel time by class of work, at the roof, below it, and not modelled.
        mfu: Utilisation of each device's peak by the model; None when it is not known.
        work_roofs: What each device allows at most, as far as it is known: bytes a second, and
            operations a second in the types that the work is in.
        busy_sentence: How the kernel time is spent, and how close to those limits; may be empty.
        host_profile: What the host's threads did, where nothing ran on a GPU; None otherwise.
    """

    source: dict[str, Any]
    window: Window
    devices: tuple[DeviceLedger, ...]
    verdict: Verdict
    findings: tuple[Finding, ...]
    skipped: tuple[Skipped, ...]
    failed: tuple[Failed, ...]
    quality: tuple[QualityNote, ...]
    counts: dict[str, int]
    operations: dict[str, int] = dataclasses.field(default_factory=dict)
    totals: dict[str, Any] = dataclasses.field(default_factory=dict)
    iterations: tuple[Iteration, ...] = ()
    iterations_note: str = ""
    iterations_evidence: LoopEvidence | None = None
    counters: dict[str, Any] = dataclasses.field(default_factory=dict)
    top_kernels: tuple[KernelShare, ...] = ()
    tool_rules: tuple[ToolRule, ...] = ()
    work: tuple[dict[str, Any], ...] = ()
    classes: tuple[dict[str, Any], ...] = ()
    mfu: dict[str, Any] | None = None
    work_roofs: tuple[dict[str, Any], ...] = ()
    busy_sentence: str = ""
    host_profile: HostProfile | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of ``whyslow diagnose --json``."""
        data = dataclasses.asdict(self)
        data["window"]["duration_ns"] = self.window.duration_ns
        for device in data["devices"]:
            device["ledger"] = {row.value: device["rows"].get(row, 0) for row in Row}
            del device["rows"]
        return {"schema": SCHEMA, **data}

    def to_json(self) -> str:
        """Return ``to_dict`` as text."""
        return json.dumps(self.to_dict(), indent=1)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Report:
        """Rebuild a report from ``to_dict``.

        Raises:
            KeyError: The key of the schema or of a ledger is missing.
            ValueError: The schema number is not ours, or a value not of the contract's type.
        """
        if data["schema"] != SCHEMA:
            raise ValueError(f"report schema {data['schema']}, this program reads {SCHEMA}")
        import msgspec  # its 20 ms are for those who need the report, not only its text

        devices = [{**device, "rows": device["ledger"]} for device in data["devices"]]
        return msgspec.convert({**data, "devices": devices}, cls)
