"""What Nsight Compute wrote is read as it was written, whatever surrounds it."""

import csv
import math
import random
import shutil
import time
import tracemalloc
from pathlib import Path

import pytest

from collectors import open_trace
from collectors.errors import RefusedError
from collectors.ncu import ncu, numbers
from collectors.ncu.labels import metric_of
from collectors.schema import ProfiledKind
from traces.ncu_writer import Launch, details_page, raw_page, report, write_report
from views.shared import places

REAL = Path(__file__).parents[2] / "shared" / "real"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not here")
REPORTS = sorted((REAL / "ncu_rep").glob("*.ncu-rep"))
PAGES = sorted((REAL / "ncu_csv").glob("*.csv"))
EXPORTED = sorted(p for p in (REAL / "expected" / "ncu").glob("*") if p.is_dir())
DESCRIBING = 11  # columns of a raw page before the metrics

DURATION = "gpu__time_duration.sum"
LANES = "smsp__thread_inst_executed_per_inst_executed.ratio"
BYTES = "dram__bytes.sum"


def opened(path, tmp_path):
    return open_trace(path, tmp_path / "cache")


def metrics_of(trace):
    """Return the metrics of each launch by name: numbers, and texts where there is no number."""
    table = trace.frame("counters")
    names, texts = (trace.names(table[c].to_numpy()) for c in ("name_id", "text_id"))
    launches = [{} for _ in range(trace.count("profiled_kernels"))]
    for row, name, value, text in zip(table["profiled"], names, table["value"], texts, strict=True):
        launches[row][name] = text or value
    return launches


def from_text(text, tmp_path, encoding="utf-8", name="page.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return opened(path, tmp_path)


def notes(trace):
    return {n.code: n.count for n in trace.notes}


# Real recordings.


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


@pytest.mark.parametrize(
    "cells",
    ['"1","k","(1, 1, 1)","{digits}x"', '"1","k","(1,{spaces}1,","5"', '"1","k","","{digits}("'],
)
def test_no_cell_takes_the_square_of_its_length(cells, tmp_path):
    row = cells.format(digits="1" * 390, spaces=" " * 10_000) + "\n"
    begin = time.process_time()
    header = f'"ID","Kernel Name","Grid Size","{DURATION}"\n"","","","ns"\n'
    from_text(header + row * 2_000, tmp_path)
    assert time.process_time() - begin < 4  # 1 s; once it was 10


def test_no_damage_to_a_page_is_worse_than_a_refusal(tmp_path):
    pages = [page([ONE, Launch(name='f<(int)3>("x, y")', metrics=ONE.metrics)]) for page in PRINTED]
    path = tmp_path / "damaged.csv"
    for seed in range(300):
        chance = random.Random(seed)
        text = pages[seed % 2]
        for _ in range(chance.randint(1, 8)):
            place = chance.randrange(len(text))
            junk = chance.choice(['"', "\n", ",", "\r", "9" * 30, "-1", "nan", "\0", "\ufeff"])
            text = text[:place] + junk + text[place + chance.randint(0, 20) :]
        path.write_text(text, newline="")
        if not ncu.recognizes(path):
            continue
        try:
            trace = opened(path, tmp_path)
        except RefusedError:
            continue
        assert all(c.rows == c.used + c.excluded for c in trace.row_counts)
        shutil.rmtree(trace.folder)


# Pages of text.

PRINTED = (raw_page, details_page)
ONE = Launch(metrics={DURATION: "2,500", LANES: "31.50"})


@pytest.mark.parametrize("page", [raw_page, details_page], ids=["raw", "details"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_page_is_read_in_the_encodings_of_all_shells(page, encoding, tmp_path):
    trace = from_text(page([ONE]).replace("\n", "\r\n"), tmp_path, encoding)
    assert metrics_of(trace)[0][DURATION] == 2_500
    assert metrics_of(trace)[0][LANES] == 31.5
    assert trace.source.format == "ncu-csv"


@pytest.mark.parametrize("page", [raw_page, details_page], ids=["raw", "details"])
@pytest.mark.parametrize(
    ("unit", "cell", "ns"),
    [
        *(("nsecond", "10,776,576", 10_776_576), ("usecond", "89.86", 89_860)),
        *(("msecond", "1.5", 1_500_000), ("second", "2", 2_000_000_000)),
        *(("ns", "512", 512), ("us", "6.75", 6_750), ("ms", "10.78", 10_780_000)),
        *(("s", "0.5", 500_000_000), ("µs", "3", 3_000)),
    ],
)
def test_times_of_all_versions_become_ns(page, unit, cell, ns, tmp_path):
    trace = from_text(page([Launch(metrics={DURATION: cell})], {DURATION: unit}), tmp_path)
    assert trace.frame("profiled_kernels")["duration_ns"].tolist() == [ns]


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        *(("", 1), ("%", 1), ("byte", 1), ("Kbyte", 1e3), ("Mbyte", 1e6), ("Gbyte", 1e9)),
        *(("Gbyte/second", 1e9), ("Gbyte/s", 1e9), ("Tbyte/s", 1e12), ("byte/second", 1)),
        *(("cycle/nsecond", 1e9), ("cycle/usecond", 1e6), ("Ghz", 1e9), ("Mhz", 1e6), ("hz", 1)),
        *(("Kbyte/block", 1e3), ("byte/block", 1), ("register/thread", 1), ("inst/cycle", 1)),
        *(("warp", 1), ("block", 1), ("cycle", 1), ("Kbyte/cycle", 1e3), ("cluster", 1)),
    ],
)
def test_units_become_base_units(unit, factor):
    assert numbers.scale(unit) == factor


def test_a_unit_nobody_knows_is_no_base_unit():
    assert numbers.scale("Mfoo") is None


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        (["1,234", "0.5"], [1_234, 0.5]),
        (["1.234", "0,5"], [1_234, 0.5]),
        (["27.595.520", "40,25", "1.234"], [27_595_520, 40.25, 1_234]),
        (["10,776,576", "1.234"], [10_776_576, 1.234]),
        (["250880", "2,520,000"], [250_880, 2_520_000]),
        (["1.234,50", "7"], [1_234.5, 7]),
        (["1\u202f234,5", "2\u00a0500"], [1_234.5, 2_500]),
        (["1.5e3", "1,000"], [1_500, 1_000]),
    ],
)
def test_how_numbers_are_written_is_decided_per_file(cells, read, tmp_path):
    names = [f"sm__metric{i}.sum" for i in range(len(cells))]
    for page in (raw_page, details_page):
        text = page([Launch(metrics=dict(zip(names, cells, strict=True)))])
        ours = metrics_of(from_text(text, tmp_path))[0]
        assert [ours[n] for n in names] == pytest.approx(read)


def test_what_was_not_collected_is_absent_and_not_zero(tmp_path):
    cells = {
        "a__x.sum": "n/a",
        "b__x.sum": "",
        "c__x.sum": "no data",
        "d__x.sum": "-nan",
        DURATION: "5",
    }
    for page in (raw_page, details_page):
        trace = from_text(page([Launch(metrics=cells)]), tmp_path)
        ours = metrics_of(trace)[0]
        assert {"a__x.sum", "b__x.sum", "c__x.sum"}.isdisjoint(ours)
        assert math.isnan(ours["d__x.sum"])
        assert notes(trace)["metric_absent"] == 2
        assert notes(trace)["metric_not_a_number"] == 1


def test_messages_and_output_around_the_rows_are_stepped_over(tmp_path):
    text = details_page([ONE, ONE])
    header, first, *rest = text.splitlines()
    lines = ["loss 0.5", '==PROF== Connected to process 7 (/bin/"odd)', header, first]
    lines += ["step 3, loss 0.25", '==PROF== Profiling "kernel" - 1: 0%....100% - 3 passes', *rest]
    trace = from_text("\n".join([*lines, "==PROF== Disconnected"]), tmp_path)
    assert [len(m) for m in metrics_of(trace)] == [4, 4]  # two, and the GPU's capability
    assert not [n for n in trace.notes if n.effect == "excluded"]


def test_rows_may_be_ragged_and_go_on_over_lines(tmp_path):
    header, *rows = details_page([ONE]).splitlines()
    header += ',"Rule Name","Rule Type","Rule Description"'
    describing = rows[0].split(',"Command line')[0]
    rule = f'{describing},"SpeedOfLight","","","","Bottleneck","WRN","two\nlines, ""quoted"""'
    trace = from_text("\n".join([header, rows[0] + ",", rule, rows[1] + ","]), tmp_path)
    assert metrics_of(trace)[0][LANES] == 31.5
    assert notes(trace) == {"rule_results": 1}
    assert trace.row_counts[0].used == 3


def test_a_quote_that_never_closes_costs_its_row_only(tmp_path):
    lines = details_page([ONE]).splitlines()
    text = "\n".join([*lines, '"0","7","broken', *["x"] * 300])
    trace = from_text(text, tmp_path)
    assert metrics_of(trace)[0][LANES] == 31.5
    assert "row_unclosed" in notes(trace)


def test_launches_with_one_number_but_another_name_stay_apart(tmp_path):
    pages = [details_page([Launch(name=n, metrics={DURATION: "5"})]) for n in ("a()", "b()")]
    body = pages[1].partition("\n")[2]
    assert from_text(pages[0] + body, tmp_path).count("profiled_kernels") == 2


def test_two_runs_in_one_file_stay_apart(tmp_path):
    page = details_page([ONE])
    assert from_text(page + page, tmp_path).count("profiled_kernels") == 2


def test_names_with_commas_and_quotes_are_kept(tmp_path):
    name = 'void f<float, (int)2>(const char *, "odd, name")'
    trace = from_text(raw_page([Launch(name=name, metrics={DURATION: "5"})]), tmp_path)
    assert trace.names(trace.frame("profiled_kernels")["name_id"].to_numpy()).tolist() == [name]


def test_a_table_that_a_spreadsheet_saved_again_is_read(tmp_path):
    text = raw_page([Launch(grid=(2, 3, 1), metrics={DURATION: "2.500", LANES: "31,5"})])
    rows = csv.reader(text.splitlines())
    path = tmp_path / "again.csv"
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    trace = opened(path, tmp_path)
    assert metrics_of(trace)[0][LANES] == 31.5
    assert trace.frame("profiled_kernels")["duration_ns"].tolist() == [2_500]
    assert trace.frame("profiled_kernels")["grid_y"].tolist() == [3]


def test_instances_printed_behind_a_value_do_not_spoil_it(tmp_path):
    trace = from_text(raw_page([Launch(metrics={LANES: "31.5 (31.5; 31.5)"})]), tmp_path)
    assert metrics_of(trace)[0][LANES] == 31.5


def test_columns_of_nvtx_ranges_are_no_metrics(tmp_path):
    text = raw_page([ONE])
    column = '"thread Domain:Push/Pop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg"'
    lines = [
        line.replace('"Host Name"', f'"Host Name",{column}').replace(
            '"127.0.0.1"', '"127.0.0.1","<default domain>:step"'
        )
        for line in text.splitlines()
    ]
    lines[1] = '"",' + lines[1]
    ours = metrics_of(from_text("\n".join(lines), tmp_path))[0]
    assert ours[DURATION] == 2_500
    assert not [n for n in ours if "Domain" in n]


def test_labels_of_the_details_page_become_exact_names():
    light = "GPU Speed Of Light Throughput"
    assert metric_of(light, "Memory Throughput").startswith("gpu__compute_memory_throughput")
    assert (
        metric_of("Memory Workload Analysis", "Memory Throughput") == "dram__bytes.sum.per_second"
    )
    assert metric_of("Command line profiler metrics", LANES) == LANES
    assert metric_of("GPU Speed Of Light", "SOL SM").startswith("sm__throughput")
    assert metric_of(light, "No such label") == ""


def test_without_permission_the_way_out_is_told(tmp_path):
    lines = [
        "==PROF== Connected to process 7 (/bin/program)",
        "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU "
        "Performance Counters on the target device 0.",
    ]
    with pytest.raises(RefusedError, match="counters were not permitted") as refusal:
        from_text("\n".join(lines), tmp_path)
    assert "NVreg_RestrictProfilingToAdminUsers=0" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_launches_that_were_not_permitted_beside_others_are_told(tmp_path):
    text = details_page([ONE]) + "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission\n"
    assert "counters_not_permitted" in notes(from_text(text, tmp_path))


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


@pytest.mark.parametrize("name", ["unknown", "page.txt", "report.json", "a.sqlite"])
def test_the_content_tells_what_a_file_is_not_its_name(name, tmp_path):
    path = tmp_path / name
    for data in (report([ONE]), raw_page([ONE]).encode(), details_page([ONE]).encode("utf-16")):
        path.write_bytes(data)
        assert ncu.recognizes(path)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "ID,Name\n1,2\n", "{}", '"ID"\n', "x" * 100])
def test_other_tables_are_not_taken_for_counters(text, tmp_path):
    path = tmp_path / "other.csv"
    path.write_text(text)
    assert not ncu.recognizes(path)


def test_watched_folders_list_the_tables_of_counters_and_no_others(tmp_path):
    for name, text in (("a.csv", raw_page([ONE])), ("b.csv", "date,price\n2026-01-01,5\n")):
        (tmp_path / name).write_text(text)
    assert [p.relative_name for p in places.recordings(tmp_path)] == ["a.csv"]


def test_only_so_many_tables_of_a_watched_folder_are_looked_into(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "MAX_TABLES", 3)
    for number in range(9):
        (tmp_path / f"{number}.csv").write_text(raw_page([ONE]))
    assert len(places.recordings(tmp_path)) == 3
