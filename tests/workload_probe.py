"""Runs every workload in one process, because importing torch takes longer than all the rest.

``python workload_probe.py FOLDER STEPS WARMUP`` writes ``found.json`` into the folder.
"""

import contextlib
import importlib
import json
import sys
import threading
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from workloads import harness

STEPS, WARMUP = map(int, sys.argv[2:4])


class Operations(TorchDispatchMode):
    """Notes every operation: its name, and how many bytes of tensors go in and out."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = [t for t in (*args, out) if isinstance(t, torch.Tensor)]
        self.seen.append([str(function), sum(4 * t.numel() for t in tensors)])
        return out


def one_step(module):
    """Return the operations of one step after the first."""
    run = harness.Run(torch.device("cpu"), module.SIZES["cpu"], 0, 2)
    program = module.Program(run)
    program.step(0)
    with Operations() as operations:
        program.step(1)
    program.close()
    return operations.seen


def sectors(module):
    """Count the distinct 32-byte sectors of every warp's accesses, from real addresses."""
    run = harness.Run(torch.device("cpu"), module.SIZES["cpu"], 0, 1)
    fields = module.Program(run).fields
    total = 0
    for field in (fields[module.X], fields[module.VELOCITY], fields[module.X]):
        address = field.data_ptr() + 4 * field.stride(0) * np.arange(len(field))
        warps = np.sort(address.reshape(-1, 32) // 32, axis=1)
        total += len(warps) + int((np.diff(warps, axis=1) > 0).sum())
    return total


def decoded_by_main(module):
    """Count the bytes that one step decompresses on this thread."""
    seen, real, me = [], zlib.decompress, threading.get_ident()

    def watched(stored):
        plain = real(stored)
        if threading.get_ident() == me:
            seen.append(len(plain))
        return plain

    zlib.decompress = watched
    try:
        harness.run(module, harness.Options(device="cpu", steps=STEPS, warmup=WARMUP))
    finally:
        zlib.decompress = real
    return sum(seen) / (STEPS + WARMUP)


def turns_here(module):
    """Count the turns of Python that one step takes from this process."""
    seen, real = [], module.prepare

    def prepare(seed, turns, width):
        if seed < STEPS + WARMUP:  # further batches are begun, and no step takes them
            seen.append(turns)
        return real(seed, turns, width)

    prepare.__module__, prepare.__qualname__ = module.__name__, "prepare"
    module.prepare = prepare
    try:
        harness.run(module, harness.Options(device="cpu", steps=STEPS, warmup=WARMUP))
    finally:
        module.prepare = real
    return sum(seen) / (STEPS + WARMUP)


def batches_ahead(module):
    """Return how many batches are under way after each step of a short run."""
    run = harness.Run(torch.device("cpu"), module.SIZES["cpu"], 0, 2)
    program = module.Program(run)
    try:
        found = []
        for index in range(2):
            program.step(index)
            found.append(len(program._ahead))
        return {"seen": found, "workers": run.size.workers}
    finally:
        program.close()


COUNTERS = {
    "launch": lambda m: len(one_step(m)),
    "sync": lambda m: sum("_local_scalar_dense" in name for name, _ in one_step(m)),
    "memory_alloc": lambda m: sum("empty" in name for name, _ in one_step(m)),
    "bandwidth_unfused": lambda m: sum(size for _, size in one_step(m)),
    "bandwidth_strided": sectors,
    "host_loader": decoded_by_main,
    "host_gil": turns_here,
}


def waits_while_measuring():
    """Run measured steps as on a GPU, and return what the host asked of it, in order."""
    asked = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            asked.append("record")
            self.ms = float(len(asked))

        def elapsed_time(self, end):
            asked.append("read")
            return end.ms - self.ms

    torch.cuda.Event = Event
    torch.cuda.synchronize = lambda _device: asked.append("wait")
    run = harness.Run(torch.device("cpu"), None, 0, 3)
    run.device = SimpleNamespace(type="cuda")
    program = SimpleNamespace(step=lambda index: asked.append(f"step {index}"))
    step_ns, _ = harness._measure(run, program, 4, 3)
    return {"asked": asked, "step_ns": step_ns}


def overlapping_feed():
    """Feed batches as on a GPU, with streams that only take notes."""
    module = importlib.import_module("workloads.bandwidth_pageable_optimized")
    notes = []

    class Event:
        made = 0

        def __init__(self):
            self.number, Event.made = Event.made, Event.made + 1

        def record(self):
            notes.append(["record", self.number])

    class Stream:
        def wait_event(self, event):
            notes.append(["wait", self.name, event.number])

    copying, computing = Stream(), Stream()
    copying.name, computing.name = "copy", "compute"
    fakes = {
        "Event": Event,
        "Stream": lambda: copying,
        "current_stream": lambda: computing,
        "stream": lambda _stream: contextlib.nullcontext(),
    }
    real = {name: getattr(torch.cuda, name) for name in fakes}
    vars(torch.cuda).update(fakes)
    pin, torch.Tensor.pin_memory = torch.Tensor.pin_memory, lambda tensor: tensor.clone()
    try:
        run = SimpleNamespace(on_gpu=True, device=torch.device("cpu"))
        feed = module.Feed(run, [torch.full((2,), float(n)) for n in range(module.BATCHES)])
        taken = []
        for index in range(2 * module.BATCHES + 1):
            notes.append(["step", index])
            taken.append(feed.take(index).tolist()[0])
            feed.used(index)
    finally:
        vars(torch.cuda).update(real)
        torch.Tensor.pin_memory = pin
    filled, read = ([e.number for e in events] for events in (feed._filled, feed._read))
    return {
        "taken": taken,
        "notes": notes,
        "filled": filled,
        "read": read,
        "batches": module.BATCHES,
    }


def main():
    folder, found = Path(sys.argv[1]), {"summaries": {}, "counts": {}}
    for pair in harness.pairs():
        for role in harness.ROLES:
            name = f"{pair.name}_{role}"
            module = importlib.import_module(f"workloads.{name}")
            trace = folder / f"{name}.json.gz"
            options = harness.Options(
                device="cpu", steps=STEPS, warmup=WARMUP, repeat=2, seed=3, torch_trace=trace
            )
            found["summaries"][name] = harness.run(module, options)
            sizes = {device: module.count(size) for device, size in module.SIZES.items()}
            found["counts"][name] = {"said": sizes, "seen": None}
            if counter := COUNTERS.get(pair.name):
                found["counts"][name]["seen"] = counter(module)
    for role in harness.ROLES:
        module = importlib.import_module(f"workloads.host_gil_{role}")
        found.setdefault("ahead", {})[role] = batches_ahead(module)
    found["feed"] = overlapping_feed()
    found["waits"] = waits_while_measuring()
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
