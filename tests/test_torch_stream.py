"""A torch trace is read the same however it comes: in pieces of any size, cut off anywhere."""

import json
from types import SimpleNamespace

import pytest

from collectors.errors import RefusedError
from collectors.torch_profiler import stream
from tests.torch_traces import call, kernel

EVENTS = [
    call(10, 1),
    {**kernel(20, 1, name='}, {"ph": "X"'), "args": {"deep": [{"a": [1, {"b": "]}"}]}]}},
    {"ph": "i", "name": 'a\\"b', "ts": 30.5, "s": "t"},
    kernel(40, 2, name="é\\u00e9"),
]
HEAD = {"schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "G}{"}], "x": {"y": [[]]}}
WHOLE = json.dumps({**HEAD, "traceEvents": EVENTS, "distributedInfo": {"rank": 3}}, indent=1)
TEXTS = {
    "object": WHOLE,
    "marked": "\ufeff" + WHOLE,
    "array": json.dumps(EVENTS),
    "two lists": f'{{"traceEvents": {json.dumps(EVENTS)}, "traceEvents": {json.dumps(EVENTS)}}}',
    "junk": f'{{"traceEvents": [1, {json.dumps(EVENTS[0])}, "x", null, [2], '
    f'{json.dumps(EVENTS[1])},, 7], "rank": -1.5e3}}',
    "trailing": WHOLE + ' \n{"more": 1}',
}


def read(text, chunk=1 << 20):
    """Return what is read of a text that comes in chunks."""
    raw = text if isinstance(text, bytes) else text.encode()
    chunks = (raw[i : i + chunk] for i in range(0, len(raw), chunk))
    events = stream.EventStream(SimpleNamespace(name="t.json", chunks=lambda: chunks))
    taken = [e for batch, _ in events.batches() for e in batch]
    told = [(e.ph, e.name, bytes(e.ts), bytes(e.dur)) for e in taken]
    return told, events.head, events.keys, events.damage


@pytest.fixture
def small(monkeypatch):
    """Make batches so small that a text of a page has many."""
    monkeypatch.setattr(stream, "BATCH_BYTES", 40)
    monkeypatch.setattr(stream, "TAIL_BYTES", 30)


@pytest.mark.parametrize("name", TEXTS)
def test_pieces_of_any_size_make_the_same_trace(name, request):
    whole = read(TEXTS[name])
    request.getfixturevalue("small")
    for chunk in (1, 2, 3, 7, 41, 64, 1_000):
        assert read(TEXTS[name], chunk) == whole, chunk


def test_a_whole_trace_has_all_events_and_no_damage():
    told, head, keys, damage = read(WHOLE)
    assert [name for _, name, *_ in told] == [e["name"] for e in EVENTS]
    assert [json.loads(ts) for _, _, ts, _ in told] == [10, 20, 30.5, 40]
    assert head["deviceProperties"] == HEAD["deviceProperties"]
    assert head["distributedInfo"] == {"rank": 3}
    assert "x" not in head
    assert keys == ["schemaVersion", "deviceProperties", "x", "traceEvents", "distributedInfo"]
    assert damage == stream.Damage(lists=1)


def test_what_is_no_event_is_counted():
    told, head, _, damage = read(TEXTS["junk"])
    assert (len(told), damage.skipped, damage.lost_bytes) == (2, 5, -1)
    assert read(TEXTS["two lists"])[3].lists == 2
    assert len(read(TEXTS["two lists"])[0]) == 8
    assert read(TEXTS["trailing"])[3].has_more
    assert not read(WHOLE + " \n\t")[3].has_more
    assert read(TEXTS["array"])[3].lists == 1
    assert not read(TEXTS["array"])[3].open_array
    assert head == {}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("space", ["", " \n"])
def test_a_trace_that_is_cut_off_loses_only_what_lies_behind(space):
    text, ends = '{"a": 1, "traceEvents": [', []
    opened = len(text)
    for event in EVENTS:
        text += ("," + space if ends else "") + json.dumps(event)
        ends.append(len(text))
    closed = len(text) + len(space) + 1
    text += space + '], "b": 2}'
    for cut in range(opened - 15, len(text) + 1):
        told, _, _, damage = read(text[:cut], 13)
        inside = opened <= cut < closed
        assert len(told) == sum(end <= cut for end in ends), cut
        assert (damage.lost_bytes >= 0) == inside, cut
        assert damage.unclosed == (not inside and cut < len(text)), cut
        if inside:
            rest = cut - max([opened, *(end for end in ends if end <= cut)])
            assert damage.lost_bytes <= rest, cut


@pytest.mark.parametrize(("depth", "is_refused"), [(196, False), (198, True)])
@pytest.mark.usefixtures("small")
def test_what_is_nested_too_deeply_is_refused(depth, is_refused):
    event = '{"ph": "X", "args": ' + "[" * depth + "]" * depth + "}"
    text = f'{{"a": {"[" * depth}{"]" * depth}, "traceEvents": [1, {event}]}}'
    if is_refused:
        with pytest.raises(RefusedError, match="nested more than 200 deep"):
            read(text.replace("[" * depth, "[" * (depth + 3)))
    else:
        assert read(text)[3].skipped == 1


@pytest.mark.usefixtures("small")
def test_what_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(stream, "MAX_MEMBER_BYTES", 1_000)
    for length, is_refused in ((900, False), (1_200, True)):
        text = json.dumps({"a": 1, "traceEvents": [{"ph": "X", "name": "n" * length}]})
        if is_refused:
            with pytest.raises(RefusedError, match="larger than 0 MB"):
                read(text, 10)
        else:
            assert len(read(text, 10)[0]) == 1


def test_texts_that_are_no_json_give_nothing():
    for text in ("", " ", "x", "7", '"[]"'):
        told, head, keys, damage = read(text)
        assert (told, head, keys, damage.lists) == ([], {}, [], 0)
