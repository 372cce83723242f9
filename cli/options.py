"""The parser of the command line; each command adds its own options."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import ModuleType
from typing import NamedTuple

from cli import (
    app_path,
    capture,
    compare,
    completion,
    diagnose,
    export,
    fleet,
    predictions,
    report,
    whatif,
)
from cli import open as open_command
from cli.iterations import add_iterations, with_iterations


class Command(NamedTuple):
    """A command: its name, the module with ``add_options`` and ``run``, and its help.

    ``has_window`` says whether it takes one part of one recording.
    """

    name: str
    module: ModuleType
    help: str
    has_window: bool = False


COMMANDS = (
    Command("open", open_command, "open recordings in the browser"),
    Command("diagnose", diagnose, "say why a recording is slow", has_window=True),
    Command("whatif", whatif, "predict what changes to a program would gain", has_window=True),
    Command("compare", compare, "say whether a program got faster, and why"),
    Command("fleet", fleet, "say which rank makes the others of a job wait"),
    Command("predictions", predictions, "say how often predictions came true here"),
    Command("export", export, "write a recording and its analysis to files", has_window=True),
    Command("report", report, "write the answer to one HTML, Markdown or JSON file"),
    Command("capture", capture, "run a program under a profiler and open what it records"),
    Command("app-path", app_path, "print what Streamlit runs to serve the pages"),
    Command("completion", completion, "print what makes a shell complete its words"),
)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; what follows ``--`` of a capture is a command of the user's."""
    command: list[str] = []
    if arguments[:1] == ["capture"] and "--" in arguments:
        place = arguments.index("--")
        arguments, command = arguments[:place], arguments[place + 1 :]
    chosen = parser().parse_args(compare.with_separator(arguments))
    chosen.command = command
    return with_iterations(chosen)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    whole = argparse.ArgumentParser(
        prog="whyslow", description="Tells why a GPU program is slow, from a profiler's recording."
    )
    whole.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--data-dir", metavar="DIR", help="where opened recordings are kept (~/.cache/whyslow)"
    )
    windowed = argparse.ArgumentParser(add_help=False)
    windowed.add_argument(
        "--window",
        default="",
        metavar="WINDOW",
        help="part to analyse: all (GPU work), nvtx:NAME#n, iteration:n or span:START_NS-END_NS",
    )
    add_iterations(windowed)
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for entry in COMMANDS:
        parents = [shared, windowed] if entry.has_window else [shared]
        text = f"{entry.help[:1].upper()}{entry.help[1:]}."
        command = commands.add_parser(
            entry.name, parents=parents, help=entry.help, description=text
        )
        entry.module.add_options(command)
        command.set_defaults(run=entry.module.run, parsers=commands.choices)
    return whole


def parsers_of(whole: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return the parser of each command by its name."""
    action = next(a for a in whole._actions if isinstance(a, argparse._SubParsersAction))
    parsers: Mapping[str, argparse.ArgumentParser] = action.choices
    return parsers


class _Version(argparse.Action):
    """Prints the installed version; looking it up is too slow for every start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"whyslow {version('whyslow')}")
        parser.exit()
