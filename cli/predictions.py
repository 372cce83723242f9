"""``whyslow predictions``: what was predicted of each program, and how often that came true."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
from typing import TYPE_CHECKING

from jobs.api import measure

if TYPE_CHECKING:
    from library.predicted_programs import PredictedRecording

MAX_COMPARED = 8  # pairs that one call compares; the others wait for the next
LOG = logging.getLogger(__name__)


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the form of the answer."""
    command.add_argument("--json", action="store_true", help="print the answer as JSON")


def run(chosen: argparse.Namespace) -> None:
    """Compare what nobody compared yet, and print what became of every prediction."""
    from library import prediction_history

    pairs = [
        pair
        for program in prediction_history.all_programs()
        for pair in prediction_history.pairs_to_compare(program)
    ]
    compared = 0
    for base, new in pairs:
        if compared == MAX_COMPARED:
            break
        compared += _compare(base, new)
    programs = prediction_history.all_programs()
    from reports.predictions import history_data, history_document

    if chosen.json:
        sys.stdout.write(f"{json.dumps(history_data(programs), indent=1)}\n")
        return
    from reports.terminal import print_document

    print_document(history_document(programs))


def _compare(base: PredictedRecording, new: PredictedRecording) -> bool:
    """Set what was predicted from one recording beside the next, once.

    Returns:
        Whether it was tried; false where a recording is not in the library any more.
    """
    from analyzers.facts.facts import WindowError
    from collectors.errors import TraceError
    from library import cache, comparisons, prediction_history

    if not (cache.is_known(base.trace_id) and cache.is_known(new.trace_id)):
        return False
    try:
        sides = [[cache.named(cache.get(r.trace_id), r.name)] for r in (base, new)]
        comparisons.compare_recordings(*sides, measure=measure)
    except (TraceError, WindowError):  # damaged, or nothing to compare
        pass
    except Exception:  # a defect in one comparison must not cost the others
        LOG.exception("%s and %s were not compared", base.name, new.name)
    with contextlib.suppress(OSError):  # a full disk: tried again
        prediction_history.keep_attempt(base, new)
    return True
