"""Roofs: devices by name, what the user says, and the least time of work."""

import csv
import re

import numpy as np
import pytest

from analyzers.work import roofs
from analyzers.work.element_types import CODE_OF
from analyzers.work.roofs import least_seconds, parse_peaks, roof_of

TERA = 1e12


@pytest.mark.parametrize(
    ("name", "device", "kind", "peak", "memory"),
    [
        ("Tesla V100-DGXS-32GB", "V100 SXM2", "fp16", 125, 900),
        ("Tesla V100-PCIE-16GB", "V100 PCIe", "fp16", 112, 900),
        ("Tesla T4", "T4", "fp16", 65, 320),
        ("NVIDIA A10", "A10", "bf16", 125, 600),
        ("NVIDIA A100-SXM4-40GB", "A100 40 GB", "bf16", 312, 1555),
        ("NVIDIA A100-SXM4-80GB", "A100 80 GB SXM", "tf32", 156, 2039),
        ("NVIDIA A100 80GB PCIe", "A100 80 GB PCIe", "bf16", 312, 1935),
        ("NVIDIA H100 80GB HBM3", "H100 SXM", "bf16", 989.4, 3350),
        ("NVIDIA H100 PCIe", "H100 PCIe", "bf16", 756, 2000),
        ("NVIDIA H100 NVL", "H100 NVL", "fp8", 1670.5, 3900),
        ("NVIDIA H200", "H200 SXM", "fp8", 1978.9, 4800),
        ("NVIDIA GH200 480GB", "GH200 96 GB", "bf16", 989.4, 4000),
        ("NVIDIA B200", "B200", "fp4", 9000, 8000),
        ("NVIDIA L4", "L4", "fp8", 242.5, 300),
        ("NVIDIA L40S", "L40S", "bf16", 362, 864),
        ("NVIDIA GeForce RTX 4090", "RTX 4090", "bf16", 165.2, 1008),
        ("AMD Instinct MI300X", "MI300X", "bf16", 1307.4, 5300),
        ("AMD Instinct MI210", "MI210", "fp32", 45.3, 1638.4),
    ],
)
def test_devices_are_known_by_the_names_that_drivers_give(name, device, kind, peak, memory):
    roof = roof_of(name)
    assert roof.device == device
    assert roof.peak(kind, on_matrix_units=True) == pytest.approx(peak * TERA)
    assert roof.memory_bytes_per_s == memory * 1e9


@pytest.mark.parametrize(
    "name", ["", "NVIDIA A10G", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA L40", "Some GPU"]
)
def test_devices_that_are_like_others_are_not_taken_for_them(name):
    assert roof_of(name).device == ""
    assert np.isnan(roof_of(name).peak("bf16", on_matrix_units=True))


def test_every_device_has_sources_and_whole_lines():
    with (roofs.Path(roofs.__file__).parent / "devices.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(rows) >= 40
    for row in rows:
        assert None not in row.values()
        assert re.match(r"https://", row["source"]), row["device"]
        assert float(row["memory_gb_s"]) > 0
        assert float(row["fp32"]) > 0


def test_what_the_user_says_counts_before_the_table():
    given = parse_peaks("bf16=100e12, hbm=1e12")
    roof = roof_of("NVIDIA H100 80GB HBM3", user_peaks=given)
    assert roof.peak("bf16", on_matrix_units=True) == 100 * TERA
    assert roof.memory_bytes_per_s == 1e12
    assert roof_of("unheard of", user_peaks=given).peak("bf16", on_matrix_units=True) == 100 * TERA


def test_recorded_bandwidth_serves_devices_that_nobody_knows():
    assert roof_of("unheard of", 500_000_000_000).memory_bytes_per_s == 5e11
    assert roof_of("NVIDIA H100 80GB HBM3", 500_000_000_000).memory_bytes_per_s == 3.35e12


@pytest.mark.parametrize("text", ["bf16", "bf16=", "bf16=-1", "bf16=inf", "speed=1", "bf16=x"])
def test_peaks_that_are_none_are_refused_in_one_line(text):
    with pytest.raises(ValueError, match="write bf16="):
        parse_peaks(text)


def one(flop, moved, kind, on_units=True, peaks="bf16=100e12,hbm=1e12"):
    roof = roof_of("", user_peaks=parse_peaks(peaks))
    columns = ([flop], [moved], [CODE_OF[kind]], [on_units])
    seconds, is_compute = least_seconds(roof, *map(np.array, columns))
    return float(seconds[0]), bool(is_compute[0])


def test_the_longer_of_both_roofs_binds():
    assert one(2e12, 1e9, "bf16") == (0.02, True)
    assert one(1e9, 1e12, "bf16") == (1.0, False)


def test_products_in_a_type_without_a_peak_have_no_roof_but_other_work_has():
    assert np.isnan(one(2e12, 1e9, "fp8")[0])
    assert one(1e6, 1e9, "fp32", on_units=False) == (0.001, False)


def test_without_a_bandwidth_there_is_no_roof():
    assert np.isnan(one(2e12, 1e9, "bf16", peaks="bf16=1e12")[0])
