"""What one recording brings to a comparison, counted again launch by launch."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from analyzers.compare import side_tables
from analyzers.compare.compare import compare
from analyzers.compare.measure import measure
from analyzers.compare.side import GRAPH_NAME, OTHERS
from analyzers.compare.statistics import MIN_SAMPLES
from analyzers.compare.types import Level
from analyzers.facts.loops import whole_steps
from analyzers.facts.spans import Window
from analyzers.ledger.booking import ROWS
from analyzers.ledger.ledger import build_ledger
from collectors.schema import CopyKind
from tests.compare_scenarios import side
from tests.traces_in_memory import build

US = 1_000
DIRECTIONS = {1: "HtoD", 2: "DtoH", 8: "DtoD"}


def random_program(folder, seed, devices):
    """Return facts, ranges, kernels, copies and calls of a program on GPUs of one process.

    All times are in µs. Steps follow each other with pauses; some work lies in no step.
    """
    rng = np.random.default_rng(seed)
    ranges, at = [], 50
    for _ in range(int(rng.integers(3, 7))):
        length = int(rng.integers(150, 250))
        ranges.append((at, at + length))
        at += length + int(rng.integers(0, 20))
    kernels, copies, memsets, calls, free = [], [], [], [], defaultdict(int)
    for number, called in enumerate(sorted(rng.integers(0, at + 20, 60).tolist())):
        device, stream = int(rng.integers(devices)), int(rng.integers(7, 9))
        begin = max(called + 2, free[device, stream])
        end = begin + int(rng.integers(1, 7))
        free[device, stream] = end
        place = (number + 1, device, stream, begin, end)
        what = int(rng.integers(0, 8))
        if what < 5:
            kernels.append((*place, f"k{what % 3}(int)", int(rng.integers(1, 3))))
            calls.append((number + 1, device, called, "cudaLaunchKernel"))
        elif what < 7:
            kind = [1, 2, 8][int(rng.integers(3))]
            copies.append((*place, kind, int(rng.integers(1, 5_000))))
            calls.append((number + 1, device, called, "cudaMemcpyAsync"))
        else:
            memsets.append((*place, 0))
            calls.append((number + 1, device, called, "cudaMemsetAsync"))
        if rng.random() < 0.3:
            calls.append((0, device, called, "cudaStreamSynchronize"))
    facts = recorded(folder, ranges, kernels, copies, memsets, calls)
    return facts, ranges, kernels, copies, memsets, calls


def recorded(folder, ranges, kernels, copies, memsets, calls):
    def table(rows, **more):
        number, device, stream, begin, end, *_ = (list(c) for c in zip(*rows, strict=True))
        columns = {"correlation_id": number, "device": device, "stream": stream}
        return {**columns, "start_us": begin, "end_us": end, **more}

    number, device, called, name = (list(c) for c in zip(*calls, strict=True))
    begin, end = zip(*ranges, strict=True)
    tables = {
        "kernels": table(
            kernels, name=[k[5] for k in kernels], grid_x=[k[6] for k in kernels], process=1
        ),
        "api_calls": {
            "correlation_id": number,
            "thread": [10 + d for d in device],  # a thread drives each GPU
            "start_us": called,
            "duration_us": 1,
            "name": name,
        },
        "ranges": {
            "start_us": list(begin),
            "end_us": list(end),
            "thread": 10,
            "name": [f"part {n}" for n in range(len(ranges))],
        },
    }
    if copies:
        tables["copies"] = table(copies, kind=[c[5] for c in copies], bytes=[c[6] for c in copies])
    if memsets:
        tables["memsets"] = table(memsets)
    return build(folder, **tables)


def within(moment, spans):
    """Return the number of the span that holds a moment, in ns; None for none."""
    return next((n for n, (b, e) in enumerate(spans) if b <= moment < e), None)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_every_quantity_of_every_iteration(tmp_path, seed, devices):
    facts, _, kernels, copies, memsets, calls = random_program(tmp_path, seed, devices)
    device = seed % devices
    found = measure(facts, "nvtx:part", device)
    spans = list(zip(found.start_ns.tolist(), found.end_ns.tolist(), strict=True))
    size = len(spans)
    assert size >= 3

    def counted(rows, weight=lambda _: 1):
        sums = [0.0] * size
        for row in rows:
            place = within(row[3] * US, spans)
            if row[1] == device and place is not None:
                sums[place] += weight(row)
        return sums

    expected = {"kernel launches": counted(kernels)}
    if any(within(r[3] * US, spans) is not None and r[1] == device for r in memsets):
        expected["memsets"] = counted(memsets)
    for kind, word in DIRECTIONS.items():
        rows = [c for c in copies if c[5] == kind]
        if any(counted(rows)):
            expected[f"{word} copies"] = counted(rows)
            expected[f"{word} bytes"] = counted(rows, lambda row: row[6])
            expected[f"{word} time"] = counted(rows, lambda row: US * (row[4] - row[3]))
    used = {c[1] for c in calls if c[0] and c[1] == device}
    of_thread = [(0, c[1], 0, c[2], 0, c[3]) for c in calls if devices == 1 or c[1] in used]
    made = [row if devices == 1 else (*row[:1], device, *row[2:]) for row in of_thread]
    expected["API calls"] = counted(made)
    waits = [row for row in made if row[5] == "cudaStreamSynchronize"]
    expected["blocking API calls"] = expected["waits"] = counted(waits)
    expected["launch calls"] = counted(kernels)
    assert {name: values.tolist() for name, values in found.counts.items()} == expected
    check_kernels(found, [k for k in kernels if k[1] == device], spans)
    check_accounts(facts, found, spans, device)
    assert found.operations == len(kernels) + len(copies) + len(memsets)
    assert found.device == device


def check_kernels(found, kernels, spans):
    time, count = Counter(), Counter()
    for row in kernels:
        place = within(row[3] * US, spans)
        if place is not None:
            time[place, row[5], row[6]] += US * (row[4] - row[3])
            count[place, row[5], row[6]] += 1
    table = found.kernels
    keys = [
        (name, shape[0]) for name, shape in zip(table.names, table.shapes.tolist(), strict=True)
    ]
    cells = table.by_iteration
    places = list(zip(cells.iteration.tolist(), cells.column.tolist(), strict=True))
    assert {(i, *keys[c]): ns for (i, c), ns in zip(places, cells.ns.tolist(), strict=True)} == time
    assert {
        (i, *keys[c]): n for (i, c), n in zip(places, cells.count.tolist(), strict=True)
    } == count
    totals = [sum(ns for (_, *key), ns in time.items() if tuple(key) == k) for k in keys]
    assert totals == sorted(totals, reverse=True)
    assert [name.partition("(")[0] for name in table.names] == list(table.short_names)
    typical = sorted(
        (r for r in kernels if within(r[3] * US, spans) == found.typical), key=lambda r: r[3]
    )
    assert [keys[c] for c in table.sequence] == [(r[5], r[6]) for r in typical]
    for key, (begin, end) in zip(keys, table.longest.tolist(), strict=True):
        lengths = [r[4] - r[3] for r in typical if (r[5], r[6]) == key]
        assert end - begin == (US * max(lengths) if lengths else 0)
        assert (begin >= 0) == bool(lengths)


def check_accounts(facts, found, spans, device):
    """The whole is booked once and cut; rows of a part must be what lies in it."""
    steps = whole_steps(facts)
    ends = {"start_ns": spans[0][0], "end_ns": spans[-1][1]}
    whole = build_ledger(facts, Window(**ends, is_chosen=bool(steps), steps=steps))
    segments = whole.segments[(whole.segments["device"] == device).to_numpy()]
    parts = list(zip(*(segments[c].tolist() for c in ("start_ns", "end_ns", "row")), strict=True))
    lengths = [end - begin for begin, end in spans]
    middle = sorted(lengths)
    median = (middle[(len(middle) - 1) // 2] + middle[len(middle) // 2]) / 2
    after = lengths[found.warm_up :]
    assert abs(lengths[found.typical] - median) == min(abs(n - median) for n in after) or (
        found.warm_up > 0
    )
    for number, (begin, end) in enumerate(spans):
        booked, longest = Counter(), {}
        for start, stop, row in parts:
            low, high = max(start, begin), min(stop, end)
            if high > low:
                booked[row] += high - low
                longest[row] = max(longest.get(row, 0), high - low)
        assert found.ledger_ns[number].tolist() == [booked[row] for row in range(len(ROWS))]
        assert found.ledger_ns[number].sum() == end - begin
        if number == found.typical:
            for row, (low, high) in enumerate(found.row_places.tolist()):
                assert (low >= 0) == (row in longest)
                assert high - low == longest.get(row, 0)


@pytest.mark.parametrize(("device", "compared"), [(0, 0), (1, 1), (-1, 1)])
def test_the_device_that_is_asked_for_is_compared_else_the_busiest(tmp_path, device, compared):
    two = {"start_us": [20, 30, 120, 130], "duration_us": [10, 20] * 2, "device": [0, 1] * 2}
    ranges = {"start_us": [10, 110], "end_us": [110, 200], "name": ["a 1", "a 2"]}
    found = measure(build(tmp_path, kernels=two, ranges=ranges), "nvtx:a", device)
    assert found.device == compared
    assert found.kernels.by_iteration.ns.tolist() == [[10 * US] * 2, [20 * US] * 2][compared]


def test_what_beyond_the_largest_kernels_is_one_row(tmp_path, monkeypatch):
    facts, *_ = random_program(tmp_path, 1, 1)
    whole = measure(facts, "nvtx:part", 0).kernels
    assert len(whole.names) > 3
    monkeypatch.setattr(side_tables, "MAX_KERNELS", 2)
    cut = measure(facts, "nvtx:part", 0).kernels
    assert cut.names == (*whole.names[:2], OTHERS)
    assert cut.short_names[2] == OTHERS
    assert cut.shapes[2].tolist() == [-1] * 6
    sums = [
        np.bincount(t.by_iteration.column, t.by_iteration.ns, minlength=3) for t in (whole, cut)
    ]
    assert sums[1].tolist() == [*sums[0][:2], sums[0][2:].sum()]
    assert sorted(set(cut.sequence.tolist())) <= [0, 1, 2]


def test_ranges_of_a_name_that_overlap_are_left_out_and_said_to_be(tmp_path):
    ranges = [(0, 100), (50, 150), (160, 200), (170, 180), (200, 260)]
    kernels = [(n + 1, 0, 7, 10 + 30 * n, 20 + 30 * n, "k", 1) for n in range(8)]
    calls = [(k[0], 0, k[3] - 5, "cudaLaunchKernel") for k in kernels]
    facts = recorded(tmp_path, ranges, kernels, [], [], calls)
    found = measure(facts, "nvtx:part", 0)
    assert found.window == (
        "5 repetitions of the NVTX range 'part'. 2 that overlap another one are left out."
    )
    assert found.start_ns.tolist() == [0, 170 * US, 200 * US]
    assert found.end_ns.tolist() == [110 * US, 200 * US, 260 * US]
    assert found.loop == "part"


def test_graphs_that_were_recorded_whole_are_counted_and_named(tmp_path):
    facts = build(
        tmp_path,
        graph_launches={"start_us": [10, 110, 140], "duration_us": [10, 10, 15]},
        ranges={"start_us": [0, 100], "end_us": [100, 200], "name": ["a 1", "a 2"]},
    )
    found = measure(facts, "nvtx:a", 0)
    assert found.counts["graph launches"].tolist() == [1, 2]
    assert found.counts["kernel launches"].tolist() == [0, 0]
    assert found.kernels.names == (GRAPH_NAME,)
    assert found.kernels.by_iteration.ns.tolist() == [10 * US, 25 * US]


@pytest.mark.parametrize("device", [0, 1])
def test_peaks_of_memory_are_of_the_compared_gpu_and_within_the_iterations(tmp_path, device):
    events = {
        "time_us": [5, 20, 30, 40, 150, 250],
        "device": [0, 0, 1, 1, 0, 0],
        "bytes": [10] * 6,
        "allocated_bytes": [900, 100, 700, 50, 300, 901],
        "reserved_bytes": [950, 500, 800, 850, 400, 951],
    }
    two = {"start_us": [20, 30, 120, 130], "duration_us": 10, "device": [0, 1, 0, 1]}
    facts = build(
        tmp_path,
        kernels=two,
        memory_events=events,
        ranges={"start_us": [10, 110], "end_us": [110, 200], "name": ["a 1", "a 2"]},
    )
    peaks = measure(facts, "nvtx:a", device).peak_bytes
    of_device = [{"in use": 300, "reserved": 500}, {"in use": 700, "reserved": 850}][device]
    assert peaks == {f"peak memory {name}": n for name, n in of_device.items()}


def test_old_recordings_tell_what_was_taken_since_the_first_iteration(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [20, 120], "duration_us": 10},
        memory_events={
            "time_us": [5, 30, 20, 40, 150],
            "device": 0,
            "bytes": [1_000, -50, 100, 70, 10],
            "allocated_bytes": -1,
            "reserved_bytes": -1,
        },
        ranges={"start_us": [10, 110], "end_us": [110, 200], "name": ["a 1", "a 2"]},
    )
    assert measure(facts, "nvtx:a", 0).peak_bytes == {
        "peak memory taken since the first iteration": 130
    }


def test_clocks_that_nsys_sampled_count_within_the_iterations(tmp_path):
    names = ["GPC Clock Frequency [MHz]", "SYS Clock Frequency [MHz]"]
    facts = build(
        tmp_path,
        kernels={"start_us": [20, 120], "duration_us": 10},
        gpu_metrics={
            "time_us": [9, 10, 50, 60, 199, 200],
            "name": [names[0], names[0], names[1], names[0], names[0], names[0]],
            "value": [9e9, 1.2e9, 7e9, 1.5e9, 1.8e9, 9e9],
        },
        ranges={"start_us": [10, 110], "end_us": [110, 200], "name": ["a 1", "a 2"]},
    )
    assert measure(facts, "nvtx:a", 0).sm_clock_mhz == pytest.approx(1_500)


def test_operators_are_counted_by_inputs_within_the_iterations(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [20, 120], "duration_us": 10},
        operators={
            "start_us": [5, 10, 60, 150, 170, 200],
            "duration_us": 1,
            "name": ["mm", "mm", "mm", "mm", "add", "mm"],
            "shapes_id": [0, 0, 0, 0, -1, 0],
        },
        ranges={"start_us": [10, 110], "end_us": [110, 200], "name": ["a 1", "a 2"]},
    )
    counts = measure(facts, "nvtx:a", 0).operators
    assert list(counts.values()) == [1.5]
    assert [name for name, _ in counts] == ["mm"]


# --- what is told of two sides --------------------------------------------------------------------


def metrics(base, new):
    return {m.name: m for m in compare(base, new).metrics}


def test_two_kernels_that_became_one_row_are_summed():
    # Both of the base run as the same kernel of the new side, which is of another shape.
    shape, other = (64, 1, 1, 256, 1, 1), (32, 1, 1, 256, 1, 1)
    base = side([100.0] * 9, kernels={("k", shape): 3_000, ("k", other): 2_000})
    new = side([100.0] * 9, name="new", kernels={("k", other): 1_500})
    changes = {(c.name, c.shape): c for c in compare([base], [new]).kernels}
    time = sorted((c.time.base, c.time.new) for c in changes.values())
    assert time == [(2_000, 1_500), (3_000, 0)]
    assert sorted((c.base_launches, c.new_launches) for c in changes.values()) == [(1, 0), (1, 1)]


@pytest.mark.parametrize(("count", "is_told"), [(MIN_SAMPLES, True), (MIN_SAMPLES - 1, False)])
def test_steps_that_the_workload_timed_itself_are_compared(count, is_told):
    steps = [[1_000_000 + 1_000 * (n % 3) for n in range(count)] for _ in range(2)]
    steps[1] = [ns // 2 for ns in steps[1]]
    sides = [
        side([1_000.0] * 9, name=name, summary={"step_ns": one})
        for name, one in zip(("a", "b"), steps, strict=True)
    ]
    found = metrics([sides[0]], [sides[1]])
    assert ("step, as the workload timed it" in found) == is_told
    if is_told:
        step = found["step, as the workload timed it"]
        assert (step.value.base, step.value.new) == tuple(np.median(s) for s in steps)
        assert step.value.change == step.value.new - step.value.base
        assert step.value.low < step.value.change < step.value.high
        assert step.value.low + step.value.high == pytest.approx(2 * step.value.change)
        assert (step.group, step.better, step.verdict) == ("workload", "lower", "better")
        assert step.value.significant
        assert step.value.p_value == step.value.p_adjusted < 0.05
        again = metrics([sides[0]], [side([1_000.0] * 9, name="c", summary={"step_ns": steps[0]})])
        assert not again["step, as the workload timed it"].value.significant


def test_a_metric_that_one_side_lacks_is_left_out():
    def stated(**values):
        listed = [
            {"name": n, "value": v, "unit": "s", "better": "lower"} for n, v in values.items()
        ]
        return {"metrics": listed}

    base = side([100.0] * 9, summary=stated(both=4.0, base=1.0), peak_bytes={"p": 10, "q": 1})
    new = side([100.0] * 9, name="n", summary=stated(both=3.0, new=1.0), peak_bytes={"p": 30})
    found = metrics([base], [new])
    assert {"both", "p"} <= set(found)
    assert {"base", "new", "q"}.isdisjoint(found)
    assert (found["both"].value.base, found["both"].value.new) == (4.0, 3.0)
    assert (found["p"].value.change, found["p"].value.unit) == (20, "bytes")
    assert not found["p"].value.significant  # one a side has no uncertainty


@pytest.mark.parametrize(
    ("values", "significant"), [((10, 11, 30, 31), True), ((10, 20, 21, 31), False)]
)
def test_peaks_of_several_recordings_have_an_uncertainty(values, significant):
    sides = [
        side([100.0] * 9, name=f"s{n}", peak_bytes={"p": value}) for n, value in enumerate(values)
    ]
    value = metrics(sides[:2], sides[2:])["p"].value
    assert (value.base, value.new) == (sum(values[:2]) / 2, sum(values[2:]) / 2)
    assert value.low < value.change < value.high
    assert value.significant is significant
    assert value.p_value == value.p_adjusted
    # Welch's interval of two runs each, of equal spread: t of two degrees of freedom is 4.303.
    spread = np.sqrt(np.var(values[:2], ddof=1) / 2 + np.var(values[2:], ddof=1) / 2)
    assert value.high - value.change == pytest.approx(4.3027 * spread, rel=1e-3)


@pytest.mark.parametrize(
    ("clocks", "level"),
    [(("1000 MHz", "1,000"), Level.UNKNOWN), (("1000 MHz", "1020"), Level.SAME)],
)
def test_clocks_that_the_workload_stated_are_the_last_resort(clocks, level):
    sides = [
        side([100.0] * 9, name=c, summary={"environment": {"clocks": {"clocks.sm": c}}})
        for c in clocks
    ]
    told = {d.what: d for d in compare([sides[0]], [sides[1]]).comparability}
    assert told["clocks"].level is level


def test_errors_of_a_capture_are_warned_of_on_their_side():
    broken = side([100.0] * 9, name="n", quality=(("error", "dropped", "Records were lost."),))
    told = [d for d in compare([side([100.0] * 9)], [broken]).comparability if d.what == "capture"]
    assert [(d.base, d.new, d.sentence) for d in told] == [
        ("", "dropped", "n (new): Records were lost.")
    ]
    told = [d for d in compare([broken], [side([100.0] * 9)]).comparability if d.what == "capture"]
    assert [(d.base, d.new) for d in told] == [("dropped", "")]


def test_copies_of_kinds_without_a_short_name_are_named(tmp_path):
    facts = build(
        tmp_path,
        copies={"start_us": [10, 120], "duration_us": 5, "kind": CopyKind.HOST_TO_HOST},
        ranges={"start_us": [0, 100], "end_us": [100, 200], "name": ["a 1", "a 2"]},
    )
    assert measure(facts, "nvtx:a", 0).counts["host_to_host copies"].tolist() == [1, 1]
