"""How opening a recording fails: what the file, the machine or whyslow is at fault for."""

from __future__ import annotations


class TraceError(Exception):
    """A recording could not be opened; the message is one line: file, trouble, way out."""

    exit_code = 70


class RefusedError(TraceError):
    """The input is not something whyslow can answer for."""

    exit_code = 2


class EnvironmentFailedError(TraceError):
    """The machine, not the input, stopped us: disk full, tool missing, out of time."""

    exit_code = 3


class ProgramFailedError(TraceError):
    """The program that was run to be recorded failed; nothing is wrong with the recorder."""

    exit_code = 5


class DamagedError(EnvironmentFailedError):
    """What was stored cannot be read back; opening the recording again makes it anew."""
