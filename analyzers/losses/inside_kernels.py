"""What a rule about the inside of kernels asks: which launches lose, how much, and why not told.

Rules see launches that were profiled, weighed with the time that they stand for. In a recording
that holds counters only, that is their own duration; joined to a timeline, it is the kernel time
of the window that is booked to launches like them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analyzers.counters.inside import Inside
from analyzers.counters.joining import Examined
from analyzers.facts.facts import Facts
from analyzers.finding import Confidence, Evidence, Finding, Row
from analyzers.intervals import Array
from analyzers.ledger.ledger import Ledger
from analyzers.losses.kernel_memory import is_notable
from analyzers.losses.ncu_command import MOST_OF_THE_TIME, base_name, why_missing, why_no_counters
from analyzers.metric_names import ROW_OF_PART, Part
from analyzers.words import count_text, name_text, share_text, time_text

EVIDENCE_KERNELS = 3
NAMED_KERNELS = 1  # in a title; the evidence has more
SYMBOLS = {"c": "compute throughput", "m": "memory throughput"}


@dataclass(frozen=True, eq=False)
class ProfiledLoss:
    """The launches that lose time for one reason.

    Attributes:
        part: The reason.
        inside: The account that it is taken from.
        rows: Profiled launches that lose.
        facts: The recording.
        examined: The join with a timeline; None where the recording holds counters only.
    """

    part: Part
    inside: Inside
    rows: Array
    facts: Facts
    examined: Examined | None = None

    @property
    def lost_ns(self) -> int:
        """What is claimed."""
        return int(self.inside.booked_ns[self.part].sum())

    @property
    def time_ns(self) -> int:
        """How long these launches took."""
        return int(self.inside.ns[self.rows].sum())

    @property
    def count(self) -> int:
        """How many launches lose: those of the timeline, where there is one."""
        return (
            len(self.rows) if self.examined is None else int(self.examined.counts[self.rows].sum())
        )

    def evidence(self) -> tuple[Evidence, ...]:
        """Return the kernels that lose most; each shows its longest launch on the timeline."""
        return tuple(
            Evidence(
                name=f"lost in {name_text(str(name))}",
                value=float(lost),
                unit="ns",
                **self._place(str(name)),
            )
            for name, lost in self.kernels.head(EVIDENCE_KERNELS).itertuples(index=False)
        )

    def _place(self, name: str) -> dict[str, int]:
        if self.examined is None:
            return {}
        names = self.inside.limits.counters.profiled["name"].to_numpy()
        rows = self.rows[names[self.rows] == name]
        of_kernel = np.isin(self.examined.joined.row[self.examined.launches], rows)
        longest = self.examined.launches[np.where(of_kernel, self.examined.ns, -1).argmax()]
        launch = self.facts.launches.iloc[longest]
        return {c: int(launch[c]) for c in ("start_ns", "end_ns", "device")}

    def mean(self, values: Array) -> float:
        """Return the mean of a value of each launch, weighed with what it loses."""
        weights = self.inside.booked_ns[self.part][self.rows]
        finite = ~np.isnan(values[self.rows].astype(float))
        if not finite.any() or not weights[finite].sum():
            return float("nan")
        return float(np.average(values[self.rows][finite].astype(float), weights=weights[finite]))

    def most(self, words: Array) -> str:
        """Return the word that most of the loss stands for."""
        lost = pd.Series(self.inside.booked_ns[self.part][self.rows])
        return str(lost.groupby(words[self.rows]).sum().idxmax())

    @property
    def kernels(self) -> pd.DataFrame:
        """Return ``name`` and ``lost_ns`` of each kernel, the largest loss first."""
        names = self.inside.limits.counters.profiled["name"].to_numpy()[self.rows]
        lost = pd.Series(self.inside.booked_ns[self.part][self.rows], name="lost_ns")
        sums = lost.groupby(pd.Series(names, name="name"), sort=False).sum()
        return sums.sort_values(ascending=False, kind="stable").reset_index()

    @property
    def who(self) -> str:
        """Name the kernels that lose, for the begin of a sentence."""
        names = list(dict.fromkeys(base_name(str(n)) or str(n) for n in self.kernels["name"]))
        more = len(names) - NAMED_KERNELS
        also = (
            f" and {count_text(more, 'more kernel').replace('1 more', 'one more')}" if more else ""
        )
        return f"Launches of {name_text(names[0])}{also}"


def why_unknown(
    facts: Facts,
    ledger: Ledger,
    part: Part,
    metrics: Iterable[str],
    sections: Iterable[str],
) -> str:
    """Return why the recording does not tell this part; empty when it does.

    Launches that do not tell it must not take more than a fifth of the time, unless the others lose
    enough to be told anyway.

    Args:
        facts: The recording.
        ledger: Its account.
        part: The reason for a loss.
        metrics: What tells it, by exact names.
        sections: Sections of Nsight Compute that collect that.
    """
    inside = ledger.inside
    if inside is None:
        return why_no_counters(facts, ledger)
    counted = inside.counted_share(part)
    if counted >= MOST_OF_THE_TIME or profiled_loss(facts, ledger, part) is not None:
        return ""
    reason = why_missing(facts, ledger, metrics, sections)
    return f"for {share_text(1 - counted, 1)} of the profiled time, {reason}" if counted else reason


def profiled_loss(facts: Facts, ledger: Ledger, part: Part) -> ProfiledLoss | None:
    """Return the launches that lose time for this reason; None when it is too little to tell."""
    inside = ledger.inside
    if inside is None:
        return None
    losing_rows = np.flatnonzero(inside.booked_ns[part] > 0)
    loss = ProfiledLoss(part, inside, losing_rows, facts, ledger.examined)
    return loss if is_notable(ledger, loss.lost_ns) else None


def finding(loss: ProfiledLoss, ledger: Ledger, what: str, *, formula: str, **more: Any) -> Finding:
    """Return the finding about launches that lose.

    Args:
        loss: The launches.
        ledger: The account.
        what: What they do, in words that follow their names.
        formula: How the loss was estimated, in the letters of ``SYMBOLS`` and others that it
            explains.
        more: ``advice``, ``does_not_apply_when`` and ``evidence`` of the finding.
    """
    inside, part = loss.inside, loss.part
    low, high = (int(ns[part][loss.rows].sum()) for ns in (inside.low_ns, inside.high_ns))
    row = ROW_OF_PART.get(part, Row.KERNEL)
    about = "about" if row is not Row.KERNEL else "up to"
    title = (
        f"{loss.who} {what}: {about} {time_text(loss.lost_ns)} of {time_text(loss.time_ns)}, "
        f"{ledger.share(loss.lost_ns)}"
    )
    range_ = (Evidence(name="launches affected", value=loss.count, unit="count"),)
    observed = (e for e in more.pop("evidence", ()) if np.isfinite(e.value))
    evidence = (*observed, *range_, *loss.evidence())
    return Finding(
        title=title,
        row=row,
        lost_ns=loss.lost_ns,
        confidence=Confidence.INFERRED,
        evidence=evidence,
        low_ns=low,
        high_ns=high,
        formula=explained(formula),
        **more,
    )


def explained(formula: str) -> str:
    """Return a formula with what its common letters stand for, unless it says so itself."""
    letters = [
        f"{letter}: {words}"
        for letter, words in SYMBOLS.items()
        if re.search(rf"\b{letter}\b(?!:)", formula) and f"{letter}: " not in formula
    ]
    if not letters:
        return formula
    return f"{formula}; {', '.join(letters)}, as part{'s' if letters[1:] else ''} of the peak"
