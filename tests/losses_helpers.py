"""What tests of losses share."""

import numpy as np

from analyzers.finding import Finding
from analyzers.rules import (
    launch_device_gaps,
    launch_late_host,
    launch_missing_graph,
    launch_small_kernels,
)

LAUNCH_RULES = (
    launch_device_gaps,
    launch_late_host,
    launch_missing_graph,
    launch_small_kernels,
)


def found(rules, facts, ledger):
    """Return the findings of some rules by the last word of their module's name."""
    outcomes = {rule.__name__.partition("rules.")[2]: rule.check(facts, ledger) for rule in rules}
    return {name: o for name, o in outcomes.items() if isinstance(o, Finding)}


def numbers(count, first=1):
    """Correlation ids."""
    return np.arange(first, first + count)
