"""Runs the ``whyslow`` command: one line for each failure, and an exit status.

Thin: every answer comes from the same calls as on the pages. A recording that was opened before
is answered from the stored report, without loading anything that is slow to import.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cli.failures import failure_of, is_output_full
from cli.options import parse
from common.text import short_path, visible
from library import cache

INTERRUPTED = 130
_OUTPUTS = ("perfetto", "html", "markdown", "json", "junit")  # options that name a file


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a plain terminal may not know every character
            stream.reconfigure(errors="backslashreplace")
    chosen = parse(list(sys.argv[1:] if arguments is None else arguments))
    if chosen.data_dir:
        os.environ[cache.DATA_DIR_VARIABLE] = str(Path(chosen.data_dir).absolute())
    try:
        with contextlib.suppress(BrokenPipeError):  # the reader of our output has seen enough
            _check_outputs(chosen)
            status = chosen.run(chosen) or 0
            sys.stdout.flush()
            return int(status)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return exit_status(error, getattr(chosen, "path", None))
    return 0


def exit_status(error: Exception, path: Path | None = None) -> int:
    """Print one line about ``error`` and return the exit status it stands for.

    Args:
        error: What went wrong.
        path: The recording that was asked about, where there is only one.
    """
    status, line = failure_of(error, path)
    if is_output_full(error):  # or it fails again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(f"whyslow: {line}", file=sys.stderr)
    for choice in getattr(error, "choices", ()):  # of an archive that holds several recordings
        print(f"  {visible(f'{path}/{choice}' if path else choice)}", file=sys.stderr)
    return status


def _check_outputs(chosen: argparse.Namespace) -> None:
    """Refuse files in folders that do not exist, before the work and not after it."""
    for option in _OUTPUTS:
        target = getattr(chosen, option, None)
        if isinstance(target, Path) and not target.parent.exists():
            from collectors.errors import RefusedError

            raise RefusedError(
                f"{short_path(str(target))}: the folder {short_path(str(target.parent))} does not "
                "exist. Create it, or choose another place"
            )


if __name__ == "__main__":
    sys.exit(main())
