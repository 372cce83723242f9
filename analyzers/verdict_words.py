"""Parts of a verdict that not every place shows: written here, and taken out again here."""

from __future__ import annotations

import re

from analyzers.words import share_text

_WITHIN_STEPS = "The steps are {share} of the recording; within them, "
_COMMAND_BELOW = ': run {program} (the command is under "Could not tell")'


def _pattern(template: str, value: str) -> re.Pattern[str]:
    before, after = re.split(r"\{\w+\}", template)
    return re.compile(f"{re.escape(before)}{value}{re.escape(after)}")


_OF_STEPS = _pattern(_WITHIN_STEPS, "[^;]+")
_OF_COMMAND = _pattern(_COMMAND_BELOW, r"\S+")


def steps_preamble(share: float) -> str:
    """Say how much of a recording its steps are; the verdict goes on with a small letter."""
    return _WITHIN_STEPS.format(share=share_text(share, 1))


def without_preamble(sentence: str) -> str:
    """Return a verdict for a list, where how much of a recording is steps is left out."""
    cut = _OF_STEPS.sub("", sentence)
    return cut[:1].upper() + cut[1:]


def command_below(program: str) -> str:
    """Say what to run to see inside kernels; the command stands further down in the same answer."""
    return _COMMAND_BELOW.format(program=program)


def without_command(sentence: str) -> str:
    """Return a verdict for a place that has no section of what could not be told."""
    return _OF_COMMAND.sub("", sentence)
