"""``whyslow completion``: print what makes a shell complete commands, options and files.

The scripts are made from the parser of the command line, so that they know every option, and hold
all that they complete: a press of Tab starts no Python.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SHELLS = ("bash", "zsh", "fish")
HELP_WIDTH = 60  # characters of what a shell says beside an option
_INSTALL = {
    "bash": 'eval "$(whyslow completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(whyslow completion zsh)" in ~/.zshrc, below compinit',
    "fish": "whyslow completion fish > ~/.config/fish/completions/whyslow.fish",
}


@dataclass(frozen=True, kw_only=True)
class CompletedOption:
    """One option of a command.

    Attributes:
        names: How it is written: ``-h``, ``--help``.
        help: What it does, in a few words.
        takes_value: Whether a word follows it.
        choices: What that word may be; empty for anything, files too.
    """

    names: tuple[str, ...]
    help: str
    takes_value: bool
    choices: tuple[str, ...] = ()


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the shell."""
    command.add_argument("shell", choices=SHELLS, help="which shell reads the script")
    command.epilog = "To have it in every shell: " + "; ".join(_INSTALL.values())


def run(chosen: argparse.Namespace) -> None:
    """Print the script."""
    print(script(chosen.shell, chosen.parsers), end="")


def script(shell: str, parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    """Return what ``shell`` reads to complete the words after ``whyslow``.

    Args:
        shell: One of ``SHELLS``.
        parsers: The parser of each command by its name.
    """
    write = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    return "".join(f"{line}\n" for line in write(parsers))


def _options(parser: argparse.ArgumentParser) -> Iterator[CompletedOption]:
    for action in parser._actions:
        text = " ".join((action.help or "").replace("%%", "%").split())
        short = text if len(text) <= HELP_WIDTH else f"{text[: HELP_WIDTH - 1].rsplit(' ', 1)[0]}…"
        if action.option_strings and action.help != argparse.SUPPRESS:
            yield CompletedOption(
                names=tuple(action.option_strings),
                help=short,
                takes_value=action.nargs != 0,
                choices=tuple(map(str, action.choices or ())),
            )


def _first_words(parser: argparse.ArgumentParser) -> tuple[str, ...]:
    """Return what may follow the command, where only certain words may."""
    return tuple(
        str(choice)
        for action in parser._actions
        if not action.option_strings
        for choice in action.choices or ()
    )


def _summary(parser: argparse.ArgumentParser) -> str:
    return (parser.description or "").rstrip(".")


def _bash(parsers: Mapping[str, argparse.ArgumentParser]) -> Iterator[str]:
    yield "# Completion of whyslow for bash, made by `whyslow completion bash`."
    yield "_whyslow() {"
    yield '  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} words=""'
    yield "  COMPREPLY=()"
    yield '  if [ "$COMP_CWORD" = 1 ]; then'
    yield f"    words={shlex.quote(' '.join((*parsers, '--help', '--version')))}"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$current"))'
    yield "    return"
    yield "  fi"
    yield '  case "${COMP_WORDS[1]} $previous" in'
    for name, parser in parsers.items():
        for option in _options(parser):
            for text in option.names if option.choices else ():
                yield f"    {shlex.quote(f'{name} {text}')}) words={_quoted(option.choices)} ;;"
    yield "  esac"
    yield '  if [ -n "$words" ]; then'
    yield '    COMPREPLY=($(compgen -W "$words" -- "$current"))'
    yield "    return"
    yield "  fi"
    yield '  case "${COMP_WORDS[1]} $current" in'
    for name, parser in parsers.items():
        names = [text for option in _options(parser) for text in option.names]
        yield f"    {shlex.quote(f'{name} -')}*) words={_quoted(names)} ;;"
        if first := _first_words(parser):
            yield f"    {shlex.quote(f'{name} ')}*) words={_quoted(first)} ;;"
    yield "  esac"
    yield '  if [ -n "$words" ]; then'
    yield '    COMPREPLY=($(compgen -W "$words" -- "$current"))'
    yield "    return"
    yield "  fi"
    yield "  compopt -o filenames 2>/dev/null || true"
    yield "  local IFS=$'\\n'"
    yield '  COMPREPLY=($(compgen -f -- "$current"))'
    yield "}"
    yield "complete -F _whyslow whyslow"


def _quoted(words: Iterator[str] | tuple[str, ...] | list[str]) -> str:
    return shlex.quote(" ".join(words))


def _zsh(parsers: Mapping[str, argparse.ArgumentParser]) -> Iterator[str]:
    yield "#compdef whyslow"
    yield "# Completion of whyslow for zsh, made by `whyslow completion zsh`."
    yield "_whyslow() {"
    yield "  if (( CURRENT == 2 )); then"
    yield "    local -a commands=("
    for name, parser in parsers.items():
        yield f"      {shlex.quote(f'{name}:{_summary(parser)}')}"
    yield "    )"
    yield "    _describe command commands"
    yield "    return"
    yield "  fi"
    yield "  local command=$words[2]"
    yield "  shift words; (( CURRENT-- ))"
    yield '  case "$command" in'
    for name, parser in parsers.items():
        yield f"    {name})"
        yield "      _arguments -s \\"
        for option in _options(parser):
            for text in option.names:
                yield f"        {shlex.quote(_zsh_option(text, option))} \\"
        first = _first_words(parser)
        rest = f"*:word:({' '.join(first)})" if first else "*:recording:_files"
        yield f"        {shlex.quote(rest)} ;;"
    yield "  esac"
    yield "}"
    yield "compdef _whyslow whyslow"


def _zsh_option(name: str, option: CompletedOption) -> str:
    """Return an option as ``_arguments`` takes it: ``*--json[what it does]:value:_files``."""
    text = option.help.replace("\\", "").replace("[", "(").replace("]", ")").replace(":", "\\:")
    value = f"({' '.join(option.choices)})" if option.choices else "_files"
    return f"*{name}[{text}]" + (f":value:{value}" if option.takes_value else "")


def _fish(parsers: Mapping[str, argparse.ArgumentParser]) -> Iterator[str]:
    yield "# Completion of whyslow for fish, made by `whyslow completion fish`."
    for name, parser in parsers.items():
        text = shlex.quote(_summary(parser))
        yield f"complete -c whyslow -n __fish_use_subcommand -f -a {name} -d {text}"
    for command, parser in parsers.items():
        condition = shlex.quote(f"__fish_seen_subcommand_from {command}")
        if first := _first_words(parser):
            yield f"complete -c whyslow -n {condition} -f -a {_quoted(first)}"
        for option in _options(parser):
            names = " ".join(
                f"-l {n[2:]}" if n[:2] == "--" else f"-s {n[1:]}" for n in option.names
            )
            value = f" -x -a {_quoted(option.choices)}" if option.choices else " -r"
            yield (
                f"complete -c whyslow -n {condition} {names} -d {shlex.quote(option.help)}"
                + (value if option.takes_value else "")
            )
