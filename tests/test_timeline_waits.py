"""Which wait an operation ends, and what a reader may write into the page's address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import api
from tests.view_fakes import library
from timeline.colors import OPERATIONS
from timeline.store import recording_index, window_index
from timeline.view import Timeline
from timeline.waits import ended_wait, operation_awaited
from traces.nsys_writer import Recording
from views.components.timeline import MAX_NOTE, MAX_NOTES, Note
from views.parts.notes import note_value, parse_notes
from views.shared.session import parse_span

US = 1_000


def opened(recording, folder):
    recording.write(folder / "waits.sqlite")
    with library(folder / "library"):
        opened = api.open_recording(folder / "waits.sqlite")
        index = recording_index(opened.trace)
        window = window_index(opened.stored, index.meta["origin_ns"])
        devices = {d.key: f"GPU {d.device}" for d in opened.stored.report.devices}
        return opened.trace, Timeline(index, window, devices)


@pytest.fixture(scope="module")
def waits(tmp_path_factory):
    """Two streams; kernels end at 30, 50 and 70 µs; a wait for stream 8, then one for all."""
    recording = Recording()
    for number, (stream, end) in enumerate([(7, 30), (8, 50), (7, 70)], start=1):
        call = number * 2 * US
        recording.api("cudaLaunchKernel", call, call + US, correlationId=number)
        recording.kernel(
            f"k{number}", (end - 15) * US, end * US, correlationId=number, streamId=stream
        )
    recording.api("cudaStreamSynchronize_v3020", 10 * US, 52 * US, correlationId=4)
    recording.sync("stream", 10 * US, 52 * US, correlationId=4, streamId=8)
    recording.api("cudaDeviceSynchronize_v3020", 55 * US, 72 * US, correlationId=5)
    recording.api("cudaEventQuery_v3020", 80 * US, 81 * US, correlationId=6)
    recording.api("cudaLaunchKernel", 82 * US, 83 * US, correlationId=7)
    recording.kernel("k4", 85 * US, 90 * US, correlationId=7, streamId=7)
    recording.api("cudaMemcpyAsync_v3020", 92 * US, 93 * US, correlationId=8)
    recording.copy(1, 4096, 95 * US, 99 * US, correlationId=8, streamId=7)
    recording.api("cudaDeviceSynchronize_v3020", 94 * US, 101 * US, correlationId=9)
    return opened(recording, tmp_path_factory.mktemp("waits"))


def test_an_operation_ends_the_wait_whose_last_it_is(waits):
    trace, timeline = waits
    calls = [timeline.event_at("api_calls", row) for row in range(8)]
    by_name = {
        timeline.name_of(timeline.event_at(OPERATIONS, row)): timeline.event_at(OPERATIONS, row)
        for row in range(4)
    }
    names = {e: timeline.name_of(e) for e in calls if e >= 0}
    on_stream = next(e for e, n in names.items() if "StreamSync" in n)
    on_device = next(e for e, n in names.items() if "DeviceSync" in n)
    ended = {name: ended_wait(timeline, trace, event) for name, event in by_name.items()}
    # k1 ended while the host waited for the other stream; nothing waited for k4.
    assert ended == {"k1": -1, "k2": on_stream, "k3": on_device, "k4": -1}
    assert operation_awaited(timeline, trace, on_stream) == by_name["k2"]
    assert operation_awaited(timeline, trace, on_device) == by_name["k3"]
    others = [e for e, n in names.items() if "Synchronize" not in n]
    assert {operation_awaited(timeline, trace, e) for e in others} == {-1}


def test_a_copy_ends_its_wait_in_both_lanes_that_show_it(waits):
    trace, timeline = waits
    (copy,) = [p.lane.parts[0][0] for p in timeline.lanes if p.lane.mirror]
    own = timeline.event_at(*timeline.row_of(copy))
    assert own != copy
    assert ended_wait(timeline, trace, copy) == ended_wait(timeline, trace, own) >= 0


def test_a_wait_for_a_stream_is_ended_on_its_own_gpu(tmp_path):
    """Each GPU has a stream 7; kernels of one process end at 50 µs on GPU 0, at 60 µs on GPU 1."""
    recording = Recording()
    for device in (0, 1):
        call = (1 + device) * 2 * US
        recording.api("cudaLaunchKernel", call, call + US, correlationId=1 + device)
        where = {"correlationId": 1 + device, "deviceId": device, "streamId": 7}
        recording.kernel(f"k{device}", 20 * US, (50 + 10 * device) * US, **where)
    for device, end in ((0, 61), (1, 62)):  # both returned after both kernels had ended
        recording.api(
            "cudaStreamSynchronize_v3020",
            10 * US,
            end * US,
            correlationId=3 + device,
            globalTid=recording.tid + device,
        )
        where = {"correlationId": 3 + device, "deviceId": device, "streamId": 7}
        recording.sync("stream", 10 * US, end * US, **where)
    trace, timeline = opened(recording, tmp_path)
    for device in (0, 1):
        wait = timeline.event_at("api_calls", 2 + device)
        kernel = timeline.event_at(OPERATIONS, device)
        assert timeline.name_of(kernel) == f"k{device}"
        assert operation_awaited(timeline, trace, wait) == kernel
        assert ended_wait(timeline, trace, kernel) == wait


# --- notes ----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 1 << 62), st.integers(0, 9), st.text()), max_size=40))
def test_notes_come_back_from_the_address_as_one_short_line_each(values):
    notes = [Note(start, start + length, text) for start, length, text in values]
    again = parse_notes([note_value(n) for n in notes])
    assert len(again) == min(len(notes), MAX_NOTES)
    for note, kept in zip(notes, again, strict=False):
        assert (kept.start, kept.end) == (note.start, note.end)
        assert len(kept.text) <= MAX_NOTE
        assert kept.text.isprintable()
    assert parse_notes([note_value(n) for n in again]) == again


@pytest.mark.parametrize("value", ["", "x", "5", "9-5 text", "1-2-3 x", "-", "1e9-2e9 x"])
def test_a_note_that_makes_no_sense_is_left_out(value):
    assert parse_notes([value, "5-9 kept\n\u202ehere"]) == [Note(5, 9, "kept here")]


def test_a_span_of_a_clock_that_counts_from_1970_is_understood():
    begin = 1_700_000_000_000_000_000
    assert parse_span(f"{begin}-{begin + 100}") == (begin, begin + 100)
