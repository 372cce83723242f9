"""Time in which only copies and memsets run, by pattern."""

import numpy as np
import pytest

from analyzers.finding import Clear
from analyzers.losses.host_memory import FOR_COHERENT, FOR_INTEGRATED
from analyzers.rules import (
    bandwidth_managed_memory,
    bandwidth_pageable_copies,
    bandwidth_small_copies,
    bandwidth_transfer_bound,
    sync_small_readbacks,
)
from collectors.schema import CopyKind, MemoryKind
from tests.losses_helpers import numbers
from tests.traces_in_memory import H100, account, build

# --- transfers ------------------------------------------------------------------------------


def copied(tmp_path, start_us, duration_us, *, kernel_us=1_000, **more):
    """One kernel from 0 to ``kernel_us``, and copies of pageable memory, 1 kB for each µs."""
    size = 1_000 * np.broadcast_to(duration_us, np.shape(start_us))
    devices = more.pop("devices", None)
    return build(
        tmp_path,
        **({"devices": devices} if devices else {}),
        kernels={"start_us": [0], "duration_us": kernel_us},
        copies={
            "start_us": start_us,
            "duration_us": duration_us,
            "stream": 8,
            "source_kind": MemoryKind.PAGEABLE,
            "bytes": size,
            **more,
        },
    )


def test_only_copies_that_ran_alone_are_counted(tmp_path):
    # Nine copies behind the kernel, one after it.
    facts = copied(tmp_path, 100 * np.arange(1, 11), [90] * 9 + [100])
    finding = bandwidth_pageable_copies.check(facts, account(facts))
    assert finding.lost_ns == 100_000
    assert finding.title.startswith("1 copy of pageable memory moved 100 kB at 1 GB/s")
    assert [e.value for e in finding.evidence if e.unit == "ns"] == [100_000]


def test_a_copy_counts_with_the_part_that_ran_alone_in_the_window(tmp_path):
    # From 900 to 1,900 µs; the kernel covers the first 100 µs, the window ends at 1,400.
    facts = copied(tmp_path, [900], [1_000])
    finding = bandwidth_pageable_copies.check(facts, account(facts, 0, 1_400))
    assert finding.lost_ns == 400_000
    assert "moved 400 kB at 1 GB/s" in finding.title
    assert finding.evidence[1].value == 400_000
    assert "1 MB" in finding.evidence[1].name


def test_the_mean_size_is_that_of_the_small_copies_that_ran_alone(tmp_path):
    facts = copied(
        tmp_path,
        [10, 500, 1_000, 1_100],
        [90, 90, 90, 90],
        bytes=[60_000, 60_000, 1_000, 3_000],
    )
    finding = bandwidth_small_copies.check(facts, account(facts))
    assert "2 copies of at most 64 KiB, 2 kB on average" in finding.title


def test_migrations_beside_a_kernel_are_not_counted_as_alone(tmp_path):
    facts = copied(
        tmp_path, [100, 1_000], [800, 500], kind=CopyKind.MANAGED_HOST_TO_DEVICE, bytes=4_096
    )
    finding = bandwidth_managed_memory.check(facts, account(facts))
    assert finding.lost_ns == 500_000
    assert finding.title.startswith("1 migration of unified memory moved 4.10 kB")


def test_a_small_copy_beside_a_large_one_leaves_the_time_to_the_large_one(tmp_path):
    facts = copied(
        tmp_path, [1_000, 1_100], [900, 500], bytes=[1_000_000, 4], stream=[8, 9], kernel_us=100
    )
    ledger = account(facts, 1_000)
    assert bandwidth_small_copies.check(facts, ledger) == Clear()
    assert bandwidth_pageable_copies.check(facts, ledger).lost_ns == 900_000


def test_memsets_that_run_alone_are_found_without_any_copy(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [0], "duration_us": 500},
        memsets={"start_us": [500], "duration_us": 500, "bytes": 100_000_000},
    )
    finding = bandwidth_transfer_bound.check(facts, account(facts))
    assert "copies" not in bandwidth_transfer_bound.NEEDS
    assert finding.lost_ns == 500_000
    assert finding.title == (
        "Memsets ran alone for 500 µs, 50 % of the window: 100 MB in 1 memset at 200 GB/s"
    )
    assert "memset" in finding.advice


def test_the_main_direction_is_the_one_with_most_time_alone(tmp_path):
    # The upload is long, but behind the kernel.
    facts = copied(
        tmp_path,
        [0, 1_000],
        [900, 300],
        kind=[CopyKind.HOST_TO_DEVICE, CopyKind.DEVICE_TO_HOST],
        source_kind=MemoryKind.PINNED,
        destination_kind=MemoryKind.PINNED,
    )
    title = bandwidth_transfer_bound.check(facts, account(facts)).title
    assert title.startswith("Copies ran alone for 300 µs")
    assert title.endswith("device to host, 300 kB in 1 copy at 1 GB/s")


def test_mostly_is_said_from_half_of_the_time_on(tmp_path):
    kinds = [CopyKind.HOST_TO_DEVICE, CopyKind.DEVICE_TO_HOST, CopyKind.DEVICE_TO_DEVICE]
    pinned = {"source_kind": MemoryKind.PINNED, "destination_kind": MemoryKind.PINNED}
    facts = copied(tmp_path, [1_000, 1_200, 1_400], [200, 200, 240], kind=kinds, **pinned)
    title = bandwidth_transfer_bound.check(facts, account(facts)).title
    assert "mostly" not in title
    assert "38 % of it device to device" in title


def test_a_copy_of_unknown_size_is_no_small_read_back(tmp_path):
    begin = 100 * np.arange(10)
    facts = build(
        tmp_path,
        kernels={"start_us": begin, "duration_us": 20, "correlation_id": numbers(10)},
        copies={
            "start_us": begin + 20,
            "duration_us": 5,
            "kind": CopyKind.DEVICE_TO_HOST,
            "bytes": -1,
            "correlation_id": numbers(10, 101),
        },
        api_calls={
            "start_us": np.concatenate((begin - 2, begin + 3)),
            "duration_us": np.repeat([1, 40], 10),
            "correlation_id": np.concatenate((numbers(10), numbers(10, 101))),
            "name": ["cudaLaunchKernel"] * 10 + ["cudaMemcpy"] * 10,
        },
    )
    assert sync_small_readbacks.check(facts, account(facts)) == Clear()


def test_copies_and_memsets_that_run_alone_are_both_named(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [0], "duration_us": 500},
        copies={"start_us": [500], "duration_us": 300, "bytes": 3_000_000},
        memsets={"start_us": [800], "duration_us": 200, "bytes": 1_000_000},
    )
    title = bandwidth_transfer_bound.check(facts, account(facts)).title
    assert title.startswith("Copies and memsets ran alone for 500 µs, 50 % of the window: mostly")


@pytest.mark.parametrize(("size", "is_small"), [(0, True), (1_024, True), (1_025, False)])
def test_up_to_a_kilobyte_is_a_few_numbers_to_look_at(tmp_path, size, is_small):
    begin = 100 * np.arange(10)
    facts = build(
        tmp_path,
        kernels={"start_us": begin, "duration_us": 20, "correlation_id": numbers(10)},
        copies={
            "start_us": begin + 20,
            "duration_us": 5,
            "kind": CopyKind.DEVICE_TO_HOST,
            "bytes": size,
            "correlation_id": numbers(10, 101),
        },
        api_calls={
            "start_us": np.concatenate([begin - 9, begin + 1]),
            "duration_us": np.concatenate([np.full(10, 4), np.full(10, 80)]),
            "name": ["cudaLaunchKernel"] * 10 + ["cudaMemcpy"] * 10,
            "correlation_id": [*numbers(10), *numbers(10, 101)],
        },
    )
    found = sync_small_readbacks.check(facts, account(facts))
    assert (found != Clear()) == is_small


# --- GPUs that reach the host's memory --------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "capability", "sentence"),
    [
        ("NVIDIA H100 80GB HBM3", (9, 0), ""),
        ("NVIDIA GeForce RTX 3090", (8, 6), ""),
        ("NVIDIA GH200 480GB", (9, 0), FOR_COHERENT),
        ("NVIDIA GB200", (10, 0), FOR_COHERENT),
        ("NVIDIA GB10", (12, 1), FOR_COHERENT),
        ("Orin", (8, 7), FOR_INTEGRATED),
        ("NVIDIA Tegra X2", (-1, -1), FOR_INTEGRATED),
        ("", (7, 2), FOR_INTEGRATED),
        ("", (-1, -1), ""),
    ],
)
def test_advice_on_copies_is_another_one_where_the_gpu_reaches_host_memory(
    tmp_path, name, capability, sentence
):
    major, minor = capability
    device = {**H100, "name": name, "compute_major": major, "compute_minor": minor}
    facts = copied(tmp_path, [1_000], [100], devices={"process": [1], "device": 0, **device})
    finding = bandwidth_pageable_copies.check(facts, account(facts))
    expected = f"{bandwidth_pageable_copies.ADVICE} {sentence}".rstrip()
    assert finding.advice == expected


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [(CopyKind.HOST_TO_DEVICE, FOR_COHERENT), (CopyKind.DEVICE_TO_DEVICE, "")],
)
def test_copies_on_the_device_are_needed_whatever_host_memory_is(tmp_path, kind, sentence):
    facts = copied(
        tmp_path,
        [1_000],
        [100],
        kind=kind,
        source_kind=MemoryKind.PINNED,
        devices={"process": [1], "device": 0, **H100, "name": "NVIDIA GH200 480GB"},
    )
    finding = bandwidth_transfer_bound.check(facts, account(facts))
    assert finding.advice.endswith(sentence)
    assert (FOR_COHERENT in finding.advice) == bool(sentence)
