"""How opening a recording fails: what the file, the machine or whyslow is at fault for."""

from __future__ import annotations

from collections.abc import Sequence


class TraceError(Exception):
    """A recording could not be opened; the message is one line: file, trouble, way out."""

    exit_code = 70


class RefusedError(TraceError):
    """The input is not something whyslow can answer for."""

    exit_code = 2


class SeveralRecordingsError(RefusedError):
    """An archive holds several recordings, and which of them is meant was not said.

    Attributes:
        choices: The names of the recordings in it; ``ARCHIVE/NAME`` is the path of one.
    """

    def __init__(self, message: str, choices: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.choices = tuple(choices)


class EnvironmentFailedError(TraceError):
    """The machine, not the input, stopped us: disk full, tool missing, out of time."""

    exit_code = 3


class ProgramFailedError(TraceError):
    """The program that was run to be recorded failed; nothing is wrong with the recorder."""

    exit_code = 5


class DamagedError(EnvironmentFailedError):
    """What was stored cannot be read back; opening the recording again makes it anew."""
