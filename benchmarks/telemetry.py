"""What sampling costs: a workload that keeps every core busy, with and without it, in turn.

``python -m benchmarks.telemetry --check`` prints the processor time of the sampler for each second
and the effect on the workload's wall time with its 95 % interval, and fails where sampling at 10 Hz
uses ``MAX_SHARE`` of a core or more, or is shown to slow the workload by that much. Runs with and
without alternate, and their order changes from pair to pair, so that a machine that slows down or
does other work meanwhile meets both alike.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from collectors.schema import Array
from collectors.telemetry import telemetry

MAX_SHARE = 0.02
RESAMPLES = 10_000
_WORK = (
    "import os, sys\n"
    "os.sched_setaffinity(0, [int(sys.argv[2])])\n"
    "for _ in range(int(sys.argv[1])): sum(range(20_000))"
)


@dataclass(frozen=True)
class Measured:
    """What the pairs of runs gave.

    Attributes:
        without_s: Wall time of each run without sampling.
        with_s: Wall time of each run with it, in the same order.
        sampler_share: Processor time of the sampler for each second of each run with it.
    """

    without_s: Array
    with_s: Array
    sampler_share: Array

    @property
    def effect(self) -> float:
        """How much longer the median run takes, as a part."""
        return float(np.median(self.with_s / self.without_s)) - 1

    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the effect, by drawing the pairs anew."""
        ratios = self.with_s / self.without_s
        drawn = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
        low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975]) - 1
        return float(low), float(high)


def measure(pairs: int, seconds: float, rate_hz: float) -> Measured:
    """Run the workload in ``pairs`` of runs of about ``seconds`` each."""
    loops = _loops_for(seconds)
    times: dict[bool, list[float]] = {True: [], False: []}
    shares = []
    for number in range(pairs):
        for sampled in (number % 2 == 0, number % 2 == 1):
            wall_s, share = _run(loops, rate_hz if sampled else 0.0)
            times[sampled].append(wall_s)
            if sampled:
                shares.append(share)
    return Measured(np.array(times[False]), np.array(times[True]), np.array(shares))


def _loops_for(seconds: float) -> int:
    probe = 400
    return max(int(probe * seconds / _run(probe, 0.0)[0]), 1)


def _run(loops: int, rate_hz: float) -> tuple[float, float]:
    """Return the wall time of the workload, and the sampler's processor time for each second.

    A run without sampling starts and stops a sampler before it: a virtual machine that has idled
    for a moment runs faster afterwards, and it must have idled before both.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.sqlite"
        sampled = telemetry.start(path, os.getpid(), rate_hz=rate_hz or telemetry.RATE_HZ)
        if not rate_hz:
            sampled.stop()
            return _work(loops), 0.0
        wall_s = _work(loops)
        ended = sampled.stop()
    if ended.session is None or ended.error:
        raise RuntimeError(ended.error or "no telemetry")
    return wall_s, ended.session.sampler_cpu_share


def _work(loops: int) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-S", "-c", _WORK, str(loops)]
    # One on each core: how soon a scheduler spreads them must not count.
    cores = sorted(os.sched_getaffinity(0))
    running = [subprocess.Popen([*command, str(core)]) for core in cores]
    for process in running:
        process.wait()
    return time.perf_counter() - began


def main() -> int:
    """Measure, print the figures, and check them when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=telemetry.RATE_HZ)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    measured = measure(options.pairs, options.seconds, options.rate)
    low, high = measured.interval()
    share = float(np.median(measured.sampler_share))
    spread = float(np.std(measured.without_s) / np.mean(measured.without_s))
    print(
        f"{options.pairs} pairs of {np.median(measured.without_s):.2f} s on {os.cpu_count()} cores"
    )
    print(f"runs without sampling differ among themselves by {spread:.1%} (standard deviation)")
    print(f"the sampler uses {share:.2%} of a core at {options.rate:g} Hz")
    print(f"effect on the workload {measured.effect:+.2%}, 95 % interval {low:+.2%} to {high:+.2%}")
    return int(options.check and not (share < MAX_SHARE and low < MAX_SHARE))


if __name__ == "__main__":
    sys.exit(main())
