"""Pages that Nsight Compute prints are read, whatever surrounds their rows."""

import csv
import math
import random
import shutil
import time

import pytest

from collectors.errors import RefusedError
from collectors.ncu import ncu, numbers
from collectors.ncu.labels import metric_of
from tests.ncu_traces import DURATION, LANES, metrics_of, notes, opened
from traces.ncu_writer import Launch, details_page, raw_page, report
from views.shared import places


def from_text(text, tmp_path, encoding="utf-8", name="page.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return opened(path, tmp_path)


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
    assert notes(trace) == {}
    assert trace.count("rule_results") == 1
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
    own = "memory_l2_theoretical_sectors_global"
    assert metric_of("Command line profiler metrics", own) == own
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


@pytest.mark.parametrize(("more", "ragged"), [(0, 0), (1, 0), (2, 1), (5, 1)])
def test_rows_that_do_not_fit_their_header_are_left_out_and_counted(more, ragged, tmp_path):
    text = raw_page([ONE, ONE])
    last = text.rstrip("\n").rsplit("\n", 1)[-1]
    trace = from_text(text + last + ',"1"' * more + "\n", tmp_path)
    assert trace.count("profiled_kernels") == 3 - ragged
    assert notes(trace).get("row_ragged", 0) == ragged
    assert all(c.rows == c.used + c.excluded for c in trace.row_counts)


def test_names_of_kernels_and_texts_of_metrics_are_cut_to_65_536_characters(tmp_path):
    launch = Launch(name="k" * 70_000 + "(int)", metrics={DURATION: "2,500", LANES: "t" * 70_000})
    trace = from_text(raw_page([launch]), tmp_path)
    name = trace.names(trace.frame("profiled_kernels")["name_id"].to_numpy())[0]
    assert len(name) == 65_536
    assert len(metrics_of(trace)[0][LANES]) == 65_536


@pytest.mark.parametrize(
    ("unit", "value"), [("Mfurlong", None), ("us", 2_500_000), ("furlong", 2_500)]
)
def test_units_that_nobody_knows_leave_their_metric_out(unit, value, tmp_path):
    header, units, *rows = raw_page([ONE]).splitlines()
    units = units[: -len(',"",""')] + f',"{unit}",""'
    trace = from_text("\n".join((header, units, *rows)) + "\n", tmp_path)
    assert notes(trace).get("unit_unknown", 0) == (value is None)
    assert metrics_of(trace)[0].get(DURATION) == value
    assert metrics_of(trace)[0][LANES] == 31.5


@pytest.mark.parametrize(
    ("cell", "stream", "noted"),
    [
        ("1000000000000000000", 10**18, 0),
        ("4611686018427387904", 2**62, 0),
        ("9223372036854775807", 2**63 - 1, 0),
        ("9223372036854775808", -1, 1),
        ("00000000000000000000007", 7, 0),
        ("9" * 5_000, -1, 1),
    ],
)
def test_numbers_of_a_launch_have_64_bits_of_which_one_is_the_sign(tmp_path, cell, stream, noted):
    text = f'"ID","Kernel Name","Stream","{DURATION}"\n"","","","ns"\n"1","k","{cell}","5"\n'
    trace = from_text(text, tmp_path)
    assert trace.frame("profiled_kernels")["stream"].tolist() == [stream]
    assert notes(trace).get("number_out_of_range", 0) == noted
