"""The ledger of arbitrary recordings: it closes, and it books each microsecond as its words say."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzers.facts.spans import Window
from analyzers.finding import BUSY_ROWS, Row
from analyzers.ledger.ledger import build_ledger
from collectors.schema import CopyKind
from tests.ledger_helpers import NOT_READY, booked, calls
from tests.traces_in_memory import account, build

# --- the account always closes --------------------------------------------------------------

FUNCTIONS = (
    "cudaLaunchKernel",
    "cudaMemcpyAsync",
    "cudaMemcpy",
    "cudaDeviceSynchronize",
    "cudaEventQuery",
    "cudaFree",
    "cudaMalloc",
    "cuModuleLoadData",
    "cudaGetDevice",
)
KERNELS = ("gemm", "ncclKernel_AllReduce")
SLOTS = 60  # times are whole multiples of a unit, so that borders meet often
UNITS = (1, 1_000, 7_000, 60_000)  # ns; below, at and above the ledger's thresholds


def columns_of(rows, names):
    return dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}


@st.composite
def recordings(draw):
    """Tables of a random recording, nothing about it being sensible."""
    unit = draw(st.sampled_from(UNITS))
    moment = st.integers(0, SLOTS).map(lambda n: n * unit)
    length = st.integers(0, 12).map(lambda n: n * unit)
    process, number = st.integers(1, 2), st.integers(-1, 9)
    place = (process, st.integers(0, 1), st.integers(1, 2), number)
    on_device = ("start_ns", "duration_ns", "process", "device", "stream", "correlation_id")
    kernel = st.tuples(moment, length, *place, st.sampled_from(KERNELS))
    copy = st.tuples(moment, length, *place, st.sampled_from([CopyKind(1), CopyKind(11)]))
    call = st.tuples(moment, length, process, number, st.sampled_from(FUNCTIONS), st.integers(1, 2))
    tables = {
        "kernels": columns_of(draw(st.lists(kernel, max_size=10)), (*on_device, "name")),
        "copies": columns_of(draw(st.lists(copy, max_size=4)), (*on_device, "kind")),
        "memsets": columns_of(draw(st.lists(st.tuples(moment, length, *place))), on_device),
    }
    api = columns_of(
        draw(st.lists(call, max_size=14)),
        ("start_ns", "duration_ns", "process", "correlation_id", "name", "thread"),
    )
    if api:
        # Threads belong to one process; a correlation id may still occur twice.
        api["thread"] = np.array(api["process"]) * 10 + np.array(api["thread"])
    if api or draw(st.booleans()):
        tables["api_calls"] = api
    overhead = st.tuples(moment, length, st.sampled_from([11, 12, 21]))
    tables["overheads"] = columns_of(
        draw(st.lists(overhead, max_size=3)), ("start_ns", "duration_ns", "thread")
    )
    tables["devices"] = {"process": [1, 1, 2, 2], "device": [0, 1, 0, 1]}
    if draw(st.booleans()):
        tables["devices"]["physical"] = [0, 1, 0, 1]  # both processes share the GPUs
    begin, end = sorted((draw(st.integers(-10, SLOTS + 20)), draw(st.integers(-10, SLOTS + 20))))
    window = Window(start_ns=begin * unit, end_ns=end * unit + draw(st.integers(1, 3)))
    return tables, window


def facts_and_ledger(tables, window=None):
    with tempfile.TemporaryDirectory() as folder:
        facts = build(Path(folder), **tables)
        return facts, build_ledger(facts, window) if window else account(facts)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(recordings())
def test_the_rows_sum_to_the_window_and_the_segments_partition_it(recording):
    tables, window = recording
    facts, ledger = facts_and_ledger(tables, window)
    assert ledger.duration_ns == window.duration_ns * len(facts.devices)
    for device in ledger.devices:
        assert sum(device.rows.values()) == device.duration_ns == window.duration_ns
        assert sum(device.unexplained.values()) == device.rows[Row.UNEXPLAINED]
        mine = ledger.segments[ledger.segments["device"] == device.key]
        assert mine["start_ns"].iloc[0] == window.start_ns
        assert mine["end_ns"].iloc[-1] == window.end_ns
        assert (mine["start_ns"].to_numpy()[1:] == mine["end_ns"].to_numpy()[:-1]).all()
        assert (mine["start_ns"] < mine["end_ns"]).all()
        assert device.busy_ns == busy_ns(facts, device.key, window)
        assert device.busy_ns == sum(device.rows[r] for r in BUSY_ROWS)


def busy_ns(facts, key, window):
    rows = facts.launches[facts.launches["device"] == key]
    cuts = sorted({*rows["start_ns"], *rows["end_ns"], window.start_ns, window.end_ns})
    return sum(
        high - low
        for low, high in itertools.pairwise(cuts)
        if window.start_ns <= low < window.end_ns
        and ((rows["start_ns"] <= low) & (rows["end_ns"] >= high)).any()
    )


# --- every booking again, microsecond by microsecond ----------------------------------------

PAUSE_US = 10  # too few queued launches to measure the device's own pause
WORDS = {
    "cudaLaunchKernel": "launch",
    "cudaGetDevice": "other",
    "cudaDeviceSynchronize": "wait",
    "cudaEventQuery": "wait",  # not ready yet; alone it waits for nothing
    "cudaStreamQuery": "wait",  # ready
    "cudaFree": "free",
    "cudaMalloc": "memory",
    "cuModuleLoadData": "setup",
    "": "unnamed",
}
QUERIES = ("cudaEventQuery", "cudaStreamQuery")
RANK = ("outside", "dispatch", "other", "unnamed", "launch", "wait", "free", "memory", "setup")
ROW_OF = {
    "outside": "host",
    "dispatch": "launch",
    "other": "launch",
    "unnamed": "unexplained",
    "launch": "launch",
    "wait": "sync",
    "free": "memory",
    "memory": "memory",
    "setup": "setup",
}


@st.composite
def programs(draw):
    """One thread's calls in order, and kernels that some of them launch; whole µs."""
    now, rows, launches, free = 0, [], [], 0
    for number in range(1, draw(st.integers(2, 9))):
        now += draw(st.sampled_from([0, 1, 5, 30, 101]))
        name = draw(st.sampled_from(["cudaLaunchKernel", *WORDS]))
        end = now + draw(st.integers(1, 20))
        if name == "cudaLaunchKernel":
            begin = max(free, now + draw(st.integers(0, 30))) + draw(st.integers(0, 3))
            free = begin + draw(st.sampled_from([1, 10, 60]))
            launches.append((begin, free, number))
        rows.append((name, now, end, number))
        now = end
    launches = launches or [(5, 6, 99)]
    return rows, launches


def asks_on(a, b):
    """Whether query ``b`` belongs to the same loop as query ``a``."""
    return a[0] == "cudaEventQuery" and b[0] in QUERIES and b[1] - a[2] <= 100


def stretches(rows):
    """What each call is, and from when to when; a loop of queries is one wait."""
    kept = [row for row in rows if WORDS[row[0]] != "other"]  # these may stand between queries
    found = [("other", begin, end) for name, begin, end, _ in rows if WORDS[name] == "other"]
    for place, (name, begin, end, _) in enumerate(kept):
        word = WORDS[name]
        if name in QUERIES:
            first = last = place
            while first and asks_on(kept[first - 1], kept[first]):
                first -= 1
            while last + 1 < len(kept) and asks_on(kept[last], kept[last + 1]):
                last += 1
            word = "wait" if last > first else "other"
            begin, end = kept[first][1], kept[last][2]
        found.append((word, begin, end))
    return sorted(found, key=lambda f: f[1])


def owed_before(rows, moment):
    """How long the last wait before ``moment`` was, if nothing was launched since it."""
    owed = 0
    for word, begin, end in stretches(rows):
        if begin < moment and word in ("wait", "free"):
            owed = end - begin if end <= moment else 0
        elif begin < moment and word == "launch":
            owed = 0
    return owed


def thread_does(rows, moment):
    """What the thread does in the microsecond that begins at ``moment``."""
    here = [(word, begin) for word, begin, end in stretches(rows) if begin <= moment < end]
    if here:
        return max((w for w, _ in here), key=RANK.index), here[0][1]
    before = max((r[2] for r in rows if r[2] <= moment), default=-(10**6))
    after = min((r[1] for r in rows if r[1] > moment), default=10**6)
    return ("dispatch" if after - before <= 100 else "outside"), before


def blocked_since(rows, moment):
    """Begin of the blocking stretch around ``moment``."""
    while thread_does(rows, moment - 1)[0] in ("wait", "free"):
        moment -= 1
    return moment


def expected_gap(rows, begin, end, number):
    """Book the idle time from ``begin`` to ``end``, ended by call ``number``."""
    calls_by_number = {r[3]: r for r in rows}
    if number not in calls_by_number:
        return {"unexplained": end - begin}
    _, called, returned, _ = calls_by_number[number]
    called = min(called, end)
    returned = min(max(returned, called), end)
    late = max(end - PAUSE_US, returned, begin)  # from here on it is the device's own pause
    booked_us, saved = {}, 0
    for moment in range(begin, end):
        if moment < called:
            word, _ = thread_does(rows, moment)
            row = ROW_OF[word]
            if moment == begin and word in ("wait", "free"):
                saved += begin - blocked_since(rows, begin)
            elif moment == begin:
                saved += owed_before(rows, begin)
            saved += word == "wait"
        else:
            # No call here makes a stream wait, so what was queued has no reason to be late; a
            # moment more than usual is still the device's own.
            is_own = moment < returned or moment >= late or late - max(returned, begin) < PAUSE_US
            word = "launch" if is_own else "unexplained"
            row = word
        if word != "wait" and saved and called > begin:
            saved, row = saved - 1, "sync"
        booked_us[row] = booked_us.get(row, 0) + 1
    return booked_us


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(programs())
def test_each_microsecond_of_idle_time_is_booked_as_the_words_say(program):
    rows, launches = program
    begin, end, number = zip(*launches, strict=True)
    tables = {
        "kernels": {"start_us": begin, "end_us": end, "correlation_id": number},
        "api_calls": calls(
            *rows, status=[NOT_READY if r[0] == "cudaEventQuery" else 0 for r in rows]
        ),
    }
    _, ledger = facts_and_ledger(tables)
    expected = {"kernel": 0}
    for (_, idle_from, _), (start, _, which) in itertools.pairwise(launches):
        for row, us in expected_gap(rows, idle_from, start, which).items():
            expected[row] = expected.get(row, 0) + us
    expected["kernel"] = sum(e - b for b, e, _ in launches)
    assert booked(ledger) == {row: us for row, us in expected.items() if us}
