"""Telemetry is read, and stands on the timeline where it was taken."""

import shutil
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collectors import collectors
from collectors.telemetry import telemetry
from collectors.telemetry.file import TelemetryError, TelemetryFile, latest
from jobs import api
from library.cache import DATA_DIR_VARIABLE
from library.sidecars import telemetry_beside
from tests.telemetry_files import SECOND, written
from tests.view_fakes import SAMPLES
from timeline.store import recording_index
from timeline.telemetry import ClockMismatch, ClockOffset, align, telemetry_index
from timeline.view import Timeline
from views.shared.places import recordings


def test_series_keep_the_extremes_of_each_stretch(tmp_path):
    values = [0, 100, 50, 50, 7]
    rows = [{"at": 100 * SECOND + n * SECOND, "cpu_pct": v} for n, v in enumerate(values)]
    with TelemetryFile(written(tmp_path / "t.sqlite", host=rows)) as file:
        found = file.series("host_samples", "cpu_pct", last_s=6, points=3)
    assert found.high.tolist() == [100, 50, 50] or max(found.high) == 100
    assert found.low.min() == 0
    assert np.all(np.diff(found.seconds) > 0)
    assert found.seconds.max() <= 0


def test_a_file_that_is_none_is_refused_in_one_line(tmp_path):
    for name, content in (("junk", b"<html>" * 99), ("empty", b""), ("cut", b"SQLite format 3\0")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(TelemetryError, match="not a telemetry file") as error:
            TelemetryFile(path)
        assert "\n" not in str(error.value)
        assert latest(path) is None
    assert latest(tmp_path / "absent") is None


def test_a_view_in_place_of_a_table_is_refused(tmp_path):
    path = written(tmp_path / "t.sqlite", host=[{"at": SECOND}])
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE host_samples RENAME TO h")
        db.execute("CREATE VIEW host_samples AS SELECT * FROM h, h AS i")
    db.close()
    with pytest.raises(TelemetryError, match="no table host_samples"):
        TelemetryFile(path)


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    rows = [{"at": n * SECOND, "cpu_pct": n} for n in range(50)]
    return written(tmp_path_factory.mktemp("damaged") / "t.sqlite", host=rows).read_bytes()


@given(st.binary(min_size=1, max_size=64), st.integers(0, 60_000))
@example(b"\x01", 2796)  # a line break in SQLite's own message
def test_a_damaged_file_is_refused_or_read_but_never_raises_anything_else(intact, new, at):
    with tempfile.NamedTemporaryFile(suffix=".sqlite") as file:
        data = bytearray(intact)
        data[at : at + len(new)] = new
        Path(file.name).write_bytes(data)
        try:
            with TelemetryFile(Path(file.name)) as opened:
                opened.latest()
                opened.columns("host_samples", ["realtime_ns", "monotonic_ns", "cpu_pct"])
                opened.series("host_samples", "cpu_pct")
        except TelemetryError as error:
            assert "\n" not in str(error)


def test_it_is_no_recording_of_its_own(tmp_path):
    assert not [c for c in collectors() if "telemetry" in c.__name__]
    path = written(tmp_path / "a.sqlite.telemetry.sqlite")
    shutil.copy(path, tmp_path / "telemetry.sqlite")
    shutil.copy(SAMPLES / "synthetic" / "synthetic_sync.sqlite", tmp_path / "a.sqlite")
    assert [place.relative_name for place in recordings(tmp_path)] == ["a.sqlite"]


# --- on the timeline --------------------------------------------------------------------------

moments = st.integers(2**40, 2**60)


@given(start=moments, boot=moments, length=st.integers(1, 10**11), offset=st.integers(0, 10**9))
def test_samples_stand_where_they_were_taken(start, boot, length, offset):
    realtime = start + np.arange(0, length + SECOND, max(length // 50, 1_000_000), np.int64)[:2000]
    found = align(realtime, realtime - boot, start - offset, (offset, offset + length))
    assert isinstance(found, ClockOffset)
    assert np.array_equal(realtime - boot + found.offset_ns, realtime - (start - offset))


def test_a_clock_that_was_set_meanwhile_is_not_drawn_wrong():
    realtime = np.arange(0, 20 * SECOND, SECOND // 10)
    monotonic = realtime - np.where(realtime > 10 * SECOND, 3 * SECOND, 0)
    found = align(realtime, monotonic, 0, (8 * SECOND, 12 * SECOND))
    assert found == ClockMismatch("the machine's clock was adjusted by 3 s in the meantime")


def test_a_clock_that_was_set_long_before_does_not_matter():
    realtime = np.arange(0, 60 * SECOND, SECOND // 10)
    monotonic = realtime - np.where(realtime > 10 * SECOND, 3 * SECOND, 0)
    assert align(realtime, monotonic, 0, (40 * SECOND, 50 * SECOND)) == ClockOffset(3 * SECOND)


def test_a_recording_without_a_date_and_one_of_another_day_are_not_aligned():
    realtime = np.arange(0, 10 * SECOND, SECOND)
    assert isinstance(align(realtime, realtime, -1, (0, SECOND)), ClockMismatch)
    assert isinstance(align(realtime, realtime, 10**18, (0, SECOND)), ClockMismatch)
    assert isinstance(align(realtime[:0], realtime[:0], 0, (0, SECOND)), ClockMismatch)


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A recording that can be opened with telemetry beside it."""
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "data"))
    path = tmp_path / "run.sqlite"
    shutil.copy(SAMPLES / "cpu_training.sqlite", path)
    opened = api.open_recording(path)
    meta = recording_index(opened.trace).meta
    begin = opened.trace.source.start_utc_ns + meta["origin_ns"]
    return SimpleNamespace(path=path, trace=opened.trace, begin=begin, duration=meta["duration_ns"])


def lanes_of(trace):
    index = telemetry_index(trace)
    return {lane.label: lane for lane in index.lanes} if index else {}


def test_telemetry_becomes_counters_under_the_timeline(recorded):
    assert recorded.trace.source.start_utc_ns > 0
    step = recorded.duration // 4
    at = [recorded.begin + n * step for n in range(-1, 6)]
    throttled = [0, 0x1, 0x4, 0x4, 0x1, 0, 0]
    beside = telemetry.beside(recorded.path)
    written(
        beside,
        host=[{"at": a, "cpu_pct": 10.0 * n} for n, a in enumerate(at)],
        process=[{"at": a, "rss_bytes": 1 << 20, "read_bytes": n} for n, a in enumerate(at)],
        gpu=[
            {"at": a, "gpu": 0, "sm_clock_mhz": 1_980, "throttle_bits": t}
            for a, t in zip(at, throttled, strict=True)
        ],
    )
    assert telemetry_beside(recorded.path) == beside
    api.open_recording(recorded.path)  # known already, but not its telemetry
    index = telemetry_index(recorded.trace)
    lanes = lanes_of(recorded.trace)
    assert set(lanes) >= {"CPU, all cores", "resident memory", "SM clock", "storage read"}
    assert "clocks throttled: power cap" in lanes
    first, count, _ = lanes["CPU, all cores"].parts[0]
    # What was sampled just before still holds at the begin; what came after the end is cut.
    # Use of a processor is about the time since the sample before: it stands where that stood.
    assert index.time[first : first + count].tolist() == [n * step for n in range(5)]
    assert index.value[first : first + count].tolist() == [20, 30, 40, 50, 60]
    first, count, _ = lanes["resident memory"].parts[0]
    assert index.value[first : first + count].tolist() == [1 << 20] * 5
    assert (lanes["SM clock"].low, lanes["SM clock"].unit) == (1_980e6, "Hz")
    held = lanes["clocks throttled: power cap"].parts[0]
    assert index.value[held[0] : held[0] + held[1]].tolist() == [0, 1, 1, 0, 0]
    titles = [group.title for group in index.groups]
    assert titles == ["GPU 0 telemetry · NVIDIA Test", "Host telemetry"]


def test_the_lanes_stand_in_the_timeline_below_the_device(recorded):
    at = [recorded.begin + n * recorded.duration // 9 for n in range(10)]
    written(recorded.path.with_name("telemetry.sqlite"), host=[{"at": a, "cpu_pct": 5} for a in at])
    api.open_recording(recorded.path)
    index = recording_index(recorded.trace)
    shown = Timeline(
        index, replace(index, lanes=(), groups=()), {}, telemetry_index(recorded.trace)
    )
    numbers = shown.lanes_by_group["telemetry:host"]
    samples = shown.samples(numbers[0], 0, recorded.duration, 100)
    assert samples.exact
    assert set(samples.low.tolist()) == {5.0}


def test_a_driver_that_went_away_leaves_no_value_behind(recorded):
    step = recorded.duration // 40
    at = [recorded.begin + n * step for n in range(41)]
    written(
        telemetry.beside(recorded.path),
        host=[{"at": a, "cpu_pct": 5} for a in at],
        gpu=[{"at": a, "gpu": 0, "power_w": 300} for a in at[:10]],
    )
    api.open_recording(recorded.path)
    index = recording_index(recorded.trace)
    sampled = telemetry_index(recorded.trace)
    shown = Timeline(index, replace(index, lanes=(), groups=()), {}, sampled)
    (power,) = shown.lanes_by_group["telemetry:gpu:0"]
    samples = shown.samples(power, 0, recorded.duration, 100)
    assert samples.until.max() == 12 * step
    assert shown.samples(power, 20 * step, 30 * step, 100).until.max() <= 12 * step
    (host,) = shown.lanes_by_group["telemetry:host"]
    assert shown.samples(host, 0, recorded.duration, 100).until.max() == recorded.duration


def test_a_recording_shorter_than_a_sample_says_so(recorded):
    at = [recorded.begin + n * 2 * recorded.duration for n in range(-2, 3)]
    written(telemetry.beside(recorded.path), host=[{"at": a, "cpu_pct": 5} for a in at])
    api.open_recording(recorded.path)
    assert "longer than the recording" in telemetry_index(recorded.trace).meta["notes"][0]


def test_where_clocks_cannot_be_aligned_a_note_says_so_and_nothing_is_drawn(recorded):
    written(telemetry.beside(recorded.path), host=[{"at": SECOND, "cpu_pct": 5}])
    api.open_recording(recorded.path)
    index = telemetry_index(recorded.trace)
    assert index.lanes == ()
    assert "not shown: it was sampled at a different time" in index.meta["notes"][0]
    shown = Timeline(recording_index(recorded.trace), index, {}, index)
    assert any("not shown: it was sampled" in note for note in shown.notes)


def test_junk_in_place_of_telemetry_costs_a_note_not_the_recording(recorded):
    telemetry.beside(recorded.path).write_bytes(b"junk" * 1_000)
    opened = api.open_recording(recorded.path)
    assert opened.stored.report
    assert "not a telemetry file" in telemetry_index(recorded.trace).meta["notes"][0]
