"""Comparisons made of plain numbers, for tests of what shows them."""

from analyzers.compare.types import (
    Comparison,
    ComparisonVerdict,
    Delta,
    Difference,
    EvidencePlace,
    KernelChange,
    KernelMatch,
    Level,
    MetricChange,
    RegionChange,
    SideRecording,
    SideSummary,
    WaterfallRow,
)
from analyzers.finding import Row
from views.comparison import session

MS = 1_000_000


def leave_out_forecast(monkeypatch):
    """Let page Compare predict nothing, which comparisons made of numbers have nothing for."""
    monkeypatch.setattr(session, "forecast_place", lambda *_: session.st.container())
    monkeypatch.setattr(session, "forecast", lambda *_: None)


def delta(base, new, *, significant=True, unit="ns", spread=0.1):
    change = new - base
    room = abs(change) * spread if significant else abs(change) * 2 + 1
    return Delta(
        base=base,
        new=new,
        change=change,
        low=change - room,
        high=change + room,
        p_value=0.0002 if significant else 0.6,
        p_adjusted=0.001 if significant else 0.8,
        detectable=abs(change) / 4 + 1,
        significant=significant,
        unit=unit,
    )


def side(name, trace_id, median_ns, ledger, *, warm_up=2, count=20, start_ns=0):
    samples = tuple(median_ns + (n % 5 - 2) * 1_000 for n in range(count))
    return SideSummary(
        recordings=(
            SideRecording(
                name=name,
                sha256="0" * 64,
                trace_id=trace_id,
                window="20 iterations of 'step'",
                iterations=count + warm_up,
                warm_up=warm_up,
                warm_up_how=f"the first {warm_up} iterations are slower" if warm_up else "",
                median_ns=median_ns,
                warm_up_ns=(50 * median_ns, *(5 * median_ns // 4,) * (warm_up - 1))[:warm_up],
            ),
        ),
        samples_ns=(samples,),
        median_ns=median_ns,
        p95_ns=median_ns + 2_000,
        ledger_ns=ledger,
        remainder_ns=median_ns - sum(ledger.values()),
        typical=EvidencePlace(
            recording=0, start_ns=start_ns, end_ns=start_ns + median_ns, device=0
        ),
    )


def waterfall(base, new, *, certain, starts=(0, 0)):
    rows = []
    for row in Row:
        before, after = base.get(row.value, 0), new.get(row.value, 0)
        places = [
            EvidencePlace(recording=0, start_ns=start, end_ns=start + 1_000, device=0)
            if ns
            else None
            for start, ns in zip(starts, (before, after), strict=True)
        ]
        rows.append(
            WaterfallRow(
                row=row.value,
                base_ns=before,
                new_ns=after,
                change_ns=after - before,
                low_ns=after - before - 5_000,
                high_ns=after - before + 5_000,
                p_adjusted=0.001 if row.value in certain else 0.7,
                significant=row.value in certain,
                base_place=places[0],
                new_place=places[1],
            )
        )
    return rows


def comparison(
    outcome=ComparisonVerdict.IMPROVED,
    *,
    names=("baseline.sqlite", "optimized.sqlite"),
    ids=("base-1", "new-1"),
    starts=(0, 0),
    differences=(),
    kernel="void kernel<float>(int)",
    note="",
):
    """Return a comparison from 4 ms to 2 ms per iteration, most of it won from launching."""
    base_ledger = {"kernel": 1_500_000, "launch": 2_300_000, "host": 190_000}
    new_ledger = {"kernel": 1_480_000, "launch": 300_000, "host": 210_000}
    base = side(names[0], ids[0], 4 * MS, base_ledger, start_ns=starts[0])
    new = side(names[1], ids[1], 2 * MS, new_ledger, start_ns=starts[1])
    if outcome is ComparisonVerdict.NOT_COMPARABLE:
        return Comparison(
            verdict=outcome,
            sentence="Not comparable: the GPUs differ.",
            how=(),
            base=SideSummary(recordings=base.recordings),
            new=SideSummary(recordings=new.recordings),
            comparability=(
                Difference(
                    what="gpu",
                    base="H100",
                    new="A100",
                    level=Level.BLOCKING,
                    sentence="The baseline ran on an H100, the new side on an A100.",
                ),
                *differences,
            ),
        )
    certain = {"launch"} if outcome is ComparisonVerdict.IMPROVED else set()
    rows = waterfall(base_ledger, new_ledger, certain=certain, starts=starts)
    rest = new.remainder_ns - base.remainder_ns
    rows.append(
        WaterfallRow(
            row="remainder",
            base_ns=base.remainder_ns,
            new_ns=new.remainder_ns,
            change_ns=rest,
        )
    )
    sure = outcome is ComparisonVerdict.IMPROVED
    place = EvidencePlace(recording=0, start_ns=starts[0], end_ns=starts[0] + 5_000, device=0)
    new_place = EvidencePlace(recording=0, start_ns=starts[1], end_ns=starts[1] + 5_000, device=0)
    return Comparison(
        verdict=outcome,
        sentence={
            ComparisonVerdict.IMPROVED: "Improved 2.0 times [1.9, 2.1], p < 0.001.",
            ComparisonVerdict.INCONCLUSIVE: "Inconclusive: 12 % faster to 9 % slower.",
        }.get(outcome, "No difference: less than 1 % either way. 20 iterations each."),
        how=("One sample is one iteration.", "Bootstrap of medians, permutation test."),
        base=base,
        new=new,
        comparability=(
            Difference(
                what="driver", base="550", new="550", level=Level.SAME, sentence="Same driver."
            ),
            *differences,
        ),
        delta=delta(4.0 * MS, 2.0 * MS, significant=sure),
        mean_delta=delta(4.1 * MS, 2.05 * MS, significant=sure),
        smallest_ns=40_000,
        waterfall=tuple(rows),
        kernels=(
            KernelChange(
                kind=KernelMatch.SAME,
                name=kernel,
                new_name=kernel,
                short_name="kernel",
                shape="32 x 1 x 1, 256 x 1 x 1",
                new_shape="32 x 1 x 1, 256 x 1 x 1",
                time=delta(1.5 * MS, 1.48 * MS, significant=False),
                base_launches=100,
                new_launches=10,
                base_place=place,
                new_place=new_place,
            ),
            KernelChange(
                kind=KernelMatch.NEW,
                name="fused_kernel",
                new_name="fused_kernel",
                short_name="fused_kernel",
                shape="",
                new_shape="64 x 1 x 1, 256 x 1 x 1",
                time=delta(0.0, 0.3 * MS, significant=sure),
                base_launches=0,
                new_launches=1.5,
                new_place=new_place,
            ),
        ),
        regions=tuple(
            RegionChange(
                level="ranges",
                name=name,
                row=row,
                time=delta(base_ns, new_ns, significant=sure and row is Row.LAUNCH),
                base_place=place,
                new_place=new_place,
            )
            for name, row, base_ns, new_ns in (
                ("forward", Row.LAUNCH, 2.0 * MS, 0.2 * MS),
                ("forward", Row.KERNEL, 1.0 * MS, 0.98 * MS),
                ("", Row.LAUNCH, 0.3 * MS, 0.1 * MS),
            )
        ),
        metrics=(
            MetricChange(
                name="kernel launches",
                group="iteration",
                better="lower",
                value=delta(100, 11.5, unit="count", significant=sure),
            ),
            MetricChange(
                name="HtoD bytes",
                group="transfers",
                better="lower",
                value=delta(4096, 4096, unit="bytes", significant=False),
            ),
            MetricChange(
                name="throughput",
                group="workload",
                better="higher",
                value=delta(250, 500, unit="items/s", significant=sure),
            ),
        ),
        notes=(note,) if note else (),
        device="GPU 0 H100",
        devices=("GPU 0 H100",),
    )
