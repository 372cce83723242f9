"""The language in which events are asked for: what is a query, what it finds, what is wrong."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import api
from tests.timeline_helpers import decoded, make_timeline
from tests.view_fakes import library
from timeline.query import CAUSES, FORMS, KINDS, MAX_QUERY, MAX_TERMS, QuerySyntaxError, parsed
from timeline.store import recording_index, window_index
from timeline.view import Timeline
from traces.nsys_writer import Recording
from views.server.tiles import answer

# --- what is a query, and what is wrong with one ------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "kernel",
        "void at::native::name::f<float, 128>(int)",
        "a -> b",
        "x > y",
        "nccl:all_reduce",
        '"stream:7 > 1ms"',
        "f<2>::g>3",
        "void kernel<128, 4>(float*)",
        "kernel<256>(int)",
        "void copy<8>(float*)",
        "kernel<5us>(int)",
        "void f() [with T = float, N > 4]",
        "f(int) [with bool B = (N >= 4ms)]",
        "",
        '"',
    ],
)
def test_names_of_kernels_are_no_queries(text):
    assert parsed(text) is None


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("kernel > 1ms", [("kind", "kernel", 0), ("duration", ">", 1_000_000)]),
        ("kernel>1.5us", [("kind", "kernel", 0), ("duration", ">", 1_500)]),
        ("duration <= 2 s", [("duration", "", 0), ("duration", "<=", 2_000_000_000)]),
        ("kernel>1 us", [("kind", "kernel", 0), ("duration", ">", 1_000)]),
        ("gemm<128, > 5us", [("name", "gemm<128,", 0), ("duration", ">", 5_000)]),
        ("name:gemm stream:7", [("name", "gemm", 0), ("stream", "7", 0)]),
        ("CAUSE:Sync", [("cause", "sync", 0)]),
        ('name:"a b" < 3µs', [("name", "a b", 0), ("duration", "<", 3_000)]),
        ("std::sort kind:range", [("name", "std::sort", 0), ("kind", "range", 0)]),
    ],
)
def test_a_query_is_read(text, terms):
    assert [(t.key, t.value, t.number_ns) for t in parsed(text).terms] == terms


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kernel > 5", "needs a unit of time: ns, us, ms or s"),
        ("kernel > 5 minutes", "needs a unit"),
        ("kernel > 5 stream:7", "“> 5” needs a unit"),
        ("kernel>5", "“> 5” needs a unit"),
        ("kernel<5 stream:7", "“kernel<5” needs a time"),
        ("a > b stream:7", "“>” needs a time"),
        ("strem:7 > 1ms", "“strem:” is no key; did you mean stream:?"),
        ("nccl:x stream:7", "goes in quotation marks"),
        ("stream:x", "A stream is a number"),
        ("cause:synk", "did you mean sync?"),
        ("kind:kernels", "did you mean kernel?"),
        ("name:", "needs a value right after the colon"),
        ("cause:sync kernel", "ask for one of the two"),
        ("cause:sync stream:7", "ask with gpu:"),
        ("cause:sync finding", "about the ledger"),
        ("finding -cause:sync", "about the ledger"),
        ("iteration -cause:sync", "about the ledger"),
        ('stream:7 "a', "A quotation mark is missing"),
        ("duration stream:7", "compared with a time"),
        ("> 1ms " * (MAX_TERMS + 1), f"{MAX_TERMS} conditions at most"),
        ("stream:7 " + "x" * MAX_QUERY, f"{MAX_QUERY} characters at most"),
        ("> 9999999999999999999s", "longer than any recording"),
    ],
)
def test_what_is_wrong_is_told_in_one_short_sentence(text, told):
    with pytest.raises(QuerySyntaxError) as error:
        parsed(text)
    assert told in str(error.value)
    assert len(str(error.value)) < 300


def test_every_form_that_is_offered_is_right():
    for form, _ in FORMS:
        parsed(form)


@given(st.text(max_size=300) | st.from_regex(r'(-?(name|kind|strem)?:?"?[<>]?=? ?\d*m?s? ){1,9}'))
@settings(max_examples=80)
def test_any_text_is_a_query_or_none_or_refused_in_one_line(text):
    try:
        query = parsed(text)
    except QuerySyntaxError as error:
        assert str(error).isprintable()
        return
    assert query is None or 0 < len(query.terms) <= MAX_TERMS


# --- what it finds --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Two GPUs with two streams each, copies, a memset, ranges; kernels of 1 to 12 µs."""
    data = tmp_path_factory.mktemp("library")
    recording = Recording()
    for n in range(48):
        device, stream, at = n % 2, 7 + n // 2 % 2, n * 100_000
        recording.api("cudaLaunchKernel", at, at + 2_000, correlationId=n + 1)
        recording.kernel(
            f"{'gemm' if n % 3 else 'CUDA graph'}_{n % 3}" if n % 6 else "memset",
            at + 5_000,
            at + 5_000 + 1_000 * (1 + n // 4),
            correlationId=n + 1,
            deviceId=device,
            streamId=stream,
        )
        recording.nvtx(f"step {n}", at, at + 50_000)
        if n % 8 == 0:
            where = {"deviceId": device, "streamId": stream}
            recording.copy(1, 4096, at + 60_000, at + 61_000, **where)
            recording.memset(4096, at + 70_000, at + 71_000, **where)
    path = tmp_path_factory.mktemp("asked") / "asked.sqlite"
    recording.write(path)
    with library(data):
        opened = api.open_recording(path)
        index = recording_index(opened.trace)
        window = window_index(opened.stored, index.meta["origin_ns"])
        devices = {d.key: f"GPU {d.device}" for d in opened.stored.report.devices}
        yield Timeline(index, window, devices)


def events_of(shown, text):
    """Return the place, length and name of every event that a walk through the matches visits."""
    hits, seen, event = shown.hits(text), [], -1
    for _ in range(hits.count):
        found = shown.step(text, shown.span(event)[0] if event >= 0 else -(1 << 60), event, 1)
        event = found.event
        seen.append(event)
    assert len(set(seen)) == hits.count
    return seen


def facts_of(shown, event):
    """Return what the index says of an event in the words of the queries."""
    placed = shown.lanes[shown.lane_of(event)]
    start, end = shown.span(event)
    group = shown.title(placed.index.groups[placed.lane.group])
    return placed.lane, group, end - start, shown.name_of(event)


def test_kinds_are_told_apart_even_where_names_lie(shown):
    launches = 48
    assert len(events_of(shown, "kind:kernel")) == launches
    assert len(events_of(shown, "kind:copy")) == 6
    assert len(events_of(shown, "kind:memset")) == 6
    assert len(events_of(shown, "kind:range")) == launches
    assert len(events_of(shown, "kind:call")) == launches
    assert len(events_of(shown, "kind:kernel kind:copy")) == launches + 6  # any of several kinds
    assert shown.hits("kind:copy kind:memset -kind:memset").count == 6
    names = {shown.name_of(e) for e in events_of(shown, "kind:kernel name:memset")}
    assert names == {"memset"}  # a kernel of that name is a kernel


def test_a_duration_is_compared_exactly(shown):
    lengths = [facts_of(shown, e)[2] for e in events_of(shown, "kernel > 5us")]
    assert sorted(set(lengths)) == [n * 1_000 for n in range(6, 13)]
    assert min(facts_of(shown, e)[2] for e in events_of(shown, "kernel >= 5us")) == 5_000
    assert shown.hits("kernel > 5us").count + shown.hits("kernel <= 5us").count == 48
    assert shown.hits("kernel -> 5us").count == shown.hits("kernel <= 5us").count


def test_streams_and_gpus_are_those_that_were_recorded(shown):
    for event in events_of(shown, "name:gemm stream:8 gpu:1"):
        lane, group, _, name = facts_of(shown, event)
        assert (lane.label, group, "gemm" in name) == ("stream 8", "GPU 1", True)
    split = [shown.hits(f"kernel stream:{s} gpu:{g}").count for s in (7, 8) for g in (0, 1)]
    assert split == [12, 12, 12, 12]
    assert shown.hits("kernel -stream:7").count == 24
    assert shown.hits("stream:70 > 0ns").count == 0
    assert shown.hits("gpu:7 > 0ns").count == 0


def test_a_copy_matches_in_its_direction_as_in_its_stream(shown):
    everywhere = {"what": "tile", "start": "0", "end": str(shown.duration_ns), "bins": "4000"}
    lanes = f"0-{len(shown.lanes) - 1}"
    head, columns = decoded(answer(shown, everywhere | {"lanes": lanes, "find": "copy stream:7"}))
    hits = {0: 0, 1: 0}
    for lane in head["lanes"]:
        placed = shown.lanes[lane["id"]].lane
        here = columns["hit"][lane["first"] : lane["first"] + lane["count"]]
        hits[int(placed.mirror)] += int(here.sum())
    assert hits[0] == hits[1] == 6


def test_a_cause_finds_stretches_of_the_ledger_and_nothing_else(shown):
    total = 0
    for cause in CAUSES:
        events = events_of(shown, f"cause:{cause}")
        total += len(events)
        for event in events:
            lane, _, _, name = facts_of(shown, event)
            assert lane.kind == "ledger"
            assert cause == "bandwidth" or name.startswith(cause) or cause == "memory"
    every = len(events_of(shown, "kind:ledger"))
    assert every == sum(p.lane.count for p in shown.lanes if p.lane.kind == "ledger")
    assert total >= every  # a copy counts as transfer and as bandwidth
    assert shown.hits("-cause:kernel kind:ledger").count == every - shown.hits("cause:kernel").count


def test_stretches_that_match_are_marked_in_the_ledger_at_every_zoom(shown):
    lane = shown.ledger_lanes[0]
    hits = shown.hits("cause:kernel")
    for bins in (20, 100_000):
        drawn = shown.marks(lane, 0, shown.duration_ns, bins, hits)
        assert set(drawn.color[drawn.hit]) == {0}
        assert not drawn.hit[drawn.color != 0].any()


@given(st.lists(st.sampled_from(range(12)), min_size=1, max_size=40), st.integers(0, 12_000))
@settings(max_examples=40, deadline=None)
def test_every_event_longer_than_a_bound_is_found_once(tmp_path_factory, steps, bound):
    events, at = [], 0
    for step in steps:
        events.append((at, at + step * 1_000))
        at += step * 1_000 + 10
    made = make_timeline(tmp_path_factory.mktemp("index"), events)
    expected = [n for n, (a, b) in enumerate(events) if b - a > bound]
    assert events_of(made, f"> {bound}ns") == expected


def test_a_wrong_query_is_answered_with_the_forms_and_draws_no_match(shown):
    asked = {"what": "find", "text": "strem:7 > 1ms", "from": "0", "direction": "1"}
    head, _ = decoded(answer(shown, asked))
    assert head["count"] == 0
    assert "did you mean stream:?" in head["wrong"]
    assert [form for form, _ in head["forms"]] == [form for form, _ in FORMS]
    tile = {"what": "tile", "start": "0", "end": "1000000", "lanes": "0-3", "find": "stream:x"}
    _, columns = decoded(answer(shown, tile))
    assert not columns["hit"].any()
    head, _ = decoded(answer(shown, asked | {"text": "strem:7"}))  # a plain text, found nowhere
    assert head["hint"] == "Nothing is called that. Did you mean the key stream:?"
    assert len(KINDS) == len(set(KINDS))
