"""What a view of a timeline shows of its lanes, and what a search finds."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.timeline_helpers import make_timeline, pauses, write_index
from timeline import view
from timeline.index import Index
from timeline.index_writer import IndexWriter
from timeline.lane import Group, Lane
from timeline.marks import bin_edges
from timeline.search import exact_text
from timeline.view import Timeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folders for the examples of property tests, which share one fixture."""
    root, count = tmp_path_factory.mktemp("indexes"), iter(range(10**6))
    return lambda: root / str(next(count))


# --- tiles -----------------------------------------------------------------------------------


@given(pauses, st.integers(-100, 50_000), st.integers(1, 100_000), st.integers(4, 60))
@settings(max_examples=60)
def test_the_busy_time_of_any_bin_is_the_exact_sum_of_its_intervals(
    folder, events, start, length, bins
):
    index = write_index(folder(), events)
    part = index.lanes[0].parts[0]
    edges = bin_edges(start, start + length, bins)
    covered = np.diff(index.covered(part, edges, index.before(part, edges)))
    for busy, low, high in zip(covered.tolist(), edges[:-1], edges[1:], strict=True):
        assert busy == sum(max(0, min(e, high) - max(s, low)) for s, e in events)


@given(pauses, st.integers(4, 60))
@settings(max_examples=60)
def test_the_longest_event_is_visible_at_every_zoom(folder, events, bins):
    shown = make_timeline(folder(), events)
    lengths = [e - s for s, e in events]
    longest = max(lengths)
    total = events[-1][1] + 1
    while bins > 1:
        drawn = shown.marks(0, 0, total, bins)
        seen = [lengths[e] for e in drawn.event.tolist()]
        assert max(seen) == longest
        bins //= 2


@given(pauses, st.integers(12, 60), st.data())
@settings(max_examples=60)
def test_no_event_is_lost_at_the_deepest_level(folder, events, bins, data):
    shown = make_timeline(folder(), events)
    number = data.draw(st.integers(0, len(events) - 1))
    start, end = events[number]
    drawn = shown.marks(0, start, end + 1, max(bins, 3 * len(events)))
    assert drawn.exact
    assert number in drawn.event.tolist()
    place = drawn.event.tolist().index(number)
    assert (drawn.start[place], drawn.end[place]) == (start, end)


@given(pauses, st.integers(4, 60))
@settings(max_examples=60)
def test_every_moment_with_an_event_is_drawn_at_every_zoom(folder, events, bins):
    shown = make_timeline(folder(), events)
    drawn = shown.marks(0, 0, events[-1][1] + 1, bins)
    for start, _ in events:  # one without length, too
        assert np.any((drawn.start <= start) & (start <= drawn.end))
    assert np.all(drawn.fill > 0)


def test_few_events_are_drawn_exactly(folder):
    drawn = make_timeline(folder(), [(0, 5), (10, 20), (30, 40)]).marks(0, 8, 35, 100)
    assert drawn.exact
    assert list(zip(drawn.start, drawn.end, strict=True)) == [(10, 20), (30, 40)]


def test_an_event_longer_than_a_bin_is_one_rectangle(folder):
    events = [(t, t + 50) for t in range(0, 400_000, 100)] + [(400_000, 900_000)]
    events += [(t, t + 50) for t in range(900_000, 10**6, 100)]
    drawn = make_timeline(folder(), events).marks(0, 0, 10**6, 100)
    widest = int(np.argmax(drawn.end - drawn.start))
    assert drawn.event[widest] == 4_000
    assert drawn.end[widest] - drawn.start[widest] > 470_000  # but the bins it shares


def test_bins_keep_their_place_while_the_view_moves():
    one, other = bin_edges(0, 1_000_000, 700), bin_edges(12_345, 1_012_345, 700)
    assert np.isin(other[other < one[-1]], one).all()


def test_times_beyond_what_a_browser_can_count_still_add_up(folder):
    far = 1 << 60
    events = [(far + 10 * t, far + 10 * t + 7) for t in range(2_000)]
    shown = make_timeline(folder(), *[[(0, far)]] * 40, events)  # the sums of all lanes overflow
    index, part = shown.recording, shown.recording.lanes[40].parts[0]
    moments = np.array([far, far + 20_000])
    assert np.diff(index.covered(part, moments, index.before(part, moments))).tolist() == [14_000]
    drawn = shown.marks(40, far, far + 20_000, 100)
    assert set((drawn.fill).tolist()) <= set(range(1, 256))
    assert shown.span(40 + 1_999) == (far + 19_990, far + 19_997)


# --- searching -------------------------------------------------------------------------------


@given(st.lists(pauses, min_size=1, max_size=3), st.sampled_from(["a", "b", "x", '"a"']), st.data())
@settings(max_examples=60)
def test_a_search_walks_through_all_matches_by_time(folder, lanes, text, data):
    names = ("aa", "b", "A", "a")
    shown = make_timeline(folder(), *lanes, names=names)
    hits = shown.hits(text)
    matching = {
        n for n, t in enumerate(names) if (t == "a" if text == '"a"' else text in t.lower())
    }
    expected = sorted(
        (int(shown.recording.start[e]), e)
        for e in range(len(shown.recording.start))
        if shown.recording.name[e] in matching
    )
    assert hits.count == len(expected)
    if not expected:
        assert hits.step(0, -1, 1).event == -1
        return
    if data.draw(st.booleans(), label="lane by lane"):
        hits.__dict__["by_time"] = None
    at = data.draw(st.integers(0, len(expected) - 1))
    following = hits.step(*expected[at], 1)
    assert following.event == expected[(at + 1) % len(expected)][1]
    assert following.place == (at + 1) % len(expected) + 1
    before = hits.step(*expected[at], -1)
    assert before.event == expected[at - 1][1]
    assert before.place == (at - 1) % len(expected) + 1
    edges = bin_edges(0, int(expected[-1][0]) + 1, 16)
    starts = [s for s, _ in expected]
    assert hits.ticks(edges).tolist() == np.histogram(starts, edges)[0].tolist()


def test_matches_are_marked_whether_drawn_exactly_or_in_bins(folder):
    events = [(t, t + 5) for t in range(0, 100_000, 10)]
    names = [f"n{i}" for i in range(len(events))]
    shown = make_timeline(folder(), events, names=names)
    exact = shown.marks(0, 49_990, 50_020, 100, shown.hits("n5000"))
    assert exact.hit.tolist() == [e == 5_000 for e in exact.event.tolist()]
    dense = shown.marks(0, 0, 100_000, 100, shown.hits("n5000"))
    assert (dense.end - dense.start)[dense.hit].tolist() == [1_024]
    assert dense.hit.sum() == 1


def test_one_search_serves_all_who_ask_at_once(tmp_path, monkeypatch):
    shown = make_timeline(tmp_path, [(t, t + 5) for t in range(0, 10_000, 10)])
    made = []

    class Counted(view.Hits):
        def __init__(self, *given):
            made.append(1)
            super().__init__(*given)

    monkeypatch.setattr(view, "Hits", Counted)
    with ThreadPoolExecutor(8) as threads:
        counts = set(threads.map(lambda _: shown.hits("a").count, range(16)))
    assert len(made) == len(counts) == 1


def test_a_name_too_long_for_an_address_is_still_found_whole(tmp_path):
    name, other = "k" * 5_000, "k" * 100
    shown = make_timeline(tmp_path, [(0, 5), (10, 15)], names=(name, other))
    text = exact_text(name, 2_000)
    assert len(text) == 2_000
    assert shown.hits(text).count == 1
    assert shown.hits(exact_text(other, 2_000)).count == 1
    assert shown.hits("==").count == 0  # an operator, not a way to search


def test_the_counters_of_each_gpu_stand_under_its_lanes(folder):
    writer = IndexWriter(folder_of := folder_made(folder()))
    times, columns = (
        np.array([0, 10]),
        dict.fromkeys(("start", "end", "name", "row"), np.array([0])),
    )
    groups = [
        ("thread:0", "thread", "python 7", -1),
        ("metrics:1", "metrics", "GPU 1 metrics", -1),
        ("metrics:host", "metrics", "Host", -1),
        ("metrics:0", "metrics", "GPU 0 metrics", -1),
        ("gpu:1", "device", "", 1),
        ("gpu:0", "device", "", 0),
    ]
    for name, kind, title, device in groups:
        group = writer.group(Group(id=name, kind=kind, title=title, device=device))
        lane = Lane(group=group, label=name, table="ranges")
        if kind == "metrics":
            writer.counter(lane, times, times * 1.0)
        else:
            writer.lane(lane, (1, columns))
    writer.names(pa.array(["a"]))
    writer.finish(origin_ns=0, duration_ns=10)
    devices = {0: "GPU 0 H100", 1: "GPU 1 H100"}
    timeline = Timeline(Index.open(folder_of), write_index(folder()), devices)
    assert [g.id for g in timeline.groups] == [
        *("gpu:0", "metrics:0", "gpu:1", "metrics:1", "metrics:host", "thread:0")
    ]


def folder_made(path):
    path.mkdir()
    return path
