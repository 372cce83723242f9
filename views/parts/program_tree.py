"""The kernel time by module or range, as an indented table whose rows lead to the timeline."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analyzers.words import TIMES, share_text, time_text
from analyzers.work.account import TIMES_NS
from analyzers.work.classes import TITLES, WorkClass
from analyzers.work.program_tree import ProgramTree, TreeNode
from collectors.errors import TraceError
from jobs import api
from views.parts.regions import OUTSIDE_WORDS
from views.shared.markdown import md_escape
from views.shared.session import Session, draw_error
from views.shared.units import visible

TREE_LABELS = {"modules": "nn.Module", "ranges": "Ranges"}
MIN_SHARE = 0.001  # of kernel time; nodes with less are left to the one around them
SHOWN_NODES = 300
NAME_ROOM = 90
INDENT = "\N{NO-BREAK SPACE}" * 5
NAMED_CLASSES = 3
MIN_CLASS_SHARE = 0.05  # of a node's time; classes with less are not named
TABLE_HEIGHT_PX = 520
ROWS_THAT_FIT = 14
COLUMNS = {
    "part": st.column_config.TextColumn("part of the program", width=270),
    "time": st.column_config.NumberColumn("time (ms)", format="%.3f", width=90),
    "share": st.column_config.ProgressColumn(
        "share", format="%.1f %%", min_value=0, max_value=100, width=105
    ),
    "roof": st.column_config.NumberColumn(
        "of its roof",
        format="%.0f %%",
        width=90,
        help="How much of its time the work would take at the GPU's limits, where that is known "
        "for most of it.",
    ),
    "below": st.column_config.NumberColumn("below (ms)", format="%.3f", width=90),
    "mix": st.column_config.TextColumn("what its kernels do", width=400),
    "launches": st.column_config.NumberColumn("launches", format="localized", width=80),
}


def draw_program_tree(session: Session) -> None:
    """Show the kernel time by module or range, making it when nobody has looked at it yet."""
    try:
        with st.spinner("Looking for modules and ranges …"):
            trees = api.program_trees(
                session.trace, session.stored, session.window, session.counters
            )
    except (TraceError, OSError) as error:
        draw_error(str(error))
        return
    if not trees:
        st.write(
            "No kernel was launched inside a module or a range that was recorded. PyTorch records "
            "modules with stacks; ranges are marked in the program:"
        )
        st.code(
            "torch.profiler.profile(with_stack=True, with_modules=True)\n"
            'with nvtx.annotate("forward"): ...',
            language="python",
        )
        return
    tree = _draw_tree_picker(trees)
    nodes = listed_nodes(tree, session.device)
    st.dataframe(
        tree_table(nodes, session.device),
        hide_index=True,
        column_config=COLUMNS,
        placeholder="",
        key="program_tree",
        on_select="rerun",
        selection_mode="single-row",
        height=TABLE_HEIGHT_PX if len(nodes) > ROWS_THAT_FIT else "content",
        alt="Kernel time by part of the program",
    )
    backward = "Backward passes count towards the module of their forward operator."
    st.caption(
        f"Each row has the time of all inside it; {md_escape(TIMES)} tells how many alike it "
        f"stands for. {md_escape(backward if tree.kind == 'modules' else '')} Click the box "
        "beside a row for its longest launch."
    )
    selection = st.session_state.get("program_tree", {}).get("selection", {})
    rows = selection.get("rows", ())
    if rows and rows[0] < len(nodes):
        _draw_place(session, nodes[rows[0]])


def _draw_tree_picker(trees: Sequence[ProgramTree]) -> ProgramTree:
    """Draw what picks one of several trees, and return the picked one."""
    by_kind = {tree.kind: tree for tree in trees}
    kinds = [kind for kind in TREE_LABELS if kind in by_kind]
    if len(kinds) < 2:
        return trees[0]
    labels = [TREE_LABELS[kind] for kind in kinds]
    label = st.segmented_control(
        "Parts of the program",
        labels,
        default=labels[0],
        key="tree_kind",
        label_visibility="collapsed",
    )
    return by_kind[kinds[labels.index(label or labels[0])]]


def _draw_place(session: Session, node: TreeNode) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**{md_escape(node_name(node))}**: {time_text(_sums(node, session.device)[0])}"
        )
        st.page_link(
            "timeline.py",
            label="Show its longest launch on the timeline",
            query_params=session.address | {"mark": f"{node.start_ns}-{node.end_ns}"},
        )


def listed_nodes(tree: ProgramTree, device: int) -> list[TreeNode]:
    """Return the nodes with enough time on a device (-1 all) to be shown, in the tree's order."""
    times = [_sums(node, device)[0] for node in tree.nodes]
    whole = sum(ns for node, ns in zip(tree.nodes, times, strict=True) if node.depth == 0)
    pairs = zip(tree.nodes, times, strict=True)
    return [node for node, ns in pairs if ns and ns >= MIN_SHARE * whole][:SHOWN_NODES]


def node_name(node: TreeNode) -> str:
    """Return what a node is called, and how many alike it stands for."""
    name = visible(node.name, NAME_ROOM) if node.name else OUTSIDE_WORDS
    return f"{name} {TIMES}{node.alike}" if node.alike > 1 else name


def tree_table(nodes: Sequence[TreeNode], device: int) -> pd.DataFrame:
    """Return the tree in the units of the page, its rows indented by depth."""
    whole = sum(_sums(node, device)[0] for node in nodes if node.depth == 0)
    rows = []
    for node in nodes:
        busy, roof, below, _ = _sums(node, device)
        modelled = roof + below
        is_known = modelled and 2 * modelled >= busy
        rows.append(
            {
                "part": INDENT * node.depth + node_name(node),
                "time": busy / 1e6,
                "share": 100 * busy / max(whole, 1),
                "roof": 100 * roof / modelled if is_known else None,
                "below": below / 1e6 if is_known else None,
                "launches": sum(p.launches for p in node.parts if device in (-1, p.device)),
                "mix": class_mix(node, device),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _sums(node: TreeNode, device: int) -> tuple[int, int, int, int]:
    """Return ``TIMES_NS`` of a node."""
    parts = [part for part in node.parts if device in (-1, part.device)]
    busy, roof, below, unknown = (sum(getattr(part, n) for part in parts) for n in TIMES_NS)
    return busy, roof, below, unknown


def class_mix(node: TreeNode, device: int) -> str:
    """Say what a node's kernels do: ``matrix multiplies 73 %, element-wise kernels 20 %``."""
    by_class: dict[str, int] = {}
    for part in node.parts:
        if device in (-1, part.device):
            by_class[part.work_class] = by_class.get(part.work_class, 0) + part.busy_ns
    whole = sum(by_class.values())
    largest = sorted(by_class.items(), key=lambda pair: -pair[1])[:NAMED_CLASSES]
    return ", ".join(
        f"{TITLES[WorkClass(name)]} {share_text(ns, whole)}"
        for name, ns in largest
        if ns >= MIN_CLASS_SHARE * whole
    )
