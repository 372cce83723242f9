"""What an analysis could not judge: one line, the one command that records most of it, and why.

Reasons are long, and mostly one of them stands behind many rules. A reader needs one command to
copy; who wants every reason finds it in a section that is folded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from analyzers.report import Report
from analyzers.words import by_reason, count_text, enumerated, rule_words
from reports.ncu_commands import collected_by, together

MAX_NAMED, FEW_NAMED = 20, 3  # rules of one reason: where nothing could be told, few stand for all
_COMMAND = re.compile(r"`((?:ncu|nsys|rocprof-compute) .*)`", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Undetermined:
    """What was not judged.

    Attributes:
        sentence: Names it in one line.
        command: Records what most of the rules lack; empty where no command does.
        reasons: Each reason with its rules, the commands in it too.
    """

    sentence: str
    command: str = ""
    reasons: tuple[str, ...] = ()


def undetermined(report: Report) -> Undetermined:
    """Return what the rules and the verdict of a report leave open."""
    reasons = by_reason((s.reason, s.id) for s in report.skipped)
    command, count = _main_command(reasons)
    causes = [c.value for c in report.verdict.not_examined]
    sentence = _sentence(causes, len(report.skipped), reasons)
    if command:
        needs = f"{count:,} of them {'needs' if count == 1 else 'need'}"
        if count == len(report.skipped):
            needs = "it needs" if count == 1 else "all of them need"
        sentence = f"{sentence} This records what {needs}:"
    return Undetermined(
        sentence=sentence,
        command=command,
        reasons=tuple(f"{_named(rules)}: {reason}" for reason, rules in reasons.items()),
    )


def _named(rules: list[str]) -> str:
    """Name what a reason keeps from being judged: ``Idle lanes and bank conflicts``."""
    words = list(dict.fromkeys(map(rule_words, rules)))
    if len(words) > MAX_NAMED:
        words = [*words[:FEW_NAMED], f"{len(words) - FEW_NAMED} more"]
    names = enumerated(words)
    return names[:1].upper() + names[1:]


def _sentence(causes: list[str], skipped: int, reasons: dict[str, list[str]]) -> str:
    *others, last = causes or [""]
    named = f"{', '.join(others)} and {last}" if others else last
    judged = "The recording covers every cause"
    if causes:
        judged = f"The recording says nothing about {named}"
    if not skipped:
        return f"{judged}."
    lack = "has" if skipped == 1 else "have"
    joint = "but" if not causes else "and"
    text = f"{judged}, {joint} {count_text(skipped, 'rule')} {lack} nothing to go by."
    if len(reasons) == 1 and not _COMMAND.search(next(iter(reasons))):
        reason = next(iter(reasons)).rstrip(".")
        text = f"{text[:-1]}: {reason}."
    return text


def _main_command(reasons: dict[str, list[str]]) -> tuple[str, int]:
    """Return the command that serves most rules, and how many; empty and 0 for none."""
    served: dict[str, int] = {}
    missing = {reason: line for reason in reasons if (line := collected_by(reason))}
    if missing:
        served[together(list(missing.values()))] = sum(len(reasons[r]) for r in missing)
    for reason, rules in reasons.items():
        quoted = None if reason in missing else _COMMAND.search(reason)
        if quoted is not None:
            served[quoted[1]] = served.get(quoted[1], 0) + len(rules)
    if not served:
        return "", 0
    return max(served.items(), key=lambda item: item[1])
