"""How the ledger's rows are split among the rules, and that the sentences count what they say."""

import numpy as np

from analyzers.finding import Clear, Row
from analyzers.rules import (
    communication_exposed,
    host_starvation,
    launch_late_host,
    launch_small_kernels,
    sync_host_waits,
    sync_small_readbacks,
)
from collectors.schema import CopyKind, MemoryKind
from tests.losses_helpers import LAUNCH_RULES, found, numbers
from tests.traces_in_memory import account, build

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
    assert "all of them inside CUDA graphs" in findings["launch_device_gaps"].title
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


def test_a_node_that_comes_long_after_the_one_before_waited_for_the_call(tmp_path):
    # The call puts the second node on the device 100 µs after the first.
    facts = build(
        tmp_path,
        kernels={
            "start_us": [5, 105],
            "duration_us": 5,
            "correlation_id": 1,
            "graph_node": [1, 2],
        },
        api_calls={
            "start_us": [0],
            "duration_us": 103,
            "correlation_id": 1,
            "name": "cudaGraphLaunch",
        },
    )
    findings = found(LAUNCH_RULES, facts, account(facts))
    assert list(findings) == ["launch_late_host"]
    assert "submitted 1 operation only" in findings["launch_late_host"].title


def test_a_long_kernel_is_never_too_small_for_its_launch(tmp_path):
    # 1 ms of work after a launch call of 5 ms: the call is slow, the kernel is not small.
    begin = 6_000 * np.arange(10)
    facts = build(
        tmp_path,
        kernels={"start_us": begin, "duration_us": 1_000, "correlation_id": numbers(10)},
        api_calls={"start_us": begin - 4_900, "duration_us": 4_890, "correlation_id": numbers(10)},
    )
    assert list(found(LAUNCH_RULES, facts, account(facts))) == ["launch_late_host"]


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
    assert "1 launch ran for less time than the GPU had been idle before it" in finding.title
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


# --- the host -------------------------------------------------------------------------------


def starved(tmp_path, steps=20, devices=1, **more):
    """Kernels of 1 ms after 9 ms in which the host is outside CUDA, on one or more GPUs."""
    begin = np.tile(10_000 * np.arange(steps), devices)
    ids = numbers(len(begin))
    return build(
        tmp_path,
        kernels={
            "start_us": begin + 9_000,
            "duration_us": 1_000,
            "device": np.repeat(np.arange(devices), steps),
            "correlation_id": ids,
        },
        devices={"process": [1] * devices, "device": range(devices), "physical": range(devices)},
        api_calls={"start_us": begin + 8_990, "duration_us": 5, "correlation_id": ids},
        **more,
    )


def starvation(facts, *window):
    return host_starvation.check(facts, account(facts, *window))


def test_a_call_that_covers_next_to_nothing_is_not_blamed(tmp_path):
    facts = starved(tmp_path, os_calls={"start_us": [15_000], "duration_us": 2, "name": "write"})
    finding = starvation(facts)
    assert "write" not in finding.title
    assert "in write" in {e.name for e in finding.evidence}


def test_a_part_is_given_as_a_part_and_more_than_half_as_most(tmp_path):
    begin = 10_000 * np.arange(20)
    calls = {"start_us": begin + 1_500, "duration_us": 2_000, "name": "read"}
    assert (
        ", 22 % of it during read (38 ms)"
        in starvation(starved(tmp_path / "a", os_calls=calls)).title
    )
    calls = {"start_us": begin + 1_500, "duration_us": 6_000, "name": "read"}
    assert (
        ", mostly during read (114 ms)" in starvation(starved(tmp_path / "b", os_calls=calls)).title
    )


def test_nested_calls_of_one_name_count_once(tmp_path):
    begin = 10_000 * np.arange(20)
    calls = {
        "start_us": np.concatenate((begin + 1_500, begin + 1_600, begin + 1_700)),
        "duration_us": np.repeat([6_000, 5_000, 4_000], 20),
        "name": "read",
    }
    assert "during read (114 ms)" in starvation(starved(tmp_path, os_calls=calls)).title


def test_a_call_that_starves_two_gpus_costs_both(tmp_path):
    begin = 10_000 * np.arange(20)
    calls = {"start_us": begin + 1_500, "duration_us": 6_000, "name": "read"}
    finding = starvation(starved(tmp_path, devices=2, os_calls=calls))
    assert finding.title.startswith("The GPUs idled")
    assert "mostly during read (228 ms)" in finding.title


def test_time_after_the_last_operation_is_no_starvation(tmp_path):
    facts = starved(tmp_path, steps=2)
    assert starvation(facts, 9_000, 100_000).lost_ns < 9_000_000
    assert starvation(facts, 19_000, 100_000) == Clear()


def test_one_place_is_one_place(tmp_path):
    assert "in 1 place where" in starvation(starved(tmp_path, steps=2)).title


# --- communication --------------------------------------------------------------------------


def collectives(tmp_path, start_us, duration_us, stream):
    names = ["compute", *["ncclDevKernel_AllReduce"] * len(start_us)]
    return build(
        tmp_path,
        kernels={
            "start_us": [0, *start_us],
            "duration_us": [100, *duration_us],
            "stream": [7, *stream],
            "name": names,
        },
    )


def test_collectives_side_by_side_are_all_exposed(tmp_path):
    facts = collectives(tmp_path, [100, 100], [900, 900], [8, 9])
    finding = communication_exposed.check(facts, account(facts))
    assert finding.lost_ns == 900_000
    assert "nothing overlapped 100 % of the time in which 2 collectives ran" in finding.title


def test_a_collective_counts_with_its_part_of_the_window(tmp_path):
    # 1 s long; the window has 10 ms of it.
    facts = collectives(tmp_path, [50], [1_000_000], [8])
    finding = communication_exposed.check(facts, account(facts, 90, 10_090))
    assert "nothing overlapped 99.9 % of the time in which 1 collective ran" in finding.title
    assert [e.value for e in finding.evidence] == [1, *[10_000_000] * 3]


# --- words ----------------------------------------------------------------------------------


def synchronised(tmp_path, devices=1, refill_us=20):
    """Kernels of 50 µs, each waited for; then the host works for ``refill_us``."""
    step = 70 + refill_us
    begin = np.tile(step * np.arange(20), devices)
    ids = numbers(len(begin))
    return build(
        tmp_path,
        kernels={
            "start_us": begin,
            "duration_us": 50,
            "device": np.repeat(np.arange(devices), 20),
            "correlation_id": ids,
        },
        devices={"process": [1] * devices, "device": range(devices), "physical": range(devices)},
        api_calls={
            "start_us": np.concatenate((begin - 4, begin + 1)),
            "duration_us": np.repeat([3, step - 6 - refill_us], len(begin)),
            "thread": np.tile(11 + np.repeat(np.arange(devices), 20), 2),
            "correlation_id": np.concatenate((ids, ids + 1_000)),
            "name": ["cudaLaunchKernel"] * len(begin) + ["cudaStreamSynchronize"] * len(begin),
        },
    )


def test_a_wait_is_told_with_the_work_after_it(tmp_path):
    facts = synchronised(tmp_path)
    title = sync_host_waits.check(facts, account(facts)).title
    assert "left the GPU idle for" in title
    assert "of it after the call, until the next work began" in title


def test_two_gpus_are_two(tmp_path):
    facts = synchronised(tmp_path, devices=2)
    title = sync_host_waits.check(facts, account(facts)).title
    assert "left the GPUs idle for" in title
    assert "of the combined time of 2 GPUs" in title


def test_only_the_wait_for_the_few_bytes_is_a_read_back(tmp_path):
    # Each step reads four bytes and waits; then it launches, and waits for that.
    step = 100_000 * np.arange(40)
    names = [
        "cudaMemcpyAsync",
        "cudaStreamSynchronize",
        "cudaLaunchKernel",
        "cudaDeviceSynchronize",
    ]
    begin = np.concatenate([step, step + 5_000, step + 40_000, step + 45_000])
    end = np.concatenate([step + 4_000, step + 20_000, step + 44_000, step + 80_000])
    number = np.arange(160)
    facts = build(
        tmp_path,
        copies={
            "start_ns": step + 10_000,
            "end_ns": step + 11_000,
            "kind": CopyKind.DEVICE_TO_HOST,
            "source_kind": MemoryKind.DEVICE,
            "destination_kind": MemoryKind.PINNED,
            "bytes": 4,
            "correlation_id": number[:40],
        },
        kernels={
            "start_ns": step + 46_000,
            "end_ns": step + 76_000,
            "correlation_id": number[80:120],
        },
        api_calls={
            "start_ns": begin,
            "end_ns": end,
            "name": np.repeat(names, 40).tolist(),
            "correlation_id": number,
        },
    )
    finding = sync_small_readbacks.check(facts, account(facts))
    assert finding.title.startswith("40 read-backs")
