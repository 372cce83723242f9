"""Telemetry is sampled whatever the driver does, and costs next to nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import open_trace
from collectors.errors import RefusedError
from collectors.telemetry import sampler as telemetry_sampler
from collectors.telemetry import telemetry
from collectors.telemetry.file import TelemetryFile, latest
from collectors.telemetry.schema import TABLES, throttle_words
from tests.view_fakes import SAMPLES

WAIT_S = 30  # two shared cores
BUSY = "while True: sum(range(10_000))"


def test_telemetry_given_as_a_recording_names_the_recording(tmp_path):
    path = tmp_path / "report.nsys-rep.telemetry.sqlite"
    path.write_bytes(b"SQLite format 3\x00")
    with pytest.raises(RefusedError, match=r"Open report\.nsys-rep$"):
        open_trace(path, tmp_path / "cache")


# --- a driver that does what a test wants -------------------------------------------------------


class NVMLError(Exception):
    def __init__(self, value):
        self.value = value
        super().__init__(f"NVML error {value}")


class FakeNvml:
    """Two GPUs that answer everything, but for the functions that ``fails`` maps to a number."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU, NVML_CLOCK_SM, NVML_CLOCK_MEM = 0, 1, 2
    NVML_PCIE_UTIL_TX_BYTES, NVML_PCIE_UTIL_RX_BYTES = 0, 1

    def __init__(self, gpus=2, **fails):
        self.gpus, self.fails, self.asked = gpus, fails, []

    def __getattr__(self, name):
        if not name.startswith("nvml"):
            raise AttributeError(name)
        short = name.removeprefix("nvml").removeprefix("DeviceGet")

        def call(*arguments):
            self.asked.append((short, *arguments))
            failure = self.fails.get(short)
            if callable(failure):
                failure = failure(*arguments)
            if failure:
                raise NVMLError(failure)
            return self.answer(short, arguments)

        return call

    def answer(self, short, arguments):
        return {
            "Init": None,
            "Count": self.gpus,
            "HandleByIndex": arguments[0] if arguments else None,
            "SystemGetDriverVersion": "570.86",
            "Name": b"NVIDIA Test",
            "EnforcedPowerLimit": 700_000,
            "UtilizationRates": SimpleNamespace(gpu=97, memory=41),
            "MemoryInfo": SimpleNamespace(used=3 << 30, total=80 << 30),
            "PowerUsage": 345_600,
            "Temperature": 61,
            "ClockInfo": 1_980 if arguments[1:] == (1,) else 2_619,
            "CurrentClocksEventReasons": 0x4 | 0x40,
            "CurrentClocksThrottleReasons": 0x80,
            "PcieThroughput": 12_000,
            "ComputeRunningProcesses": [
                SimpleNamespace(pid=7, usedGpuMemory=1 << 30),
                SimpleNamespace(pid=9, usedGpuMemory=5 << 30),
            ],
        }[short]


def asked_once(nvml, *, slow=True, times=1):
    """Sample with this driver; returns the rows of the last time and what was said, by code."""
    said = {}
    gpus = telemetry_sampler.Gpus(nvml, said.setdefault)
    rows = []
    for _ in range(times):
        rows = list(gpus.sample((7,), slow=slow))
    return rows, said


def test_everything_about_each_gpu_is_sampled_in_the_units_of_the_columns():
    rows, said = asked_once(FakeNvml())
    assert said == {}
    assert [row["gpu"] for row in rows] == [0, 1]
    names = {column.name for column in TABLES["gpu_samples"]}
    assert set(rows[0]) == names
    values = {k: v for k, v in rows[0].items() if not k.endswith("time_ns")}
    assert values | {"monotonic_ns": 0} == {
        "monotonic_ns": 0,
        "gpu": 0,
        "utilization_pct": 97,
        "memory_utilization_pct": 41,
        "memory_used_bytes": 3 << 30,
        "power_w": 345.6,
        "temperature_c": 61,
        "sm_clock_mhz": 1_980,
        "memory_clock_mhz": 2_619,
        "throttle_bits": 0x44,
        "pcie_tx_bytes_per_s": 12_000_000,
        "pcie_rx_bytes_per_s": 12_000_000,
        "process_memory_bytes": 1 << 30,  # of the process that is watched, not of the other
    }


def test_pcie_which_takes_40_ms_is_not_asked_in_every_sample():
    nvml = FakeNvml()
    (row, _), _ = asked_once(nvml, slow=False)
    assert "pcie_tx_bytes_per_s" not in row
    assert not [a for a in nvml.asked if a[0] == "PcieThroughput"]


@pytest.mark.parametrize("number", [3, 4, 13])
@pytest.mark.parametrize(
    ("function", "column"),
    [
        ("PcieThroughput", "pcie_tx_bytes_per_s"),
        ("ComputeRunningProcesses", "process_memory_bytes"),
        ("PowerUsage", "power_w"),
        ("UtilizationRates", "utilization_pct"),
    ],
)
def test_what_the_driver_refuses_is_said_once_and_the_rest_goes_on(function, column, number):
    nvml = FakeNvml(**{function: number})
    rows, said = asked_once(nvml, times=3)
    assert len(said) == 1
    assert column not in rows[0]
    assert rows[0]["temperature_c"] == 61
    asked = [a for a in nvml.asked if a[0] == function]
    assert len(asked) == 2, "asked again, though the answer never changes"


def test_an_older_driver_names_throttle_reasons_by_their_former_name():
    (row, _), said = asked_once(FakeNvml(CurrentClocksEventReasons=13))
    assert row["throttle_bits"] == 0x80
    assert said == {}


@pytest.mark.parametrize("number", [1, 9, 18])
def test_a_driver_that_goes_away_is_said_once_and_not_asked_again(number):
    nvml = FakeNvml()
    said = []
    gpus = telemetry_sampler.Gpus(nvml, lambda _code, message: said.append(message))
    assert len(list(gpus.sample((), slow=True))) == 2
    nvml.fails["Temperature"] = number
    list(gpus.sample((), slow=True))
    asked = len(nvml.asked)
    assert list(gpus.sample((), slow=True)) == []
    assert len(nvml.asked) == asked
    assert len(said) == 1
    assert said[0].startswith("the NVIDIA driver is gone")


def test_one_lost_gpu_leaves_the_other():
    nvml = FakeNvml(UtilizationRates=lambda gpu: 15 if gpu == 0 else 0)
    rows, said = asked_once(nvml, times=2)
    assert [row["gpu"] for row in rows] == [1]
    assert [message.partition(":")[0] for message in said.values()] == ["GPU 0 is gone"]


def test_a_failure_that_may_pass_is_tried_again():
    failing = iter([True] * 4)
    nvml = FakeNvml(PowerUsage=lambda _gpu: 999 if next(failing, False) else 0)
    rows, said = asked_once(nvml, times=3)
    assert rows[0]["power_w"] == 345.6
    assert list(said.values()) == ["power of a GPU is not known: NVML error 999"]


@given(st.sampled_from(["Init", "Count", "HandleByIndex", "Name", "UtilizationRates"]))
def test_no_error_of_the_driver_gets_past_the_thread_that_asks(function):
    said = []
    thread = telemetry_sampler.GpuThread(1_000.0, lambda _code, message: said.append(message))
    nvml = FakeNvml(**{function: 9 if function == "UtilizationRates" else 4})
    before = sys.modules.get("pynvml")
    sys.modules["pynvml"] = nvml
    try:
        if function == "Name":  # only a caption; sampling would go on for ever
            nvml.fails["UtilizationRates"] = 1
        thread.run()
    finally:
        if before is None:
            del sys.modules["pynvml"]
        else:
            sys.modules["pynvml"] = before
    assert said


def test_only_reasons_that_slow_a_gpu_down_are_told():
    assert throttle_words(0x1 | 0x2) == ()  # idle, and clocks that somebody chose
    assert throttle_words(0x4 | 0x40) == ("power cap", "hardware thermal slowdown")


# --- the real sampler -------------------------------------------------------------------------


@pytest.fixture
def busy():
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    yield process
    process.kill()
    process.wait()


def wait_for(condition):
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.05)
    pytest.fail("it did not happen in time")


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_is_sampled_and_can_be_read_meanwhile(tmp_path, busy):
    path = tmp_path / "t.sqlite"
    with telemetry.start(path, busy.pid, rate_hz=50) as sampled:

        def numbers():
            found = latest(path)
            return found if found and (found.process.get("cpu_pct") or 0) > 0 else None

        found = wait_for(numbers)
        assert found.session.is_alive()
        assert found.process["processes"] == 1
        assert found.process["rss_bytes"] > 1 << 20
        assert len(json.loads(found.host["cores_pct"])) == found.session.cores
        ended = sampled.stop()
    assert ended.error == ""
    assert ended.session.state == "stopped"
    assert not ended.session.is_alive()
    assert [p.name for p in tmp_path.iterdir()] == ["t.sqlite"]  # no journal beside it


def test_children_are_looked_at_too_and_a_program_that_ends_is_said(tmp_path):
    path = tmp_path / "t.sqlite"
    code = f"import subprocess,sys; subprocess.Popen([sys.executable,'-c',{BUSY!r}]).wait(9)"
    parent = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    with telemetry.start(path, rate_hz=20) as sampled:
        sampled.watch(parent.pid)
        wait_for(lambda: (found := latest(path)) and found.process.get("processes") == 2)
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
        wait_for(lambda: "the program has ended" in latest(path).notes)
        before = latest(path).host["monotonic_ns"]
        wait_for(lambda: latest(path).host["monotonic_ns"] > before)


def test_a_machine_without_a_driver_says_so_once(tmp_path):
    (tmp_path / "pynvml.py").write_text("def nvmlInit(): raise RuntimeError('no driver here')")
    sampled = start_with(tmp_path, tmp_path / "t.sqlite")
    wait_for(lambda: (found := latest(sampled.path)) and found.notes)
    ended = sampled.stop()
    assert ended.notes == ("no GPU is watched: no driver here",)
    assert ended.error == ""


def start_with(folder, path, **more):
    """Start the sampler so that it finds modules of ``folder`` first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        return telemetry.start(path, **more)


def test_a_driver_that_hangs_holds_up_nobody(tmp_path):
    (tmp_path / "pynvml.py").write_text(
        "import time\ndef nvmlInit(): pass\ndef nvmlDeviceGetCount(): return 1\n"
        "def nvmlDeviceGetHandleByIndex(n): return n\n"
        "def nvmlDeviceGetUtilizationRates(gpu): time.sleep(600)\n"
    )
    sampled = start_with(tmp_path, tmp_path / "t.sqlite", rate_hz=20)
    wait_for(lambda: "the NVIDIA driver does not answer" in latest(sampled.path).notes)
    began = time.monotonic()
    ended = sampled.stop()
    assert ended.error == ""
    assert time.monotonic() - began < telemetry.STOP_S
    assert ended.session.state == "stopped"


def test_a_killed_sampler_loses_nothing_that_was_committed(tmp_path, busy):
    path = tmp_path / "t.sqlite"
    sampled = telemetry.start(path, busy.pid, rate_hz=50)
    wait_for(lambda: (found := latest(path)) and found.process.get("rss_bytes"))
    with TelemetryFile(path) as file:
        seen = len(file.columns("host_samples", ["monotonic_ns"])["monotonic_ns"])
    os.kill(sampled.pid, signal.SIGKILL)
    ended = sampled.stop()
    assert ended.error == "the sampler ended with status -9"
    assert ended.session.state == "sampling"  # it left no word
    with TelemetryFile(path) as file:
        assert len(file.columns("host_samples", ["monotonic_ns"])["monotonic_ns"]) >= seen > 0


def test_the_sampler_ends_with_whoever_started_it(tmp_path):
    path = tmp_path / "t.sqlite"
    code = (
        "import sys, time; from pathlib import Path\n"
        "from collectors.telemetry import telemetry\n"
        f"print(telemetry.start(Path({str(path)!r})).pid, flush=True); time.sleep(600)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=SAMPLES.parent
    )
    sampler = int(owner.stdout.readline())
    assert is_alive(sampler)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    wait_for(lambda: not is_alive(sampler))
    assert latest(path).session.state == "stopped"


def test_a_file_that_is_there_is_not_written_over(tmp_path):
    path = tmp_path / "t.sqlite"
    path.write_text("mine")
    with pytest.raises(RefusedError, match="is there already"):
        telemetry.start(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("rate_hz", [0, -1, 1e9, float("nan")])
def test_a_rate_that_makes_no_sense_is_refused(tmp_path, rate_hz):
    with pytest.raises(RefusedError, match="samples a second"):
        telemetry.start(tmp_path / "t.sqlite", rate_hz=rate_hz)


def test_a_sample_that_costs_much_makes_the_next_one_wait(monkeypatch):
    now = [0]
    spent = [0]
    monkeypatch.setattr(telemetry_sampler.time, "monotonic_ns", lambda: now[0])
    monkeypatch.setattr(telemetry_sampler.time, "process_time_ns", lambda: spent[0])
    pace = telemetry_sampler.Pace(10.0)
    for _ in range(50):
        spent[0] += 10_000_000  # 10 ms of a core for each sample
        now[0] += 10_000_000 + int(pace.pause_s() * 1e9)
    assert spent[0] / now[0] <= telemetry_sampler.MAX_CPU_SHARE * 1.01
    assert pace.was_slowed()


def test_what_the_sampler_used_is_told_for_the_whole_time_however_short(tmp_path, monkeypatch):
    told = {}
    shares = iter([0.5, 0.01])  # the first is about the first sample alone
    store = SimpleNamespace(
        update=lambda **values: told.update(values),
        add=lambda *_: None,
        say=lambda *_: None,
        commit=lambda: None,
    )
    monkeypatch.setattr(telemetry_sampler.Pace, "share", lambda _: next(shares))
    monkeypatch.setattr(telemetry_sampler.Orders, "wait", lambda *_: None)
    telemetry_sampler._sample_until_stopped(store, 10.0)
    assert told["state"] == "stopped"
    assert told["sampler_cpu_share"] == 0.01
