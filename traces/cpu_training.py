"""A small training loop on the CPU, with NVTX ranges; the real nsys recorded it.

It learns to tell two noisy circles apart. A second thread prepares the batches, so that the main
thread now and then waits for data. ``traces/README.md`` has the command that recorded it.
"""

from __future__ import annotations

import queue
import threading

import nvtx
import torch

STEPS = 12
BATCH = 512
THREADS = 2  # a small fixed number keeps the recording small


def main() -> None:
    """Train for ``STEPS`` steps."""
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 1),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches: queue.Queue[tuple[torch.Tensor, torch.Tensor]] = queue.Queue(maxsize=2)
    threading.Thread(target=_load, args=(batches,), name="loader", daemon=True).start()
    for _ in range(STEPS):
        with nvtx.annotate("step", color="blue"):
            _step(model, optimizer, batches)


def _step(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: queue.Queue[tuple[torch.Tensor, torch.Tensor]],
) -> None:
    with nvtx.annotate("data", color="yellow"):
        points, labels = batches.get()
    with nvtx.annotate("forward", color="green"):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(points), labels)
    with nvtx.annotate("backward", color="red"):
        optimizer.zero_grad()
        torch.autograd.backward(loss)
    with nvtx.annotate("optimizer", color="purple"):
        optimizer.step()


def _load(batches: queue.Queue[tuple[torch.Tensor, torch.Tensor]]) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        with nvtx.annotate("make_batch", domain="loader", color="orange"):
            points = torch.randn(BATCH, 2, generator=generator)
            labels = (points.norm(dim=1, keepdim=True) > 1.0).float()
        batches.put((points, labels))


if __name__ == "__main__":
    main()
