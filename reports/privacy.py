"""What a report that leaves the house must not tell: hosts, users, paths, commands, environment.

The collectors never keep a recording's environment, command lines and printed output. What this
module removes are such texts inside of names that a report does show: of files, ranges, kernels,
threads and messages. It works by form, and by the names that forms betray: ``/home/alice`` makes
``alice`` a user everywhere. A name that looks like any other word cannot be known as private.
"""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

KINDS = ("hosts", "users", "paths", "commands", "environment")
"""What is removed; each can be asked for."""

MIN_NAME = 3  # characters; a shorter name would be cut out of ordinary words
# Names that say nothing about anyone, and that occur in ordinary sentences.
_COMMON = {
    *("root", "user", "users", "home", "admin", "ubuntu", "runner", "localhost", "host", "main"),
    *("test", "data", "train", "model", "kernel", "work", "shared", "public", "default", "docker"),
    *("cuda", "step", "rank", "worker", "torch", "baseline", "optimized", "gpu", "launch", "sync"),
}

_GONE = {kind: f"[{kind.rstrip('s')} removed]" for kind in KINDS}

_NAME = r"[\w.+@%~-]+"
_PATHS = (
    r"\b[a-z][a-z0-9+.-]{1,20}://[^\s'\"`<>|]+",  # an address of any scheme
    r"(?<![\w\\])(?:[A-Za-z]:\\|\\\\)[^\s'\"`<>|*?]+",  # C:\… and \\server\…
    rf"(?<![\w./)\]>-])(?:~{_NAME}?|\.{{1,2}})?/(?:{_NAME}/)+(?:{_NAME})?",  # two parts or more
    rf"(?<![\w./)\]>-])(?:~|\.{{1,2}}|/(?:home|root|Users|tmp|mnt|data))/{_NAME}",
    r"(?<![\w/])[\w.-]+(?:/[\w.-]+)*/[\w.-]+\.(?:py|ipynb|cu|cuh|cpp|cc|hpp|h|so|sh|json|ya?ml)\b",
)
_PROGRAMS = (
    r"(?:python[\d.]*|torchrun|deepspeed|accelerate|srun|sbatch|mpirun|mpiexec|bash|zsh|sh|sudo|ssh"
    r"|docker|kubectl|conda|env|perl|java|node|\./\S+)"
)
_COMMANDS = (
    rf"(?:(?<=^)|(?<=[\s'\"`(:;]))(?:\S*/)?{_PROGRAMS}[ \t]+(?:-{{1,2}}\w|\S*[./=]\S)[^'\"`;]*",
)
_ENVIRONMENT = (
    r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]*=(?:\"[^\"]*\"|'[^']*'|[^\s,;'\"`]+)",
    r"\b(?:HOME|USER|LOGNAME|PATH|PWD|HOSTNAME|SHELL|MAIL|TMPDIR)="
    r"(?:\"[^\"]*\"|'[^']*'|[^\s,;'\"`]+)",
    r"(?i)\b(?:[\w-]*(?:token|passwd|password|secret|api[_-]?key|credentials?))\s?[=:]\s?[^\s,;'\"`]+",
)
_USERS = (r"(?<![\w.@])[\w.+-]{2,}@(?=[\w-]+)",)
_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_HOSTS = (
    rf"(?<![\w.]){_OCTET}(?:\.{_OCTET}){{3}}(?![\w.])",
    r"(?i)\b(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}\b",
    r"\bip(?:-\d{1,3}){4}\b",
    r"(?i)(?<![\w.-])(?:[a-z0-9][a-z0-9-]*\.)+"
    r"(?:com|net|org|edu|gov|io|cloud|internal|intra|local|lan|corp|cluster|localdomain)\b",
)
# The handler of torch names files after the machine: HOST_PID.TIME.pt.trace.json
_TORCH_FILE = re.compile(r"^(?P<host>.+)_(?P<pid>\d+)\.\d+(?=\.pt\.trace\.json)")
_LEARN_USER = re.compile(r"(?:/home/|/Users/|\\Users\\|/scratch/|\bUSER=|\bLOGNAME=)([\w.-]+)")
_LEARN_VALUE = re.compile(
    r"(?i)(?:token|passwd|password|secret|api[_-]?key|credentials?)\s?[=:]\s?([^\s,;'\"`]{6,})"
)
_LEARN_HOST = re.compile(r"\bHOSTNAME=([\w.-]+)|\w@([\w][\w.-]+)")

# In the order in which they are looked for: what may contain others comes first.
_FORMS = {
    kind: [re.compile(form) for form in forms]
    for kind, forms in (
        ("environment", _ENVIRONMENT),
        ("commands", _COMMANDS),
        ("paths", _PATHS),
        ("users", _USERS),
        ("hosts", _HOSTS),
    )
}


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """What to remove, and the names that are known to be private.

    Attributes:
        included: Members of ``KINDS`` that stay.
        hosts: Names of machines.
        users: Names of people.
        values: Passwords and the like.
    """

    included: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    values: frozenset[str] = frozenset()

    def learned(self, texts: Iterable[str], file_names: Iterable[str] = ()) -> Privacy:
        """Return the same, knowing the names that these texts betray, too."""
        hosts, users, values = set(self.hosts), set(self.users), set(self.values)
        for text in texts:
            values |= set(_LEARN_VALUE.findall(text))
            users |= set(_LEARN_USER.findall(text))
            hosts |= {name for pair in _LEARN_HOST.findall(text) for name in pair if name}
        for name in file_names:
            if match := _TORCH_FILE.match(name):
                hosts.add(match["host"])
        return replace(self, hosts=_telling(hosts), users=_telling(users), values=_telling(values))

    def text(self, text: str) -> str:
        """Return ``text`` without what is private."""
        for pattern, word in self._patterns:
            text = pattern.sub(word, text)
        return text

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], str]]:
        patterns = [
            (form, _GONE[kind])
            for kind, forms in _FORMS.items()
            if kind not in self.included
            for form in forms
        ]
        secrets = {"hosts": self.hosts, "users": self.users, "environment": self.values}
        for kind, names in secrets.items():
            if kind not in self.included:
                patterns += [
                    (_whole(name), _GONE[kind]) for name in sorted(names, key=_longest_first)
                ]
        return patterns

    @property
    def sentence(self) -> str:
        """What was removed, in words."""
        removed = [_WORDS[k] for k in KINDS if k not in self.included]
        kept = [_WORDS[k] for k in KINDS if k in self.included]
        if not removed:
            return "Nothing was removed, as requested."
        listed = _listed(kept) if kept else ""
        stay = f" {listed[:1].upper()}{listed[1:]} were kept, as requested." if kept else ""
        return (
            f"Removed wherever they could be recognized: {_listed(removed)}.{stay} Names of files, "
            "kernels, ranges and devices were kept: check them before you share this report."
        )


_WORDS = {
    "hosts": "host names",
    "users": "user names",
    "paths": "paths",
    "commands": "command lines",
    "environment": "environment variables",
}


def privacy_of(included: Iterable[str] = ()) -> Privacy:
    """Return what is private on this machine.

    Args:
        included: Members of ``KINDS`` that the reader asked for.
    """
    return Privacy(
        included=frozenset(included),
        hosts=_telling({_own_name(socket.gethostname)}),
        users=_telling({_own_name(getpass.getuser)}),
    )


def _own_name(question: Callable[[], str]) -> str:
    try:
        return question()
    except (OSError, KeyError, ImportError):  # a container may have neither name
        return ""


def _telling(names: Iterable[str]) -> frozenset[str]:
    return frozenset(n for n in names if len(n) >= MIN_NAME and n.lower() not in _COMMON)


def _whole(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", re.IGNORECASE)


def _longest_first(name: str) -> tuple[int, str]:
    return -len(name), name


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
