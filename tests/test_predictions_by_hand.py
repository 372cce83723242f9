"""Predictions for recordings so small that what a change wins can be worked out on paper."""

import pytest

from analyzers.whatif.whatif import explore
from tests.traces_in_memory import build
from tests.whatif_helpers import about, whole, why_not

US = 1_000


def back_to_back(folder, lengths_us, pause_us=1):
    """Kernels named k0, k1, … in turn, all launched at once, with a fixed pause between them."""
    rounds, begin, rows = 20, 1_000, []
    for _ in range(rounds):
        for number, length in enumerate(lengths_us):
            rows.append((f"k{number}(int)", begin, begin + length))
            begin += length + pause_us
    names, start, end = zip(*rows, strict=True)
    ids = list(range(1, len(rows) + 1))
    return build(
        folder,
        kernels={"name": list(names), "start_us": list(start), "end_us": list(end)}
        | {"correlation_id": ids},
        api_calls={"start_us": [5 * n for n in range(len(rows))], "duration_us": 4}
        | {"correlation_id": ids},
    )


def test_the_longest_kernels_are_predicted_without_being_asked_for(tmp_path):
    facts = back_to_back(tmp_path, [100, 50, 30, 20])
    known = explore(facts, whole(facts))
    kernels = [p for p in known.predictions if p.change.startswith("kernel:")]
    assert [p.change for p in kernels] == [
        "kernel:k0(int):2",
        "kernel:k1(int):2",
        "kernel:k2(int):2",
    ]
    for prediction, length in zip(kernels, (100, 50, 30), strict=True):
        assert prediction.count == 20
        assert prediction.cause == "compute"
        assert "(20 launches) 2 times as fast" in prediction.title
        shorter = prediction.measured_ns - 20 * length * US // 2
        assert prediction.low_ns <= shorter <= prediction.high_ns
        # The replay is exact here; what it cannot know is less than a twentieth.
        assert prediction.high_ns - prediction.low_ns < 0.05 * prediction.measured_ns


@pytest.mark.parametrize(("short_us", "is_told"), [(4, True), (1, False)])
def test_a_kernel_below_a_fiftieth_of_the_window_is_not_predicted(tmp_path, short_us, is_told):
    facts = back_to_back(tmp_path, [100, short_us])
    known = explore(facts, whole(facts))
    changes = {p.change for p in known.predictions}
    assert ("kernel:k1(int):2" in changes) == is_told


def test_without_kernels_that_is_the_reason(tmp_path):
    ids = list(range(1, 21))
    facts = build(
        tmp_path,
        copies={"start_us": [20 + 110 * n for n in range(20)], "duration_us": 100}
        | {"correlation_id": ids, "bytes": 2_000_000},
        api_calls={"start_us": [5 * n for n in range(20)], "duration_us": 4}
        | {"correlation_id": ids, "name": "cudaMemcpyAsync"},
    )
    assert why_not(explore(facts, whole(facts)), "kernel") == "no kernel ran"


def test_parts_of_names_choose_kernels_in_any_case(tmp_path):
    facts = back_to_back(tmp_path, [100, 50])
    known = explore(facts, whole(facts), [("K0", 4.0), ("k", 2.0), ("absent", 2.0)])
    one, both = about(known, "kernel:k0(int):4"), about(known, "kernel:k:2")
    assert (one.count, both.count) == (20, 40)
    assert one.low_ns <= one.measured_ns - 20 * 75 * US <= one.high_ns
    assert both.low_ns <= both.measured_ns - 20 * 75 * US <= both.high_ns
    assert why_not(known, "kernel:absent") == "no kernel of the window has 'absent' in its name"


def steps_with_graphs(folder, *, wait_between=True, steps=20, graphs=1, node_pause_us=2):
    """Ten launches that take their host 8 µs each, and graphs of three kernels, in every step."""
    calls, kernels, at = [], [], 1_000
    for _ in range(steps):
        for n in range(10):
            calls.append(("cudaLaunchKernel", at, at + 8, len(calls) + 1))
            kernels.append((f"k{n}", at + 10, at + 13, len(calls)))
            at += 8
        if wait_between:
            calls.append(("cudaStreamSynchronize", at, at + 8, 0))
            at += 8
        for _ in range(graphs):
            calls.append(("cudaGraphLaunch", at, at + 20, len(calls) + 1))
            for n in range(3):
                begin = at + 25 + (10 + node_pause_us) * n
                kernels.append((f"g{n}", begin, begin + 10, len(calls)))
            at += 20
        calls.append(("cudaStreamSynchronize", at, at + 60, 0))
        at += 60
    name, begin, end, ident = (list(column) for column in zip(*calls, strict=True))
    api = {"name": name, "start_us": begin, "end_us": end, "correlation_id": ident}
    name, begin, end, ident = (list(column) for column in zip(*kernels, strict=True))
    work = {"name": name, "start_us": begin, "end_us": end, "correlation_id": ident}
    return build(folder, api_calls=api, kernels=work)


@pytest.mark.parametrize(("pause_us", "best_us"), [(0.4, 0.4), (2, 1.0)])
def test_a_recording_s_own_graphs_tell_what_launching_one_costs(tmp_path, pause_us, best_us):
    facts = steps_with_graphs(tmp_path, node_pause_us=pause_us)
    graph = about(explore(facts, whole(facts)), "graph")
    assert graph.count == 200
    assert "capturing the 200 launches in 20 CUDA graph launches" in graph.title
    assert graph.assumptions[2] == (
        "Launching a graph costs 20.0 µs, as in this recording; kernels in it follow each other "
        f"after {best_us} µs at best and 1.0 µs, as they do now, at worst"
    )
    assert "200 of the 200 launches" in graph.assumptions[1]


@pytest.mark.parametrize("graphs", [1, 2])
def test_launches_beside_a_graph_are_no_graph_of_their_own(tmp_path, graphs):
    facts = steps_with_graphs(tmp_path, wait_between=False, graphs=graphs)
    assert why_not(explore(facts, whole(facts)), "graph") == (
        "no 5 launches stand between waits, pauses and steps, or all are in graphs already"
    )
