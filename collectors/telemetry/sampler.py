"""Samples GPUs, processor and one tree of processes into a database, in a process of its own.

One file because it runs as a file, not as a module of the package: so it loads neither pandas nor
Arrow, and starts in a tenth of a second: ``python -P sampler.py DATABASE RATE_HZ``. The tables
exist already; ``collectors.telemetry.telemetry`` makes them. On standard input, ``watch PID`` names
the tree of processes, and the end of input means to stop: it ends with the process that started it.

No more than ``MAX_CPU_SHARE`` of one core is used: when a sample costs more, the next one waits.
What cannot be sampled is noted once, in the table ``notes``, and the rest goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

MAX_CPU_SHARE = 0.02  # of one core
SLOW_EVERY_NS = 1_000_000_000  # what takes longer: the tree itself, its switches, PCIe
BUSY_TIMEOUT_S = 5.0  # a reader holds the database for milliseconds
DRIVER_PATIENCE_NS = 5_000_000_000  # an answer takes milliseconds, PCIe 40 ms for each GPU
MAX_FAILURES = 20  # in a row, of a question that may yet be answered
MAX_WAITS = 20  # samples that came late; a few of them go unnoticed
MAX_THREADS_ASKED = 256  # for their switches; each costs about 50 µs
NICE = 5  # the program that is looked at goes first

# NVML's own numbers, which do not change.
ALL_GONE = frozenset({1, 9, 18})  # not initialized, driver not loaded, driver was replaced
GPU_GONE = frozenset({15, 16, 28})  # lost, needs a reset, not found
NEVER = frozenset({3, 4, 13, 25})  # not supported, no permission, no such function, deprecated

Row = dict[str, Any]
Say = Callable[[str, str], None]


def main(path: Path, rate_hz: float) -> int:
    """Sample until input ends; returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program; we stop after it
    with contextlib.suppress(OSError):
        os.nice(NICE)
    store = Store(path)
    try:
        _sample_until_stopped(store, rate_hz)
        store.close()
    except sqlite3.Error as error:
        sys.stderr.write(f"telemetry stopped: {error}\n")
        return 1
    return 0


def _sample_until_stopped(store: Store, rate_hz: float) -> None:
    gpus = GpuThread(rate_hz, store.say)
    host, tree, orders = Host(), Tree(store.say), Orders()
    pace = Pace(rate_hz)
    store.update(state="sampling", sampler_pid=os.getpid(), cores=psutil.cpu_count() or 0)
    gpus.start()
    while True:
        slow = pace.is_slow()
        store.add("host_samples", host.sample())
        if (row := tree.sample(slow=slow)) is not None:
            store.add("process_samples", row)
        gpus.pids = tuple(tree.members)
        for table, row in gpus.drain():
            store.add(table, row)
        gpus.check_alive()
        if slow:
            share = pace.share()
            store.update(sampler_cpu_ns=time.process_time_ns(), sampler_cpu_share=share)
        if pace.was_slowed():
            store.say("slowed", f"sampled less often to stay below {MAX_CPU_SHARE:.0%} of a core")
        store.commit()
        new_pids = orders.wait(pace.pause_s())
        if new_pids is None:
            break
        for pid in new_pids:
            tree.watch(pid)
            store.update(root_pid=pid)
    for table, row in gpus.drain():
        store.add(table, row)
    used_ns, share = time.process_time_ns(), pace.share()
    store.update(state="stopped", sampler_cpu_ns=used_ns, sampler_cpu_share=share)


def clocks() -> Row:
    """Return the moment on both clocks, read so closely together that they mean the same."""
    before = time.monotonic_ns()
    realtime = time.time_ns()
    return {"realtime_ns": realtime, "monotonic_ns": (before + time.monotonic_ns()) // 2}


class Store:
    """The database: rows are collected, then committed together."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        # A killed process loses nothing that was committed; only a crash of the machine might.
        self._db.execute("PRAGMA synchronous=OFF")
        self._insert = {
            str(table): self._statement(str(table))
            for (table,) in self._db.execute("SELECT name FROM sqlite_master WHERE type='table'")
        }
        self._rows: dict[str, list[Row]] = {}
        self._session: Row = {}
        self._noted_codes: set[str] = set()
        self._lock = threading.Lock()

    def _statement(self, table: str) -> tuple[str, tuple[str, ...]]:
        columns = tuple(str(row[1]) for row in self._db.execute(f"PRAGMA table_info([{table}])"))
        places = ", ".join(f":{name}" for name in columns)
        return f"INSERT INTO [{table}] ({', '.join(columns)}) VALUES ({places})", columns

    def add(self, table: str, row: Row) -> None:
        """Keep a row for the next commit; columns that it does not name are NULL."""
        _, columns = self._insert[table]
        with self._lock:
            self._rows.setdefault(table, []).append({name: row.get(name) for name in columns})

    def update(self, **values: object) -> None:
        """Set columns of the one row of ``session``."""
        self._session |= values

    def say(self, code: str, message: str) -> None:
        """Add a note, once for each code however often it occurs."""
        with self._lock:
            if code in self._noted_codes:
                return
            self._noted_codes.add(code)
        self.add("notes", {**clocks(), "code": code, "message": message})

    def commit(self) -> None:
        """Write everything that was kept."""
        with self._lock:
            rows, self._rows = self._rows, {}
        now = clocks()
        session = {
            "seen_realtime_ns": now["realtime_ns"],
            "seen_monotonic_ns": now["monotonic_ns"],
            **self._session,
        }
        self._session = {}
        self._db.execute("BEGIN IMMEDIATE")
        for table, new_rows in rows.items():
            self._db.executemany(self._insert[table][0], new_rows)
        columns = ", ".join(f"{name} = :{name}" for name in session)
        self._db.execute(f"UPDATE session SET {columns}", session)
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Write the rest, and leave one file without a journal beside it."""
        self.commit()
        with contextlib.suppress(sqlite3.OperationalError):  # someone reads; the journal stays
            self._db.execute("PRAGMA journal_mode=DELETE")
        self._db.close()


class Orders:
    """Commands on standard input from the process that started this one."""

    def __init__(self) -> None:
        self._pending = b""

    def wait(self, seconds: float) -> list[int] | None:
        """Return the processes to watch that were named meanwhile; None when we are to stop."""
        if not select.select([0], [], [], seconds)[0]:
            return []
        read = os.read(0, 4096)
        if not read:
            return None
        *lines, self._pending = (self._pending + read).split(b"\n")
        pids = [line.removeprefix(b"watch ") for line in lines if line.startswith(b"watch ")]
        return [int(pid) for pid in pids if pid.isdigit()]


class Pace:
    """When the next sample is due, so that no more of a core is used than is allowed."""

    def __init__(self, rate_hz: float) -> None:
        self._period_ns = int(1e9 / rate_hz)
        self._due_ns = self._begun_ns = time.monotonic_ns()
        self._slow_due_ns = self._begun_ns
        self._spent_ns = self._spent_at_begin_ns = time.process_time_ns()
        self._slowed = 0

    def is_slow(self) -> bool:
        """Tell whether what takes longer is due, too."""
        now = time.monotonic_ns()
        if now < self._slow_due_ns:
            return False
        self._slow_due_ns = now + SLOW_EVERY_NS
        return True

    def pause_s(self) -> float:
        """Return how long to wait for the next sample."""
        now, spent = time.monotonic_ns(), time.process_time_ns()
        # What has been used so far, over all of the time until then, decides: one sample that
        # costs more, because it is the slow one, delays nothing.
        earliest = self._begun_ns + int((spent - self._spent_at_begin_ns) / MAX_CPU_SHARE)
        regular = max(self._due_ns + self._period_ns, now)
        self._slowed += earliest > regular + self._period_ns
        self._due_ns = max(regular, earliest)
        return (self._due_ns - now) / 1e9

    def was_slowed(self) -> bool:
        """Tell whether samples had to wait, not only once."""
        return self._slowed > MAX_WAITS

    def share(self) -> float:
        """Return the part of a core that was used since the begin."""
        elapsed = max(time.monotonic_ns() - self._begun_ns, 1)
        return (time.process_time_ns() - self._spent_at_begin_ns) / elapsed


class Host:
    """The processor's cores, and the machine's memory."""

    def __init__(self) -> None:
        psutil.cpu_percent(percpu=True)  # the first answer is about no time at all

    def sample(self) -> Row:
        """Return a row of ``host_samples``."""
        cores = psutil.cpu_percent(percpu=True)
        memory = psutil.virtual_memory()
        return {
            **clocks(),
            "cpu_pct": sum(cores) / max(len(cores), 1),
            "cores_pct": json.dumps([round(c) for c in cores], separators=(",", ":")),
            "memory_used_bytes": memory.total - memory.available,
        }


@dataclass
class _Member:
    """One process of the tree, and what it had used when it was last looked at."""

    process: psutil.Process
    cpu_s: float | None = None
    counted: dict[str, int] = field(default_factory=dict)


class Tree:
    """A process, its children and theirs.

    A child belongs to it from the moment it is seen, also when its parent ends before it does. One
    that begins and ends between two looks, a second apart, is never seen.
    """

    def __init__(self, say: Say) -> None:
        self.members: dict[int, _Member] = {}
        self._say = say
        self._total: dict[str, int] = {}
        self._last_ns = 0
        self._watched = False

    def watch(self, pid: int) -> None:
        """Look at the tree of this process from now on."""
        self.members, self._total, self._watched = {}, {}, True
        self._take(pid)
        self._refresh()

    def _take(self, pid: int) -> None:
        with contextlib.suppress(psutil.Error):
            self.members.setdefault(pid, _Member(psutil.Process(pid)))

    def _refresh(self) -> None:
        children: dict[int, list[int]] = {}
        for pid, parent in _parents():
            children.setdefault(parent, []).append(pid)
        waiting = list(self.members)
        while waiting:
            for child in children.get(waiting.pop(), ()):
                if child not in self.members:
                    self._take(child)
                    waiting.append(child)

    def sample(self, *, slow: bool) -> Row | None:
        """Return a row of ``process_samples``; None while there is nothing to look at."""
        if not self._watched:
            return None
        if slow:
            self._refresh()
        now = clocks()
        elapsed_ns, self._last_ns = now["monotonic_ns"] - self._last_ns, now["monotonic_ns"]
        sums = {"cpu_s": 0.0, "rss_bytes": 0, "threads": 0}
        for pid, member in list(self.members.items()):
            try:
                self._look_at(member, sums)
            except psutil.NoSuchProcess:
                del self.members[pid]
            except (psutil.Error, OSError) as error:
                del self.members[pid]
                self._say("process_denied", f"a process cannot be looked at: {_kind(error)}")
        if not self.members:
            self._say("process_ended", "the program has ended")
            return None
        if slow:
            self._count_switches(int(sums["threads"]))
        return {
            **now,
            "processes": len(self.members),
            "threads": sums["threads"],
            "cpu_pct": 100e9 * sums["cpu_s"] / max(elapsed_ns, 1),
            "rss_bytes": sums["rss_bytes"],
            **self._total,
        }

    def _look_at(self, member: _Member, sums: dict[str, float]) -> None:
        with member.process.oneshot():
            times = member.process.cpu_times()
            sums["rss_bytes"] += member.process.memory_info().rss
            sums["threads"] += member.process.num_threads()
        used = times.user + times.system
        # The first look only says where it stands: its past is not of this moment.
        sums["cpu_s"] += used - member.cpu_s if member.cpu_s is not None else 0.0
        member.cpu_s = used
        try:
            moved = member.process.io_counters()
        except (psutil.AccessDenied, OSError):
            self._say("io_denied", "no permission to see how much a process reads and writes")
            return
        self._count(member, {"read_bytes": moved.read_bytes, "written_bytes": moved.write_bytes})

    def _count(self, member: _Member, counters: dict[str, int]) -> None:
        """Add what counters of a process grew by; what ended processes did stays counted."""
        for name, value in counters.items():
            grown = value - member.counted.get(name, 0)
            self._total[name] = self._total.get(name, 0) + max(grown, 0)
        member.counted |= counters

    def _count_switches(self, threads: int) -> None:
        if threads > MAX_THREADS_ASKED:
            self._say(
                "many_threads",
                f"context switches are not counted with more than {MAX_THREADS_ASKED} threads",
            )
            return
        for pid, member in self.members.items():
            voluntary, involuntary = _switches(pid)
            counters = {"voluntary_switches": voluntary, "involuntary_switches": involuntary}
            self._count(member, counters)


def _parents() -> Iterator[tuple[int, int]]:
    """Yield every process of the machine with its parent."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                text = Path(entry.path, "stat").read_bytes()
                yield int(entry.name), int(text.rpartition(b")")[2].split()[1])


def _switches(pid: int) -> tuple[int, int]:
    """Return how often all threads of a process gave up a core, and how often it was taken."""
    voluntary = involuntary = 0
    with contextlib.suppress(OSError):
        for task in os.scandir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                text = Path(task.path, "status").read_bytes()
                # The first is a part of the second's name: "nonvoluntary_ctxt_switches".
                counts = text.split(b"voluntary_ctxt_switches:")[1:3]
                voluntary += int(counts[0].split()[0])
                involuntary += int(counts[1].split()[0])
    return voluntary, involuntary


# --- GPUs -----------------------------------------------------------------------------------


def _utilization(nvml: Any, gpu: Any, _pids: tuple[int, ...]) -> Row:
    rates = nvml.nvmlDeviceGetUtilizationRates(gpu)
    return {"utilization_pct": rates.gpu, "memory_utilization_pct": rates.memory}


def _memory(nvml: Any, gpu: Any, _pids: tuple[int, ...]) -> Row:
    return {"memory_used_bytes": nvml.nvmlDeviceGetMemoryInfo(gpu).used}


def _power(nvml: Any, gpu: Any, _pids: tuple[int, ...]) -> Row:
    return {"power_w": nvml.nvmlDeviceGetPowerUsage(gpu) / 1_000}


def _temperature(nvml: Any, gpu: Any, _pids: tuple[int, ...]) -> Row:
    return {"temperature_c": nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)}


def _clocks(nvml: Any, gpu: Any, _pids: tuple[int, ...]) -> Row:
    return {
        "sm_clock_mhz": nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
        "memory_clock_mhz": nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),
    }


def _throttling(nvml: Any, gpu: Any, _pids: tuple[int, ...]) -> Row:
    try:
        bits = nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)
    except (nvml.NVMLError, AttributeError) as error:
        if getattr(error, "value", 13) not in NEVER:
            raise
        bits = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)  # its name before driver 535
    return {"throttle_bits": bits}


def _pcie(nvml: Any, gpu: Any, _pids: tuple[int, ...]) -> Row:
    # Each call watches the link for 20 ms; NVML counts in KB/s.
    sent = nvml.nvmlDeviceGetPcieThroughput(gpu, nvml.NVML_PCIE_UTIL_TX_BYTES)
    received = nvml.nvmlDeviceGetPcieThroughput(gpu, nvml.NVML_PCIE_UTIL_RX_BYTES)
    return {"pcie_tx_bytes_per_s": sent * 1_000, "pcie_rx_bytes_per_s": received * 1_000}


def _process_memory(nvml: Any, gpu: Any, pids: tuple[int, ...]) -> Row:
    running = nvml.nvmlDeviceGetComputeRunningProcesses(gpu)
    reported = [p.usedGpuMemory for p in running if p.pid in pids]
    used_bytes = [used for used in reported if used is not None]
    # In a container the driver may count by the host's numbers: then none of ours is among them.
    return {"process_memory_bytes": sum(used_bytes) if used_bytes else None}


@dataclass(frozen=True)
class DriverQuestion:
    """Something to ask the driver about each GPU."""

    name: str
    ask: Callable[[Any, Any, tuple[int, ...]], Row]
    slow: bool = False


QUESTIONS = (
    DriverQuestion("utilization", _utilization),
    DriverQuestion("memory use", _memory),
    DriverQuestion("power", _power),
    DriverQuestion("temperature", _temperature),
    DriverQuestion("clocks", _clocks),
    DriverQuestion("throttle reasons", _throttling),
    DriverQuestion("PCIe throughput", _pcie, slow=True),
    DriverQuestion("memory of each process", _process_memory, slow=True),
)


class Gpus:
    """What NVML says about every GPU of the machine.

    Raises:
        Exception: The driver cannot be asked at all; of whatever kind NVML's library chose.
    """

    def __init__(self, nvml: Any, say: Say) -> None:
        nvml.nvmlInit()
        self._nvml, self._say = nvml, say
        self.handles: dict[int, Any] = {}
        for gpu in range(nvml.nvmlDeviceGetCount()):
            try:
                self.handles[gpu] = nvml.nvmlDeviceGetHandleByIndex(gpu)
            except Exception as error:  # lost, or not ours to see; the others answer
                say(f"gpu_denied {gpu}", f"GPU {gpu} is not watched: {_kind(error)}")
        self._open = {(gpu, q.name) for gpu in self.handles for q in QUESTIONS}
        self._failures: dict[tuple[int, str], int] = {}

    def about(self) -> Iterator[Row]:
        """Yield a row of ``gpus`` for each."""
        driver = self._try("nvmlSystemGetDriverVersion")
        for gpu, handle in self.handles.items():
            memory = self._try("nvmlDeviceGetMemoryInfo", handle)
            limit_mw = self._try("nvmlDeviceGetEnforcedPowerLimit", handle)
            yield {
                "gpu": gpu,
                "name": _text(self._try("nvmlDeviceGetName", handle)),
                "driver": _text(driver),
                "memory_bytes": None if memory is None else memory.total,
                "power_limit_w": None if limit_mw is None else limit_mw / 1_000,
            }

    def _try(self, function: str, *arguments: Any) -> Any:
        try:
            return getattr(self._nvml, function)(*arguments)
        except Exception:  # said when it is asked in a sample; here it is only a caption
            return None

    def sample(self, pids: tuple[int, ...], *, slow: bool) -> Iterator[Row]:
        """Yield a row of ``gpu_samples`` for each GPU that still answers."""
        for gpu, handle in list(self.handles.items()):
            row: Row = {**clocks(), "gpu": gpu}
            for question in QUESTIONS:
                if (question.slow and not slow) or (gpu, question.name) not in self._open:
                    continue
                row |= self._answer(gpu, handle, question, pids)
                if gpu not in self.handles:
                    break
            if len(row) > 3:
                yield row

    def _answer(
        self, gpu: int, handle: Any, question: DriverQuestion, pids: tuple[int, ...]
    ) -> Row:
        query = gpu, question.name
        try:
            row = question.ask(self._nvml, handle, pids)
        except Exception as error:  # whatever a driver that goes away makes of the call
            self._failed(gpu, question, error)
            return {}
        self._failures.pop(query, None)
        return row

    def _failed(self, gpu: int, question: DriverQuestion, error: Exception) -> None:
        number = getattr(error, "value", None)
        if number in ALL_GONE:
            self.handles.clear()
            self._say("driver_gone", f"the NVIDIA driver is gone: {_kind(error)}")
        elif number in GPU_GONE:
            del self.handles[gpu]
            self._say(f"gpu_gone {gpu}", f"GPU {gpu} is gone: {_kind(error)}")
        else:
            query = gpu, question.name
            self._failures[query] = self._failures.get(query, 0) + 1
            lasts = number in NEVER or isinstance(error, (AttributeError, TypeError))
            if lasts or self._failures[query] >= MAX_FAILURES:
                self._open.discard(query)
            code = f"{question.name} {number}"
            self._say(code, f"{question.name} of a GPU is not known: {_kind(error)}")


def _text(value: Any) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _kind(error: BaseException) -> str:
    """Return an error in few words on one line; system calls name paths, which are left out."""
    if isinstance(error, (OSError, psutil.Error)):
        return type(error).__name__
    return " ".join(str(error).split())[:120] or type(error).__name__


class GpuThread(threading.Thread):
    """Asks the driver at its own pace, so that a call that hangs delays nothing else."""

    def __init__(self, rate_hz: float, say: Say) -> None:
        super().__init__(daemon=True)
        self.pids: tuple[int, ...] = ()
        self._period_s, self._say = 1 / rate_hz, say
        self._sampled: queue.SimpleQueue[tuple[str, Row]] = queue.SimpleQueue()
        self._asked_ns = 0

    def run(self) -> None:
        """Sample until no GPU answers any more."""
        try:
            import pynvml

            gpus = Gpus(pynvml, self._say)
        except Exception as error:  # no library, no driver, no GPU, no permission
            self._say("no_gpu", f"no GPU is watched: {_kind(error)}")
            return
        if not gpus.handles:
            self._say("no_gpu", "no GPU is watched: the driver knows none")
        for row in gpus.about():
            self._sampled.put(("gpus", row))
        pace = Pace(1 / self._period_s)
        while gpus.handles:
            slow = pace.is_slow()
            self._asked_ns = time.monotonic_ns()
            for row in gpus.sample(self.pids, slow=slow):
                self._sampled.put(("gpu_samples", row))
            self._asked_ns = 0
            time.sleep(pace.pause_s())

    def check_alive(self) -> None:
        """Say so when the driver does not answer any more."""
        if (since := self._asked_ns) and time.monotonic_ns() - since > DRIVER_PATIENCE_NS:
            self._say("driver_hangs", "the NVIDIA driver does not answer")

    def drain(self) -> Iterator[tuple[str, Row]]:
        """Yield what was sampled since the last time, with the table that it belongs to."""
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._sampled.get_nowait()


if __name__ == "__main__":
    status = main(Path(sys.argv[1]), float(sys.argv[2]))
    sys.stderr.flush()
    os._exit(status)  # at once: a driver that hangs keeps its thread
