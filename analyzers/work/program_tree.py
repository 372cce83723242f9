"""The kernel time by place in the program: a tree of ``nn.Module`` calls, or of ranges.

A launch belongs to the innermost module, or range, around the call that made it. A backward pass
runs on a thread of its own and outside of modules: its launches belong to the module around the
forward operator with the same sequence number (``analyzers.facts.backward``). Each node has the
sums of all below it, so the outermost nodes and what is outside of all sum to the kernel time.
"""

from __future__ import annotations

import collections
import re
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from analyzers.facts.backward import backward_operators
from analyzers.facts.facts import UNKNOWN, Facts
from analyzers.facts.loops import plain_name
from analyzers.facts.nesting import around, nest
from analyzers.facts.range_texts import range_name
from analyzers.facts.trace_table import trace_columns
from analyzers.intervals import Array, by_key
from analyzers.work.account import TIMES_NS, LaunchWork
from analyzers.work.classes import CLASSES
from collectors.schema import OperatorKind

MODULES, RANGES = "modules", "ranges"
MODULE_NAME = re.compile(r"^nn\.Module: (.+?)(?:_\d+)?$")
MAX_NODES = 1_000  # of a tree; those with least time are left to the nodes around them
MAX_NUMBERED = 8  # nodes side by side that differ in a number only; more are one


@dataclass(frozen=True, kw_only=True)
class TreePart:
    """What one class of work takes of a node, on one device.

    Attributes:
        device: Key.
        work_class: A ``WorkClass``.
        launches: How many.
        busy_ns: Kernel time, and its parts as in ``WorkAccount.classes``.
        roof_ns: At the roof.
        below_roof_ns: Below it.
        not_modelled_ns: Without a model.
    """

    device: int
    work_class: str
    launches: int
    busy_ns: int
    roof_ns: int
    below_roof_ns: int
    not_modelled_ns: int


@dataclass(frozen=True, kw_only=True)
class TreeNode:
    """A module or a range of the program.

    Attributes:
        parent: Place of the node around it in the tree, -1 for the outermost.
        depth: How many nodes are around it.
        name: What it is called, without numbers that only count; empty for what is outside of all.
        alike: How many that differ in a number only it stands for, side by side.
        parts: What it takes with all below it.
        start_ns: Begin of the longest launch in it.
        end_ns: End of that launch.
    """

    parent: int
    depth: int
    name: str
    alike: int
    parts: tuple[TreePart, ...]
    start_ns: int
    end_ns: int

    @property
    def busy_ns(self) -> int:
        """Kernel time on all devices."""
        return sum(part.busy_ns for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class ProgramTree:
    """The kernel time of a window by place in the program.

    Attributes:
        kind: ``modules`` or ``ranges``.
        nodes: A node stands before those inside it; side by side, the longest first.
    """

    kind: str
    nodes: tuple[TreeNode, ...]

    @classmethod
    def from_data(cls, data: Any) -> ProgramTree:
        """Rebuild it from ``dataclasses.asdict``.

        Raises:
            ValueError: It is something else.
        """
        return msgspec.convert(data, cls)


def program_trees(facts: Facts, work: LaunchWork) -> tuple[ProgramTree, ...]:
    """Return the tree of modules and that of ranges, those that the recording has.

    Args:
        facts: The recording.
        work: What the launches of a window did.
    """
    trees = []
    for kind, spans in ((MODULES, _modules(facts)), (RANGES, _ranges(facts))):
        if len(spans):
            owner, parent = _owners(facts, work, spans, is_backward_known=kind == MODULES)
            if (owner >= 0).any():
                node, nodes = _nodes(facts, kind, spans["name_id"].to_numpy(), (owner, parent))
                trees.append(ProgramTree(kind=kind, nodes=_with_sums(facts, work, node, nodes)))
    return tuple(trees)


# --- modules and ranges around launches ---------------------------------------------------------


def _modules(facts: Facts) -> pd.DataFrame:
    """Return calls of ``nn.Module``: thread, process, begin, end and name's id."""
    columns = ["start_ns", "end_ns", "process_key", "thread_key", "name_id", "kind"]
    if not facts.trace.count("operators"):
        return pd.DataFrame()
    table = trace_columns(facts.trace, "operators", columns)
    is_python = table.pop("kind") == OperatorKind.PYTHON
    spans = pd.DataFrame({name: column[is_python] for name, column in table.items()})
    code, ids = pd.factorize(spans["name_id"].to_numpy())
    is_module = [MODULE_NAME.match(str(text)) is not None for text in facts.trace.names(ids)]
    return spans[np.array(is_module)[code]].reset_index(drop=True) if len(ids) else spans


def _ranges(facts: Facts) -> pd.DataFrame:
    return facts.ranges.reset_index(drop=True)


def _owners(
    facts: Facts, work: LaunchWork, spans: pd.DataFrame, *, is_backward_known: bool
) -> tuple[Array, Array]:
    """Return the span around each launch of the window, and the one around each span; -1 none."""
    launches = work.launches["launch"].to_numpy()
    owner = np.full(len(launches), UNKNOWN, np.int64)
    parent = np.full(len(spans), UNKNOWN, np.int64)
    called = np.flatnonzero(facts.launches["api_row"].to_numpy()[launches] >= 0)
    moment = facts.api_start_ns[launches]
    thread = facts.thread_keys[facts.thread_index[launches]]
    start, end = spans["start_ns"].to_numpy(), spans["end_ns"].to_numpy()
    length = collections.Counter[tuple[int, int]]()
    nests = {}
    process_of = spans["process_key"].to_numpy()
    for key, rows in by_key(spans["thread_key"].to_numpy(), np.arange(len(spans))):
        intervals = nest(start[rows], end[rows])
        ordered = rows[intervals.order]
        inner = intervals.parent >= 0
        parent[ordered[inner]] = ordered[intervals.parent[inner]]
        nests[key] = (intervals, ordered)
        length[int(process_of[rows[0]]), key] += int((end[rows] - start[rows]).sum())

    def look_up(key: int, places: Array, moments: Array) -> None:
        intervals, ordered = nests[key]
        place = around(intervals, moments)
        inside = place >= 0
        owner[places[inside]] = ordered[place[inside]]

    for key, places in by_key(thread[called], called):
        if key in nests:
            look_up(key, places, moment[places])
    if is_backward_known:
        left = called[owner[called] == UNKNOWN]
        index, forward_ns = backward_operators(facts).forward_of(
            facts.thread_index[launches[left]], moment[left]
        )
        rows = np.flatnonzero(index >= 0)
        for key, places in by_key(facts.thread_keys[index[rows]], rows):
            if key in nests:
                look_up(key, left[places], forward_ns[places])
        return owner, parent
    # A training step's backward pass is launched by a thread that knows nothing of the step.
    process = facts.process_keys[facts.launches["process_index"].to_numpy()[launches]]
    left = called[owner[called] == UNKNOWN]
    for key, places in by_key(process[left], left):
        threads = [(ns, t) for (p, t), ns in length.items() if p == key]
        if threads:
            look_up(max(threads)[1], places, moment[places])
    return owner, parent


# --- the tree ------------------------------------------------------------------------------------


def _nodes(
    facts: Facts, kind: str, name_id: Array, nesting: tuple[Array, Array]
) -> tuple[Array, list[tuple[int, str, int]]]:
    """Return the node of each launch, -1 for none, and the nodes as ``_merged`` does."""
    owner, parent = nesting
    node_of_span, around_node, name_ids = _numbered(name_id, parent)
    used = np.zeros(len(around_node), dtype=bool)
    rows = np.unique(node_of_span[owner[owner >= 0]])
    while len(rows):
        used[rows] = True
        rows = np.unique(around_node[rows])
        rows = rows[(rows >= 0) & ~used[np.maximum(rows, 0)]]
    merged_of, nodes = _merged(facts, kind, around_node, name_ids, np.flatnonzero(used))
    node = np.where(owner >= 0, merged_of[node_of_span[np.maximum(owner, 0)]], UNKNOWN)
    return node, nodes


def _numbered(name_id: Array, parent: Array) -> tuple[Array, Array, Array]:
    """Number spans by their path of names, the outermost first.

    Returns:
        The number of each span; for each number the one around it, and its name's id.
    """
    depth = np.zeros(len(parent), np.int64)
    rows = parent.copy()
    while (rows >= 0).any():
        depth += rows >= 0
        rows = np.where(rows >= 0, parent[np.maximum(rows, 0)], UNKNOWN)
    number = np.full(len(parent), UNKNOWN, np.int64)
    name, ids = pd.factorize(name_id)
    parents, names, count = [], [], 0
    for level in range(int(depth.max(initial=-1)) + 1):
        here = np.flatnonzero(depth == level)
        outer = np.where(parent[here] >= 0, number[np.maximum(parent[here], 0)], UNKNOWN)
        code, unique = pd.factorize((outer + 1) * len(ids) + name[here])
        number[here] = code + count
        count += len(unique)
        parents.append(unique // len(ids) - 1)
        names.append(ids[unique % len(ids)])
    return number, np.concatenate(parents), np.concatenate(names)


def _merged(
    facts: Facts, kind: str, around_node: Array, name_ids: Array, used: Array
) -> tuple[Array, list[tuple[int, str, int]]]:
    """Make one of nodes that differ in a number only.

    Returns:
        The new number of each node; and for each number the one around it, its name, and how many
        side by side it stands for. A node stands behind the one around it.
    """
    texts = [str(t) for t in facts.trace.names(name_ids[used])]
    plain = [_plain(kind, text) for text in texts]
    siblings: dict[tuple[int, str], list[int]] = {}
    for place, node in enumerate(used.tolist()):
        siblings.setdefault((int(around_node[node]), plain[place]), []).append(place)
    label = [""] * len(texts)
    for (outer, name), places in siblings.items():
        is_one = len(places) > MAX_NUMBERED or (kind == RANGES and outer == UNKNOWN)
        for rank, place in enumerate(places, 1):
            numbered = f"{name} {rank}" if kind == MODULES else range_name(texts[place])[0]
            label[place] = name if is_one or len(places) == 1 else numbered
    number_of: dict[tuple[int, str], int] = {}
    nodes: list[tuple[int, str, int]] = []
    new_number = np.full(len(around_node), UNKNOWN, np.int64)
    for place, node in enumerate(used.tolist()):
        outer = int(around_node[node])
        around_it = int(new_number[outer]) if outer >= 0 else UNKNOWN
        key = (around_it, label[place])
        alike = len(siblings[outer, plain[place]]) if label[place] == plain[place] else 1
        if key not in number_of:
            number_of[key] = len(nodes)
            nodes.append((around_it, label[place], alike))
        number = number_of[key]
        nodes[number] = (around_it, label[place], max(alike, nodes[number][2]))
        new_number[node] = number
    return new_number, nodes


def _plain(kind: str, text: str) -> str:
    """Return a name without the number that only counts."""
    if kind == RANGES:
        return plain_name(range_name(text)[0])
    match = MODULE_NAME.match(text)
    return match[1] if match else text


def _with_sums(
    facts: Facts, work: LaunchWork, node: Array, nodes: list[tuple[int, str, int]]
) -> tuple[TreeNode, ...]:
    """Return the nodes in the order of a tree, each with the sums of all below it."""
    frame, count = work.launches, len(nodes) + 1
    outside = len(nodes)
    parents = np.array([n[0] for n in nodes] + [UNKNOWN], dtype=np.int64)
    devices = len(facts.devices)
    owner = np.where(node >= 0, node, outside)
    columns = {
        "launches": np.ones(len(frame), np.int64),
        **{name: _time(frame, name) for name in TIMES_NS},
    }
    cell = frame["device"].to_numpy() * len(CLASSES) + frame["class_code"].to_numpy()
    width = devices * len(CLASSES)
    sums = {
        name: np.bincount(owner * width + cell, values, minlength=count * width)
        .reshape(count, width)
        .astype(np.int64)
        for name, values in columns.items()
    }
    longest = _longest(frame["busy_ns"].to_numpy(), owner, count)
    busy = frame["busy_ns"].to_numpy()
    for number in range(len(nodes) - 1, -1, -1):  # a node stands behind the one around it
        outer = int(parents[number])
        if outer < 0:
            continue
        for table in sums.values():
            table[outer] += table[number]
        if longest[outer] < 0 or busy[longest[number]] > busy[longest[outer]]:
            longest[outer] = longest[number]
    total = sums["busy_ns"].sum(axis=1)
    kept = np.argsort(-total, kind="stable")[:MAX_NODES]
    kept = np.union1d(kept[total[kept] > 0], [outside] if total[outside] else []).astype(int)
    order = _tree_order(parents, total, kept)
    place = {number: position for position, (number, _) in enumerate(order)}
    launch = frame["launch"].to_numpy()
    names = [*(n[1:] for n in nodes), ("", 1)]
    start, end = (facts.launches[c].to_numpy() for c in ("start_ns", "end_ns"))
    return tuple(
        TreeNode(
            parent=place.get(int(parents[number]), UNKNOWN),
            depth=depth,
            name=names[number][0],
            alike=names[number][1],
            parts=tuple(_parts(sums, number)),
            start_ns=int(start[launch[longest[number]]]),
            end_ns=int(end[launch[longest[number]]]),
        )
        for number, depth in order
    )


def _time(frame: pd.DataFrame, name: str) -> Array:
    """Return one of ``TIMES_NS`` of each launch."""
    busy, roof = frame["busy_ns"].to_numpy(), frame["roof_ns"].to_numpy()
    modelled = frame["is_modelled"].to_numpy()
    times: dict[str, Array] = {
        "busy_ns": busy,
        "roof_ns": roof,
        "below_roof_ns": np.where(modelled, busy - roof, 0),
        "not_modelled_ns": np.where(modelled, 0, busy),
    }
    return times[name]


def _longest(busy_ns: Array, owner: Array, count: int) -> Array:
    """Return the longest launch of each node's own, -1 for none."""
    order = np.argsort(busy_ns, kind="stable")
    longest = np.full(count, UNKNOWN, np.int64)
    longest[owner[order]] = order
    return longest


def _tree_order(parents: Array, total: Array, kept: Array) -> list[tuple[int, int]]:
    """Return the nodes with their depths: each before those inside it, the longest first."""
    inside: dict[int, list[int]] = {}
    for number in sorted(kept.tolist(), key=lambda n: -total[n]):
        inside.setdefault(int(parents[number]), []).append(number)
    order: list[tuple[int, int]] = []
    open_nodes = [(number, 0) for number in reversed(inside.get(UNKNOWN, []))]
    while open_nodes:
        number, depth = open_nodes.pop()
        order.append((number, depth))
        open_nodes += [(child, depth + 1) for child in reversed(inside.get(number, []))]
    return order


def _parts(sums: dict[str, Array], number: int) -> list[TreePart]:
    parts = []
    for cell in np.flatnonzero(sums["busy_ns"][number]):
        device, code = divmod(int(cell), len(CLASSES))
        amounts = {name: int(table[number, cell]) for name, table in sums.items()}
        parts.append(TreePart(device=device, work_class=CLASSES[code].value, **amounts))
    return sorted(parts, key=lambda part: -part.busy_ns)
