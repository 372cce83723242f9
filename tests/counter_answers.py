"""Answers about recordings of counters, for tests."""

import inspect
import types

from analyzers import diagnose
from analyzers.analysis import investigate
from collectors import open_trace
from tests import counter_scenarios as scenes
from tests.counter_scenarios import SHORT

SCENARIOS = [
    name
    for name, function in vars(scenes).items()
    if isinstance(function, types.FunctionType)
    and function.__module__ == scenes.__name__
    and not name.startswith("_")
    and not inspect.signature(function).parameters
]


def of(path, tmp_path):
    """Return the analysis of a recording."""
    return investigate(open_trace(path, tmp_path / "cache"))


def found(result, rule):
    """Return the finding of a rule."""
    return next(f for f in result.report.findings if f.id == rule)


def ids(result):
    """Return the rules that found anything."""
    return {f.id for f in result.report.findings}


SECTORS = (SHORT["ideal_sectors"], "memory_l2_theoretical_sectors_global")


UNCOALESCED = "bandwidth.uncoalesced_access"

INSIDE = [rule for rule in diagnose.all_rules() if "counters" in getattr(rule, "NEEDS", ())]


def each_once(root):
    """Return a function that analyses a scenario, each only once."""
    analyses = {}

    def get(name):
        if name not in analyses:
            analyses[name] = investigate(open_trace(getattr(scenes, name)(), root))
        return analyses[name]

    return get
