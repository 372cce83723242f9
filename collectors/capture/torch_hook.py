"""Starts the torch profiler inside a program that knows nothing of it.

A copy of this file, called ``sitecustomize.py``, is put first on ``PYTHONPATH``; Python imports it
when it starts. It does nothing until torch was imported. From then on the profiler records, and
when the program exits, the trace goes to ``WHYSLOW_TORCH_TRACES/<pid>.json.gz``. A program that
starts a profiler of its own gets it: torch has only one. Whatever goes wrong here must not hurt
the program; it is written to ``<pid>.note``.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import signal
import sys
import threading
import types
from pathlib import Path
from typing import Any

VARIABLE = "WHYSLOW_TORCH_TRACES"


class Finder:
    """Lets torch be found as usual, and starts the recording once it was imported."""

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        """Return torch's own spec, whose loader starts the recording; None for other modules."""
        if name != "torch":
            return None
        sys.meta_path.remove(self)  # also so that the search does not end here
        spec = importlib.util.find_spec(name)
        loader = spec.loader if spec is not None else None
        if loader is not None:
            run = loader.exec_module

            def run_and_record(module: types.ModuleType) -> None:
                run(module)
                begin()

            loader.exec_module = run_and_record  # type: ignore[method-assign]
        return spec


class HookRecording:
    """The profiler that is running in this process."""

    def __init__(self) -> None:
        self.pid, self.path = os.getpid(), Path(os.environ[VARIABLE]) / f"{os.getpid()}.json.gz"
        self.is_over = False
        profiler = importlib.import_module("torch.profiler")
        self._profiler: Any = profiler.profile()
        self._profiler.start()
        self._thread = threading.get_ident()
        self._give_way(importlib.import_module("torch.autograd.profiler").profile)
        self.path.with_suffix("").with_suffix(".began").touch()

    def _give_way(self, kind: Any) -> None:
        """End when the program starts a profiler of its own."""
        for name in ("__enter__", "_prepare_trace"):
            usual = getattr(kind, name)

            def give_way(profiler: Any, *rest: Any, _usual: Any = usual) -> Any:
                if not self.is_over:
                    self.end("the program started a profiler of its own, so this one ended there")
                return _usual(profiler, *rest)

            setattr(kind, name, give_way)

    def end(self, note: str = "") -> None:
        """Stop, and write the trace."""
        if self.is_over or os.getpid() != self.pid:  # a forked child has no profiler
            return
        self.is_over = True
        if threading.get_ident() != self._thread:
            leave_note(
                "torch was imported in another thread than the one that ended; torch cannot write"
            )
            return
        try:
            self._profiler.stop()
            unfinished = self.path.with_name(f".{self.path.name}")  # its end decides the packing
            self._profiler.export_chrome_trace(str(unfinished))
            unfinished.rename(self.path)
            if note:
                leave_note(note)
        except Exception as error:
            leave_note(f"{type(error).__name__}: {error}")


def begin() -> None:
    """Record from here to the end of the program."""
    try:
        recording = HookRecording()
    except Exception as error:
        leave_note(f"{type(error).__name__}: {error}")
        return
    atexit.register(recording.end)
    with contextlib.suppress(ValueError):  # not the main thread
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # its time is up: still write
            signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


def leave_note(text: str) -> None:
    """Leave a note for the capturing process."""
    with contextlib.suppress(OSError, KeyError):
        note = Path(os.environ[VARIABLE]) / f"{os.getpid()}.note"
        note.write_text(" ".join(text.split())[:200], encoding="utf-8")


def run_hidden() -> None:
    """Run the ``sitecustomize`` of the system, which ours hides."""
    here = Path(__file__).parent
    paths = [p for p in sys.path if Path(p or ".").resolve() != here.resolve()]
    hidden = importlib.machinery.PathFinder.find_spec("sitecustomize", paths)
    if hidden is not None and hidden.loader is not None:
        module = importlib.util.module_from_spec(hidden)
        sys.modules["sitecustomize"] = module
        hidden.loader.exec_module(module)


if __name__ == "sitecustomize":
    if os.environ.get(VARIABLE):
        sys.meta_path.insert(0, Finder())
    run_hidden()
