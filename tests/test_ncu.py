"""Reports of Nsight Compute are read as written; no damage is worse than a refusal."""

import csv
import math
import random
import re
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from collectors.errors import RefusedError
from collectors.ncu import numbers, report_pb2
from collectors.schema import ProfiledKind
from tests.ncu_traces import DURATION, EXPORTED, LANES, REAL, metrics_of, notes, opened
from traces.ncu_writer import Launch, Rule, report, write_report

ROOT = Path(__file__).parents[1]


needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not here")
REPORTS = sorted((REAL / "ncu_rep").glob("*.ncu-rep"))
PAGES = sorted((REAL / "ncu_csv").glob("*.csv"))
DESCRIBING = 11  # columns of a raw page before the metrics


# Recordings of others.


def cells_of(exported):
    with (exported / "raw.csv").open(newline="") as file:
        header, units, *rows = csv.reader(file)
    for number, row in enumerate(rows):
        for name, unit, cell in list(zip(header, units, row, strict=True))[DESCRIBING:]:
            yield number, name, unit, cell


@needs_real
@pytest.mark.parametrize("exported", EXPORTED, ids=lambda p: p.name[-20:])
def test_a_report_holds_what_ncu_itself_prints_of_it(exported, tmp_path):
    ours = metrics_of(opened(REAL / "ncu_rep" / f"{exported.name}.ncu-rep", tmp_path))
    compared = 0
    for number, name, unit, cell in cells_of(exported):
        value = ours[number].get(name)
        if cell in ("", "no data"):
            assert value is None
        elif isinstance(value, str):
            assert value == cell
        elif math.isnan(value):
            # ncu prints some of the not-a-numbers of a launch that failed as zeros.
            assert cell in ("nan", "-nan", "0.000000")
        else:
            scale = numbers.scale(unit)
            rounded = 0.500001 * 10.0 ** -len(cell.partition(".")[2])
            assert value == pytest.approx(float(cell) * scale, rel=1e-9, abs=rounded * scale)
        compared += 1
    assert compared > 1_000


@needs_real
@pytest.mark.parametrize("exported", EXPORTED, ids=lambda p: p.name[-20:])
def test_both_pages_tell_the_same_as_the_report(exported, tmp_path):
    report_ = opened(REAL / "ncu_rep" / f"{exported.name}.ncu-rep", tmp_path)
    raw, details = (opened(exported / f"{page}.csv", tmp_path) for page in ("raw", "details"))
    shape = ["grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z"]
    for page in (raw, details):
        ours, theirs = (t.frame("profiled_kernels") for t in (page, report_))
        assert ours[shape].equals(theirs[shape])
        assert page.names(ours["name_id"]).tolist() == report_.names(theirs["name_id"]).tolist()
        assert ours["duration_ns"].tolist() == pytest.approx(theirs["duration_ns"], rel=0.005)
    for known, shown in zip(metrics_of(report_), metrics_of(details), strict=True):
        for name, value in shown.items():
            rounded = (
                known[name] if isinstance(value, str) else pytest.approx(known[name], 0.02, 0.01)
            )
            assert value == rounded or math.isnan(value)


@needs_real
@pytest.mark.parametrize("path", [*REPORTS, *PAGES], ids=lambda p: p.name[-40:])
def test_every_real_file_is_read_whole_or_refused_in_one_line(path, tmp_path):
    if "pooling" in path.name:
        with pytest.raises(RefusedError, match="no profiled kernel") as refusal:
            opened(path, tmp_path)
        assert "\n" not in str(refusal.value)
        return
    trace = opened(path, tmp_path)
    assert trace.count("counters")
    assert not [n for n in trace.notes if n.effect == "excluded"]
    assert [(c.rows, c.excluded) for c in trace.row_counts] == [
        (c.used, 0) for c in trace.row_counts
    ]


@needs_real
@pytest.mark.parametrize(
    ("part", "launches", "metrics"),
    [("bert", 26, 60), ("nsight162", 162, 21), ("bilinear", 76, 60), ("virtual", 2, 21)],
)
def test_long_pages_of_old_versions_give_every_launch_and_metric(part, launches, metrics, tmp_path):
    ours = metrics_of(opened(next(p for p in PAGES if part in p.name), tmp_path))
    assert [len(m) for m in ours] == [metrics] * launches


@needs_real
def test_a_report_of_2025_with_thousands_of_metrics_is_read_with_their_parts(tmp_path):
    trace = opened(next(p for p in REPORTS if "JAX" in p.name), tmp_path)
    launches = trace.frame("profiled_kernels")
    assert launches["duration_ns"].tolist() == [5_184, 5_184, 4_928]
    assert launches["grid_x"].tolist() == [4, 2, 2]
    assert trace.frame("devices")["name"].tolist() == ["NVIDIA GB200"]
    assert trace.frame("devices")["sm_count"].tolist() == [152]
    assert len(metrics_of(trace)[0]) > 2_400
    assert trace.count("counter_instances") > 10_000


@needs_real
def test_the_gpu_is_described(tmp_path):
    device = opened(REPORTS[0], tmp_path).frame("devices").iloc[0]
    assert (device["name"], device["sm_count"], device["max_warps_per_sm"]) == (
        "NVIDIA A10G",
        80,
        48,
    )
    assert (device["compute_major"], device["compute_minor"]) == (8, 6)
    assert device["memory_bytes_per_s"] == pytest.approx(600e9, rel=0.01)  # its data sheet


# Reports.


def test_a_report_gives_launches_metrics_and_parts(tmp_path):
    launch = Launch(
        name="void ns::march_rays<float, (int)3>(float *, int)",
        grid=(64, 2, 1),
        block=(128, 1, 1),
        metrics={DURATION: 5_000.0, LANES: 12.5, "launch__func_cache_config": "CachePreferNone"},
        instances={"inst_executed": [(0x7F00_0000_1000, 3), (0x7F00_0000_1010, 4)]},
    )
    trace = opened(write_report(tmp_path / "a.ncu-rep", [launch, launch]), tmp_path)
    rows = trace.frame("profiled_kernels")
    assert rows["duration_ns"].tolist() == [5_000, 5_000]
    assert trace.names(rows["short_name_id"].to_numpy()).tolist() == ["march_rays"] * 2
    assert rows[["grid_x", "grid_y", "block_x", "stream"]].iloc[0].tolist() == [64, 2, 128, 7]
    assert metrics_of(trace)[1] == {**launch.metrics}
    parts = trace.frame("counter_instances")
    assert parts["place"].tolist()[:2] == [0x7F00_0000_1000, 0x7F00_0000_1010]
    assert parts["value"].tolist() == [3, 4, 3, 4]
    assert trace.source.format == "ncu-rep"


def test_a_range_is_kept_as_a_range(tmp_path):
    launches = [Launch(metrics={DURATION: 10.0}), Launch(metrics={DURATION: 7.0}, is_range=True)]
    trace = opened(write_report(tmp_path / "a.ncu-rep", launches), tmp_path)
    kinds = trace.frame("profiled_kernels")["kind"].tolist()
    assert kinds == [ProfiledKind.KERNEL, ProfiledKind.RANGE]


def test_a_report_that_was_cut_off_keeps_what_is_whole_and_says_so(tmp_path):
    data = report([Launch(metrics={DURATION: 10.0, LANES: 32.0})] * 3)
    path = tmp_path / "cut.ncu-rep"
    path.write_bytes(data[:-20])
    trace = opened(path, tmp_path)
    assert trace.count("profiled_kernels") == 2
    assert "report_damaged" in notes(trace)


def test_a_report_without_its_head_is_refused(tmp_path):
    path = tmp_path / "headless.ncu-rep"
    path.write_bytes(report([Launch(metrics={DURATION: 10.0})])[10:])
    with pytest.raises(RefusedError, match="does not begin like an Nsight Compute report"):
        opened(path, tmp_path)


def test_no_damage_to_a_report_is_worse_than_a_refusal(tmp_path):
    clean = report([Launch(metrics={DURATION: 10.0, LANES: 32.0, "a": "text"})] * 3)
    path = tmp_path / "damaged.ncu-rep"
    for seed in range(400):
        chance = random.Random(seed)
        data = bytearray(clean)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(4, len(data))] = chance.randrange(256)
        if chance.random() < 0.3:
            data = data[: chance.randrange(4, len(data))]
        path.write_bytes(data)
        try:
            trace = opened(path, tmp_path)
        except RefusedError:
            continue
        shutil.rmtree(trace.folder)


_KINDS = {1: "double", 2: "float", 4: "uint64", 12: "bytes", 13: "uint32"}


def test_the_generated_code_is_that_of_the_message_definitions():
    text = (ROOT / "collectors" / "ncu" / "report.proto").read_text()
    written = {
        name: {
            (kind, field, int(number))
            for kind, field, number in re.findall(r"(\w+) (\w+) = (\d+);", body)
        }
        for name, body in re.findall(r"message (\w+) \{\n(.*?)\n\}", text, re.DOTALL)
    }
    generated = {
        name: {
            (f.message_type.name if f.message_type else _KINDS[f.type], f.name, f.number)
            for f in message.fields
        }
        for name, message in report_pb2.DESCRIPTOR.message_types_by_name.items()
    }
    assert generated == written


def varint(number):
    text = b""
    while number > 127:
        text += bytes([number & 127 | 128])
        number >>= 7
    return text + bytes([number])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def sized(message):
    return len(message).to_bytes(4, "little") + message


def block(launches, names=(DURATION,), **counts):
    """Return a block as it stands in a report; ``counts`` replaces what its header says."""
    payload = b"".join(map(sized, launches))
    said = {"results": len(launches), "size": len(payload), "created": 0} | counts
    strings = b"".join(field(1, n.encode()) for n in names)
    header = field(2, said["results"]) + field(3, field(2, said["created"])) + field(4, strings)
    return sized(header + field(5, said["size"])) + payload


def blocks(*parts):
    return b"NVR\0" + sized(field(1, 7)) + b"".join(parts)


def metric(name, value):
    return field(13, field(1, name) + field(2, field(5, value)))


LAUNCH = field(7, b"k") + metric(0, 500)


def from_bytes(data, tmp_path):
    path = tmp_path / "a.ncu-rep"
    path.write_bytes(data)
    return opened(path, tmp_path)


def test_names_of_metrics_are_numbered_over_all_blocks(tmp_path):
    second = block([field(7, b"q") + metric(1, 5) + metric(0, 7)], ["second"])
    trace = from_bytes(blocks(block([LAUNCH]), second), tmp_path)
    assert metrics_of(trace) == [{DURATION: 500}, {"second": 5, DURATION: 7}]


def test_a_block_may_name_metrics_that_only_a_later_block_adds(tmp_path):
    first = block([field(7, b"k") + metric(1, 5) + metric(0, 7)])
    trace = from_bytes(blocks(first, block([LAUNCH], ["late"])), tmp_path)
    assert metrics_of(trace) == [{"late": 5, DURATION: 7}, {DURATION: 500}]
    assert notes(trace) == {}


def test_a_metric_whose_name_is_in_no_table_is_left_out_alone(tmp_path):
    odd = field(7, b"k") + metric(0, 500) + metric(1, 5) + field(13, field(2, field(5, 9)))
    trace = from_bytes(blocks(block([odd, LAUNCH])), tmp_path)
    assert metrics_of(trace) == [{DURATION: 500}, {DURATION: 500}]
    assert notes(trace) == {"metric_unnamed": 2}


@pytest.mark.parametrize(
    "hostile",
    [
        block([field(7, b"k") + field(13, b"") * 6_000_000]),
        block([field(7, b"k") + field(13, field(1, 0) + field(3, b"") * 6_000_000)]),
        block([field(7, b"k") + field(19, field(3, field(1, b"") * 6_000_000))]),
        block([LAUNCH], [""] * 6_000_000),
    ],
    ids=["metrics", "parts", "rules", "strings"],
)
def test_millions_of_empty_fields_never_fill_the_memory(hostile, tmp_path):
    path = tmp_path / "hostile.ncu-rep"
    path.write_bytes(blocks(block([LAUNCH]), hostile))
    reading = "import resource, sys; from pathlib import Path; from collectors.ncu import report\n"
    reading += "begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    reading += "read = list(report.NcuReport(Path(sys.argv[1]), lambda *note: None))\n"
    reading += "end = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    reading += "print(len(read), (end - begin) // 1024)"
    done = subprocess.run(
        [sys.executable, "-c", reading, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    launches, mebibytes = map(int, done.stdout.split())
    assert launches >= 1
    assert mebibytes < 100


@pytest.mark.parametrize("size", [1 << 20, 1 << 40, 1 << 62, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("said", ["size", "results"])
def test_a_report_that_promises_more_than_it_holds_is_read_and_told(said, size, tmp_path):
    trace = from_bytes(blocks(block([LAUNCH], **{said: size})), tmp_path)
    assert metrics_of(trace) == [{DURATION: 500}]
    assert notes(trace) == {"report_damaged": 1}


@pytest.mark.parametrize("created", [1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_report_made_at_no_possible_time_has_none(created, tmp_path):
    trace = from_bytes(blocks(block([LAUNCH], created=created)), tmp_path)
    assert trace.source.start_utc_ns == -1


def test_fields_that_are_not_known_are_stepped_over(tmp_path):
    more = field(500, b"x") + field(501, 7) + varint(502 << 3 | 1) + bytes(8)
    trace = from_bytes(blocks(block([LAUNCH + more])), tmp_path)
    assert (metrics_of(trace), notes(trace)) == ([{DURATION: 500}], {})


def test_a_metric_of_millions_of_parts_is_refused_before_it_fills_the_memory(tmp_path):
    parts = field(13, field(1, 0) + field(3, field(2, field(4, 1))) * 600_000)
    tracemalloc.start()
    with pytest.raises(RefusedError, match="no profiled kernel"):
        from_bytes(blocks(block([field(7, b"k") + parts])), tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60_000_000


def test_a_grid_that_is_given_in_threads_becomes_blocks(tmp_path):
    launches = [
        Launch(grid=(156_160, 1, 1), block=(128, 1, 1), metrics={"launch__grid_size": 1_220}),
        Launch(grid=(64, 32, 2), block=(16, 8, 1), metrics={"launch__grid_size": 32}),
        Launch(grid=(1_220, 1, 1), block=(128, 1, 1), metrics={"launch__grid_size": 1_220}),
        Launch(grid=(1_220, 1, 1), block=(128, 1, 1), metrics={}),
    ]
    trace = opened(write_report(tmp_path / "a.ncu-rep", launches), tmp_path)
    grids = trace.frame("profiled_kernels")[["grid_x", "grid_y", "grid_z"]].to_numpy().tolist()
    assert grids == [[1_220, 1, 1], [4, 4, 2], [1_220, 1, 1], [1_220, 1, 1]]
    assert notes(trace)["grid_in_threads"] == 2


RULES = (
    Rule("SOLBottleneck", "Look at @section:LaunchStats:Launch Statistics@ for\n more."),
    Rule("LaunchConfiguration", "See the @url:Hardware Model:https://a.b/c#d@.", 2),
    Rule("IssueSlotUtilization", "every 29.5 cycles", 4, 1, 96.625),
    Rule("UncoalescedGlobalAccess", "excessive sectors", 4, 2, 17.25),
    Rule("Compute", ""),
)
SAID = [
    ("SOLBottleneck", 4, "Look at Launch Statistics for more.", -1, None),
    ("LaunchConfiguration", 2, "See the Hardware Model.", -1, None),
    ("IssueSlotUtilization", 4, "every 29.5 cycles", 1, 96.625),
    ("UncoalescedGlobalAccess", 4, "excessive sectors", 2, 17.25),
]


def said_by_rules(trace):
    table = trace.frame("rule_results")
    rules, texts = (trace.names(table[c].to_numpy()) for c in ("rule_id", "text_id"))
    pct = [None if math.isnan(p) else p for p in table["speedup_pct"]]
    return list(zip(rules, table["kind"], texts, table["scope"], pct, strict=True))


def test_what_the_tools_own_rules_said_is_kept(tmp_path):
    launches = [Launch(metrics={DURATION: 5.0}), Launch(metrics={DURATION: 5.0}, rules=RULES)]
    trace = opened(write_report(tmp_path / "a.ncu-rep", launches), tmp_path)
    assert said_by_rules(trace) == SAID
    assert trace.frame("rule_results")["profiled"].tolist() == [1, 1, 1, 1]


def test_a_damaged_rule_costs_the_rules_of_its_launch_alone(tmp_path):
    launch = LAUNCH + field(19, b"\x0a\xff")
    trace = from_bytes(blocks(block([launch, LAUNCH])), tmp_path)
    assert metrics_of(trace) == [{DURATION: 500}, {DURATION: 500}]
    assert notes(trace) == {"rule_damaged": 1}


@needs_real
@pytest.mark.parametrize("exported", EXPORTED, ids=lambda p: p.name[-20:])
def test_the_rules_of_a_report_are_those_that_ncu_itself_prints(exported, tmp_path):
    report_ = opened(REAL / "ncu_rep" / f"{exported.name}.ncu-rep", tmp_path)
    page = opened(exported / "details.csv", tmp_path)
    ours, theirs = (
        sorted(
            (launch, rule, kind)
            for launch, (rule, kind, *_) in zip(
                trace.frame("rule_results")["profiled"], said_by_rules(trace), strict=True
            )
        )
        for trace in (report_, page)
    )
    assert ours == theirs
    assert len(theirs) >= 4


def test_without_a_duration_it_is_computed_from_cycles_and_said_so(tmp_path):
    metrics = {"sm__cycles_elapsed.max": 3_000.0, "sm__cycles_elapsed.avg.per_second": 1.5e9}
    trace = opened(write_report(tmp_path / "a.ncu-rep", [Launch(metrics=metrics)]), tmp_path)
    assert trace.frame("profiled_kernels")["duration_ns"].tolist() == [2_000]
    assert notes(trace) == {"profiled_duration_computed": 1}


def test_no_host_name_and_no_folder_of_the_program_is_kept(tmp_path):
    trace = opened(
        write_report(tmp_path / "a.ncu-rep", [Launch(metrics={DURATION: 1.0})]), tmp_path
    )
    assert trace.frame("processes")["name"].tolist() == ["program"]
    assert "127.0.0.1" not in trace.frame("strings")["value"].tolist()
