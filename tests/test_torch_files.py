"""Traces of the torch profiler that are damaged, cut off, compressed or no traces at all."""

import gzip
import json
import os
import random
import time

import pytest

from analyzers import analyze
from collectors import open_trace
from collectors.errors import RefusedError
from collectors.torch_profiler import torch_profiler
from tests.torch_traces import (
    GPU,
    PID,
    TID,
    balanced,
    call,
    kernel,
    launches,
    names,
    notes,
    opener,
    trace_text,
    x,
)


@pytest.fixture
def opened(tmp_path):
    return opener(tmp_path)


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
@pytest.mark.parametrize("lost", [1, 40, 300])
def test_what_is_whole_of_a_file_that_is_cut_off_is_kept(opened, tmp_path, name, lost):
    text = trace_text(launches(20), {}).encode()
    whole = gzip.compress(text) if name.endswith(".gz") else text
    path = tmp_path / name
    if name.endswith(".gz"):
        lost //= 8
    path.write_bytes(whole[: len(whole) - max(lost, 1)])
    trace = open_trace(path, tmp_path / "cache")
    assert 1 <= trace.count("kernels") <= 20
    assert {"json_truncated", "json_unclosed", "gzip_damaged"} & set(notes(trace))


def test_a_cut_list_says_how_much_is_lost(opened):
    text = trace_text(launches(3), {})
    place = text.rindex('"stream"')
    trace = opened(text[:place])
    assert trace.count("kernels") == 2
    (note,) = [n for n in trace.notes if n.code == "json_truncated"]
    assert note.severity == "data_loss"
    begin = text.rindex("{", 0, text.rindex('"ph"'))
    assert f"{place - begin:,} bytes" in note.message


def test_a_list_cut_before_its_gpu_work_is_cut_off_and_not_untraced(opened):
    text = trace_text(launches(3), {})
    trace = opened(text[: text.index('"cat": "kernel"')])
    assert not trace.count("kernels")
    assert analyze(trace).verdict.sentence.startswith("Could not tell: the file is truncated")


def test_a_bare_list_needs_no_end(opened):
    assert opened(json.dumps(launches())).count("kernels") == 3
    assert opened(json.dumps(launches(2))[:-1], "open.json").count("kernels") == 2


def test_bytes_that_are_not_utf8_lose_only_themselves(opened):
    text = trace_text(launches(), {}).encode().replace(b"gemm", b"ge\xff", 1)
    trace = opened(text)
    assert trace.count("kernels") == 3
    assert any("ge\ufffd" in n for n in names(trace, "kernels"))
    assert notes(trace)["text_not_utf8"] == 2  # the name, and the short name


def test_control_characters_nan_and_equal_keys_are_survived(opened):
    odd = '{"ph":"X","cat":"kernel","name":"a\x01b","pid":0,"tid":7,"ts":1,"ts":400,"dur":9,'
    odd += '"args":{"device":0,"stream":7,"correlation":3,"x":NaN}}'
    text = trace_text(launches(2), {}).replace('"traceEvents": [', f'"traceEvents": [{odd},')
    trace = opened(text)
    assert 400_000 in trace.frame("kernels")["start_ns"].tolist()
    assert "a\x01b" in names(trace, "kernels")


ABOUT = {"ph": "M", "pid": PID, "tid": TID, "ts": 0}


def test_halves_of_characters_are_no_trouble_anywhere(opened):
    """JSON can write half of a pair of surrogates, which no encoding of text can."""
    half = {"name": "\ud800x", "labels": "\ud800x"}
    meta = [
        {**ABOUT, "name": n, "args": half}
        for n in ("thread_name", "process_name", "process_labels")
    ]
    odd = [kernel(900, 9, name="\ud800x"), x("cpu_op", "\ud800x", 0, 5)]
    gpu = {**GPU, "name": "\ud800x"}
    trace = opened([*launches(), *meta, *odd], deviceProperties=[gpu], schemaVersion="\ud800")
    assert trace.count("kernels") == 4
    analyze(trace)


@pytest.mark.parametrize(
    "odd",
    [
        lambda n: kernel(900, 9, name="(" + " " * n, cat="gpu_memcpy"),
        lambda n: kernel(900, 9, name=".kd" * n + "x"),
        lambda n: kernel(900, 9, name=" [clone " * n + "x"),
        lambda n: kernel(900, 9, name="<" * n),
        lambda n: kernel(900, 9, stream="1" * n + "x"),
        lambda n: call(900, 9, name="_v1" * n),
        lambda n: call(900, 9, name="a", tid="1" * n + "x"),
    ],
)
def test_no_long_text_takes_the_square_of_its_length(opened, odd):
    begin = time.process_time()
    opened([*launches(), odd(200_000)])
    assert time.process_time() - begin < 5


def test_members_that_are_no_events_are_counted(opened):
    text = trace_text(launches(), {}).replace(
        '"traceEvents": [', '"traceEvents": [null, 5, [1], {x}, '
    )
    trace = opened(text)
    assert trace.count("kernels") == 3
    assert notes(trace)["json_member_skipped"] == 4
    assert balanced(trace)


def test_text_that_looks_like_the_border_of_two_events_is_text(opened):
    names_ = ['}, {"ph": "X"', "}]}, {", '\\"}, {\\"', "]"]
    events = [
        e for n, text in enumerate(names_) for e in (call(n * 9, n), kernel(n * 9, n, name=text))
    ]
    assert sorted(names(opened(events), "kernels")) == sorted(names_)


def test_batches_end_anywhere(opened, monkeypatch):
    monkeypatch.setattr("collectors.torch_profiler.stream.BATCH_BYTES", 700)
    monkeypatch.setattr("collectors.torch_profiler.stream.TAIL_BYTES", 300)
    monkeypatch.setattr("collectors.torch_profiler.file.CHUNK_BYTES", 97)
    events = [{**e, "args": {**e["args"], "deep": [{"a": 1}, {"b": 2}]}} for e in launches(60)]
    text = json.dumps({"deviceProperties": [GPU, GPU], "traceEvents": events, "end": [{}, {}]})
    trace = opened(text)
    assert trace.count("kernels") == trace.count("api_calls") == 60
    assert not trace.notes


def test_values_behind_the_events_count(opened):
    text = json.dumps({"traceEvents": launches(), "deviceProperties": [GPU], "x": {"y": [[]]}})
    assert opened(text).frame("devices")["name"].tolist() == ["NVIDIA A100"]


def test_what_stands_behind_the_end_belongs_to_the_file(opened, monkeypatch):
    monkeypatch.setattr("collectors.torch_profiler.file.CHUNK_BYTES", 1_000)
    text = trace_text(launches(), {})
    one, two = opened(text + " " * 9_000 + "junk"), opened(text + " " * 9_000 + "other", "b.json")
    assert one.source.sha256 != two.source.sha256
    assert notes(one) == {"json_trailing": 1}


def test_two_lists_of_events_are_both_read(opened):
    first, second = json.dumps(launches(2)), json.dumps([call(900, 9), kernel(910, 9)])
    trace = opened(f'{{"traceEvents": {first}, "traceEvents": {second}}}')
    assert trace.count("kernels") == 3
    assert notes(trace)["json_duplicate_key"] == 1


def test_several_compressed_parts_are_one_file(opened, tmp_path):
    raw = trace_text(launches(), {}).encode()
    path = tmp_path / "parts.json.gz"
    path.write_bytes(gzip.compress(raw[:500]) + gzip.compress(raw[500:]))
    assert open_trace(path, tmp_path / "cache").count("kernels") == 3


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ('{"schema": "1.0.1", "nodes": []}', "execution trace"),
        ('{"rocprofiler-sdk-tool": [{}]}', "rocprof"),
        ('{"a": {"b": [1]}}', "without a list of events"),
        ("[[1, 2], [3]]", "without a list of events"),
        ('{"traceEvents": [{"ph": "X", "cat": "blink", "ts": 1, "dur": 1}]}', "another tool"),
        ('{"traceEvents": [{"ph": "X", "ca', "ends before its first event"),
        ('{"traceEvents": ' + "[" * 300 + "]" * 300 + "}", "more than 200 deep"),
        ('{"a": ' + "[" * 100_000, "more than 200 deep"),
        ("{", "without a list of events"),
        ('{"otherData": {"origin_ns": "0"}, "traceEvents": []}', "an export of whyslow"),
    ],
)
def test_other_json_is_refused_in_one_line(opened, text, trouble):
    with pytest.raises(RefusedError, match=trouble) as refused:
        opened(text)
    line = str(refused.value)
    assert line.startswith("trace.json: ")
    assert len(line) < 300


def test_an_empty_list_of_events_is_an_answer(opened):
    assert analyze(opened('{"traceEvents": []}')).verdict.cause == "unknown"


def test_a_bomb_is_refused_while_it_unpacks(tmp_path):
    path = tmp_path / "bomb.json.gz"
    event = json.dumps(call(1, 1)).encode()
    path.write_bytes(gzip.compress(b"[" + (event + b" " * 4_000_000 + b",") * 60, 9))
    with pytest.raises(RefusedError, match=r"200 times its size \(WHYSLOW_LIMIT_GZIP_RATIO\)"):
        open_trace(path, tmp_path / "cache")
    assert not list((tmp_path / "cache" / "tmp").iterdir())


def test_the_size_of_what_is_unpacked_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("WHYSLOW_LIMIT_JSON_GB", "0.07")
    monkeypatch.setenv("WHYSLOW_LIMIT_GZIP_RATIO", "1e9")
    path = tmp_path / "large.json.gz"
    path.write_bytes(gzip.compress(b"[" + b" " * 80_000_000 + b"]"))
    with pytest.raises(RefusedError, match=r"0\.07 GB \(WHYSLOW_LIMIT_JSON_GB\)"):
        open_trace(path, tmp_path / "cache")


@pytest.mark.parametrize("behind", [b"\0" * 1_000, b"junk" * 50])
def test_what_stands_behind_compressed_data_is_no_loss(tmp_path, behind):
    path = tmp_path / "padded.json.gz"
    path.write_bytes(gzip.compress(trace_text(launches(), {}).encode()) + behind)
    trace = open_trace(path, tmp_path / "cache")
    assert trace.count("kernels") == 3
    assert set(notes(trace)) <= {"json_trailing"}
    assert ("json_trailing" in notes(trace)) == (behind[0] != 0)


@pytest.mark.parametrize("damaged", ["checksum", "absent checksum"])
def test_a_wrong_checksum_costs_no_event_and_is_told(tmp_path, damaged):
    packed = gzip.compress(trace_text(launches(), {}).encode())
    packed = packed[:-8] + (b"12345678" if damaged == "checksum" else b"")
    path = tmp_path / "sum.json.gz"
    path.write_bytes(packed)
    trace = open_trace(path, tmp_path / "cache")
    assert trace.count("kernels") == 3
    assert set(notes(trace)) == {"gzip_damaged"}


def test_damage_in_compressed_data_keeps_what_comes_before_it(tmp_path):
    rng = random.Random(5)
    events = [{**e, "args": {**e["args"], "x": rng.random()}} for e in launches(4_000)]
    packed = bytearray(gzip.compress(trace_text(events, {}).encode()))
    place = len(packed) * 3 // 4
    packed[place : place + 400] = bytes(400)
    path = tmp_path / "damaged.json.gz"
    path.write_bytes(packed)
    trace = open_trace(path, tmp_path / "cache")
    assert 2_900 <= trace.count("kernels") < 3_100
    assert "json_truncated" in notes(trace)


def test_thousands_of_small_compressed_parts_take_no_longer_than_their_number(tmp_path):
    raw = trace_text(launches(400), {}).encode()
    path = tmp_path / "parts.json.gz"
    path.write_bytes(b"".join(gzip.compress(raw[n : n + 8]) for n in range(0, len(raw), 8)))
    begin = time.process_time()
    assert open_trace(path, tmp_path / "cache").count("kernels") == 400
    assert time.process_time() - begin < 5  # 0.5 s; once it grew with the square


def test_a_long_value_beside_the_events_is_stepped_over(tmp_path):
    path = tmp_path / "large.json"
    with path.open("w") as file:
        file.write('{"numbers": [')
        file.write("1," * 40_000_000)
        file.write(f'1], "traceEvents": {json.dumps(launches())}}}')
    assert open_trace(path, tmp_path / "cache").count("kernels") == 3


def test_a_file_that_only_looks_compressed_is_not_recognised(tmp_path):
    path = tmp_path / "a.json.gz"
    path.write_bytes(b"\x1f\x8b" + os.urandom(200))
    assert not torch_profiler.recognizes(path)


def test_damage_anywhere_is_refused_or_read(tmp_path):
    """No byte of a trace can make the reader fail in any other way."""
    rng = random.Random(7)
    events = [*launches(4), x("cpu_op", "aten::add", 1, 2, **{"Input Dims": [[1]]})]
    whole = trace_text(events, {"deviceProperties": [GPU]}).encode()
    for number in range(400):
        raw = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            place = rng.randrange(len(raw))
            raw[place : place + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        path = tmp_path / "mutant.json"
        path.write_bytes(raw)
        try:
            trace = open_trace(path, tmp_path / f"cache{number}")
        except RefusedError:
            continue
        assert balanced(trace)
