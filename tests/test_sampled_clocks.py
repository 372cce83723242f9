"""Clocks that were sampled beside a recording correct what its kernels are measured against."""

import pytest

from analyzers.work.clocks import clocks_beside
from analyzers.work.roofs import CLOCK
from collectors.telemetry import telemetry
from jobs import api
from library import analyses, sampled_clocks
from library.cache import DATA_DIR_VARIABLE
from tests.telemetry_files import written
from tests.test_work_account import account
from tests.test_work_ranges import BF16_GEMM, MM, US, facts_of, recorded

H100_PEAK, H100_MHZ = 989.4e12, 1_830  # bf16, and the clock it is for
BEGIN = 10_000 * US  # of the only kernel, which takes 300 µs


@pytest.mark.parametrize("mhz", [915, 1_830])
def test_the_roof_is_that_of_the_clock_beside_the_recording(tmp_path, mhz):
    facts = facts_of(tmp_path, recorded((MM, BF16_GEMM, 300)))
    rows = account(facts, peaks={f"{CLOCK}3": mhz * 1e6}).rows  # the only GPU, whatever its number
    least = 2 * 4096**3 / (mhz / H100_MHZ * H100_PEAK)
    assert rows["roof_ns"].iloc[0] == round(least * 1e9)


def test_of_several_gpus_each_has_its_own_clock(tmp_path):
    facts = facts_of(tmp_path, recorded((MM, BF16_GEMM, 300)))
    physical = int(facts.devices["physical"].iloc[0])
    clocks = {f"{CLOCK}{physical}": 1.2e9, f"{CLOCK}{physical + 1}": 1.5e9, "bf16": 1e12}
    assert clocks_beside(facts, clocks) == {0: 1.2e9}
    assert clocks_beside(facts, {f"{CLOCK}{physical + n}": 1e9 for n in (1, 2)}) == {}
    assert clocks_beside(facts, {"bf16": 1e12}) == {}


def sampled(begin, mhz, count=5, use=100.0):
    """Return samples of GPU 0 within the kernel, one before it, and one after."""
    inside = [begin + BEGIN + n * 10 * US for n in range(count)]
    rows = [{"at": at, "gpu": 0, "utilization_pct": use, "sm_clock_mhz": mhz} for at in inside]
    outside = [begin + BEGIN - US, begin + BEGIN + 301 * US]
    return [*rows, *({**rows[0], "at": at, "sm_clock_mhz": 345} for at in outside)]


def test_opening_keeps_the_clock_while_kernels_ran(tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "data"))
    path = recorded((MM, BF16_GEMM, 300)).write(tmp_path / "made.sqlite")
    trace = api.open_recording(path).trace
    plain = analyses.find(trace.folder)
    written(telemetry.beside(path), gpu=sampled(trace.source.start_utc_ns, 915))
    api.open_recording(path)  # known already, but not its telemetry
    assert sampled_clocks.load(trace.folder) == {"0": 915e6}
    corrected = analyses.find(trace.folder)
    assert corrected is not None
    assert corrected.folder != plain.folder
    rows = [stored.work()["roof_ns"].iloc[0] for stored in (plain, corrected)]
    assert rows[1] == pytest.approx(2 * rows[0], abs=1)


@pytest.mark.parametrize(("count", "use"), [(4, 100.0), (5, 0.0)])
def test_few_samples_and_an_idle_gpu_tell_no_clock(tmp_path, count, use):
    trace = facts_of(tmp_path, recorded((MM, BF16_GEMM, 300))).trace
    path = tmp_path / "made.sqlite"
    written(telemetry.beside(path), gpu=sampled(trace.source.start_utc_ns, 915, count, use))
    sampled_clocks.keep(path, trace)
    assert sampled_clocks.load(trace.folder) == {}


def test_telemetry_that_cannot_be_read_changes_nothing(tmp_path):
    trace = facts_of(tmp_path, recorded((MM, BF16_GEMM, 300))).trace
    telemetry.beside(tmp_path / "made.sqlite").write_bytes(b"junk" * 999)
    sampled_clocks.keep(tmp_path / "made.sqlite", trace)
    assert sampled_clocks.load(trace.folder) == {}
