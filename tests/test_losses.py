"""How the ledger's rows are split among the rules, and that the sentences count what they say."""

import numpy as np

from analyzers.finding import Clear, Finding, Row
from analyzers.rules import (
    launch_device_gaps,
    launch_late_host,
    launch_missing_graph,
    launch_small_kernels,
)
from tests.traces_in_memory import account, build

LAUNCH_RULES = (
    launch_device_gaps,
    launch_late_host,
    launch_missing_graph,
    launch_small_kernels,
)


def found(rules, facts, ledger):
    """Return the findings of some rules by the last word of their module's name."""
    outcomes = {rule.__name__.partition("rules.")[2]: rule.check(facts, ledger) for rule in rules}
    return {name: o for name, o in outcomes.items() if isinstance(o, Finding)}


def numbers(count, first=1):
    """Correlation ids."""
    return np.arange(first, first + count)


# --- launches -------------------------------------------------------------------------------


def deep_queue(tmp_path, count=1_000, **more):
    """Kernels of 6 µs with a pause of 2 µs, all submitted long before."""
    return build(
        tmp_path,
        kernels={
            "start_us": 10 + 8 * np.arange(count),
            "duration_us": 6,
            "correlation_id": numbers(count),
            **more,
        },
        api_calls={
            "start_us": 3 * np.arange(count),
            "duration_us": 2.5,
            "correlation_id": numbers(count),
        },
    )


def graphs(tmp_path, launches=50, nodes=20, late_us=0, **more):
    """CUDA graphs of nodes of 1 µs, 1.5 µs apart, whose host comes ``late_us`` late."""
    begin = 1_000 + (60.0 + late_us) * np.arange(launches)
    return build(
        tmp_path,
        kernels={
            "start_us": np.repeat(begin + 5, nodes) + np.tile(2.5 * np.arange(nodes), launches),
            "duration_us": 1,
            "correlation_id": np.repeat(numbers(launches), nodes),
            "name": [f"node{i % nodes}" for i in range(launches * nodes)],
            "graph_node": np.tile(numbers(nodes), launches),
            **more,
        },
        api_calls={
            "start_us": begin,
            "duration_us": 4,
            "correlation_id": numbers(launches),
            "name": "cudaGraphLaunch",
        },
    )


def test_pauses_of_a_full_queue_are_the_gpu_s_own_not_a_late_host(tmp_path):
    facts = deep_queue(tmp_path)
    findings = found(LAUNCH_RULES, facts, account(facts))
    assert list(findings) == ["launch_device_gaps"]
    finding = findings["launch_device_gaps"]
    assert finding.lost_ns == 999 * 2_000
    assert "paused 999 times" in finding.title
    assert "2 µs each" in finding.title


def test_nodes_of_a_cuda_graph_are_never_said_to_miss_one(tmp_path):
    facts = graphs(tmp_path)
    findings = found(LAUNCH_RULES, facts, account(facts))
    assert "launch_missing_graph" not in findings
    assert "launch_small_kernels" not in findings
    assert "950 of them inside CUDA graphs" in findings["launch_device_gaps"].title
    assert "in the graph" in findings["launch_device_gaps"].advice


def test_a_graph_is_known_by_its_call_when_its_nodes_have_no_number(tmp_path):
    facts = graphs(tmp_path, nodes=1, launches=200, graph_node=-1)
    assert "launch_missing_graph" not in found(LAUNCH_RULES, facts, account(facts))


def test_a_late_graph_launch_counts_once_however_many_nodes_it_has(tmp_path):
    facts = graphs(tmp_path, late_us=40)
    finding = launch_late_host.check(facts, account(facts))
    assert "submitted 49 operations" in finding.title
    # Of the 51.5 µs between two graphs the host spends those until the next one starts.
    assert finding.lost_ns <= 49 * 52_000


def test_pauses_inside_a_graph_are_the_gpu_s_even_while_the_call_still_runs(tmp_path):
    begin = 1_000.0 * np.arange(10)
    facts = build(
        tmp_path,
        kernels={
            "start_us": np.concatenate((begin + 5, begin + 15)),
            "duration_us": 2,
            "correlation_id": np.concatenate((numbers(10), numbers(10))),
            "graph_node": np.repeat([1, 2], 10),
        },
        api_calls={
            "start_us": begin,
            "duration_us": 30,
            "correlation_id": numbers(10),
            "name": "cudaGraphLaunch",
        },
    )
    ledger = account(facts, 5, 17)
    assert ledger.total_ns(Row.LAUNCH) == 8_000
    assert list(found(LAUNCH_RULES, facts, ledger)) == ["launch_device_gaps"]


def test_a_pause_after_a_call_that_returned_too_late_is_the_host_s(tmp_path):
    # Each call begins 1 µs before the GPU runs dry, and returns 2 µs after it.
    facts = build(
        tmp_path,
        kernels={"start_us": 20 * np.arange(50), "duration_us": 16, "correlation_id": numbers(50)},
        api_calls={
            "start_us": 20 * np.arange(50) - 5,
            "duration_us": 3,
            "correlation_id": numbers(50),
        },
    )
    findings = found(LAUNCH_RULES, facts, account(facts))
    assert list(findings) == ["launch_late_host"]
    assert findings["launch_late_host"].lost_ns == 49 * 4_000


def test_idle_time_that_a_sentence_quotes_lies_in_the_window(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [0, 1_000, 1_010], "duration_us": 2, "correlation_id": [1, 2, 3]},
        api_calls={
            "start_us": [-5, 5, 1_003],
            "duration_us": [4, 993, 1],
            "correlation_id": [1, 2, 3],
        },
    )
    finding = launch_small_kernels.check(facts, account(facts, 500, 510))
    assert finding.lost_ns == 10_000
    assert "1 launch ran shorter than the GPU had idled before it" in finding.title
    assert "after 10 µs of waiting" in finding.title


def test_a_kernel_is_small_against_its_launch_not_against_other_idle_time(tmp_path):
    # 100 µs of work after 900 µs elsewhere and 10 µs of launching: nothing is too small.
    begin = 1_010 * np.arange(20)
    facts = build(
        tmp_path,
        kernels={"start_us": begin, "duration_us": 100, "correlation_id": numbers(20)},
        api_calls={"start_us": begin - 10, "duration_us": 9, "correlation_id": numbers(20)},
    )
    ledger = account(facts)
    assert ledger.total_ns(Row.HOST) > ledger.total_ns(Row.LAUNCH)
    assert launch_small_kernels.check(facts, ledger) == Clear()
