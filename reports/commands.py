"""Commands taken out of sentences: a reader reads the sentence, and copies the command below it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from reports.document import Sentence

_PROGRAMS = (
    r"nsys|ncu|rocprof-compute|rocprofv3|vtune|nvidia-smi|rocm-smi|whyslow|torchrun|python3?"
)
_COMMAND = re.compile(
    # The sentence ends, or goes on, behind the quote: a kernel's name in a command may hold one.
    rf"(?P<verb>\b(?:with|run))?(?P<colon>:)?\s+`(?P<code>(?:{_PROGRAMS})\s.+?|torch\.profiler\.profile\(.*?\))"
    r"`(?=[\s.,;:)]|$)",
    re.DOTALL,
)
_ORDINALS = ("first", "second", "third", "fourth")


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """A sentence without its commands.

    Attributes:
        text: The sentence, which says of each command that it stands below.
        commands: To be shown below it, each to be copied as a whole.
    """

    text: str
    commands: tuple[str, ...] = ()


def spoken(text: str) -> Spoken:
    """Take the commands out of a sentence: ``run `ncu …` `` becomes ``run the command below``.

    Args:
        text: Of ours; a command in it stands between backticks and begins with its program.
    """
    commands = list(dict.fromkeys(m["code"] for m in _COMMAND.finditer(text)))

    def named(match: re.Match[str]) -> str:
        code = match["code"]
        noun = "call" if code.startswith("torch.") else "command"
        place = commands.index(code)
        if len(commands) > 1:
            noun = f"{_ORDINALS[place]} {noun}" if place < len(_ORDINALS) else f"last {noun}"
        if match["verb"] or not match["colon"]:
            return f"{match['verb'] or ''} the {noun} below"
        is_subject = re.match(r"\s+\w", text[match.end() :])  # ": `nsys …` records it"
        verb = "use " if noun.endswith("call") else "run "
        return f": {'' if is_subject else verb}the {noun} below"

    prose = _COMMAND.sub(named, text).rstrip()
    ends = commands and not prose.endswith((".", "!", "?", ":"))
    return Spoken(text=f"{prose}." if ends else prose, commands=tuple(commands))


def spoken_sentences(sentence: Sentence) -> Iterator[Sentence]:
    """Yield a sentence of a document without its commands, and then those."""
    parts = spoken(sentence.text)
    yield replace(sentence, text=parts.text)
    for command in parts.commands:
        yield Sentence(text=command, kind="command")
