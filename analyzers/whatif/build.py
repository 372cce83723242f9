"""The dependency graph of a recording, stage by stage."""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.whatif.dependencies import operation_dependencies
from analyzers.whatif.graph import Graph
from analyzers.whatif.pauses import host_pauses, threads_take_turns
from analyzers.whatif.submissions import Submissions, submitted_work
from analyzers.whatif.tables import ResourceCounts
from analyzers.whatif.typical import typical_times
from analyzers.whatif.waits import costs_and_targets


def build_graph(facts: Facts, from_ns: int | None = None) -> Graph:
    """Return the dependency graph of a recording with at least one operation.

    Args:
        facts: The recording.
        from_ns: When what is asked about begins. A window may begin before the first call, with
            host work that then counts as a pause before that call.
    """
    submissions = submitted_work(facts, from_ns)
    calls, operations = submissions.calls, submissions.operations
    typical = typical_times(submissions)
    costs, targets = costs_and_targets(facts, submissions, typical)
    return Graph(
        origin_ns=submissions.origin_ns,
        calls=calls,
        pauses=host_pauses(facts, submissions),
        costs=costs,
        targets=targets,
        operations=operations,
        dependencies=operation_dependencies(facts, submissions, (costs, targets), typical),
        counts=_resource_counts(submissions),
        typical=typical,
        takes_turns=threads_take_turns(facts, calls),
    )


def _resource_counts(submissions: Submissions) -> ResourceCounts:
    """Return one more than there are of each, so that there is one where there is none."""
    operations = submissions.operations
    return ResourceCounts(
        threads=int(submissions.calls.thread.max(initial=-1)) + 2,
        lanes=int(operations.lane.max()) + 2,
        groups=int(operations.group.max()) + 2,
        engines=int(operations.engine.max()) + 2,
    )
