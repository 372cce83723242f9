"""Who may import whom, and that no recording's text is ever read as Markdown or HTML."""

import ast
import errno
import functools
import graphlib
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from analyzers.diagnose import all_rules
from analyzers.whatif.changes import all_changes
from collectors import collectors
from tests.markdown_calls import MADE_IN, CheckedFile, Pages

ROOT = Path(__file__).parents[1]
OURS = {p.stem for p in ROOT.glob("*.py")} | {p.parent.name for p in ROOT.glob("*/*.py")}
NUMBERS = {"numpy", "pandas", "pyarrow"}

# What a sentence or a column is written in; every stage of the analysis may use it.
WORDS = {
    "analyzers.cuda_names",
    "analyzers.finding",
    "analyzers.intervals",
    "analyzers.metric_names",
    "analyzers.recorder",
    "analyzers.speedups",
    "analyzers.verdict_words",
    "analyzers.words",
    "collectors.schema",
}
SERVER = {"anyio", "itsdangerous", "starlette", "uvicorn"}
TRACE = {"common", "collectors.errors", "collectors.schema", "collectors.trace"}
READER = TRACE | {
    "collectors.input_file",
    "collectors.processes",
    "collectors.sqlite_file",
    "collectors.unpacking",
}
FACTS = WORDS | TRACE | {"analyzers.facts"}
COUNTERS = FACTS | {"analyzers.counters"}
LEDGER = COUNTERS | {"analyzers.ledger"}
WORK = LEDGER | {"analyzers.work"}
LOSSES = WORK | {"analyzers.losses"}
RULES = LOSSES - {"analyzers.counters", "analyzers.work"} - TRACE | {"collectors.schema"}
KERNELS = LOSSES | {"analyzers.kernels", "analyzers.report"}
ANSWER = KERNELS | {"analyzers.quality", "analyzers.report"}
STORE = {"analyzers", "collectors", "common", "library"}

# For each file or folder, the most special first: the modules of ours and the libraries that it
# may import, lazily and for types too. A folder stands for everything in it, and everything in a
# folder may import the rest of it, unless a line above says otherwise. What is not named is
# forbidden; the standard library is not listed.
BORDERS = (
    ("common", set(), set()),
    ("collectors/errors.py", set(), set()),
    ("collectors/schema.py", {"collectors.errors"}, NUMBERS),
    ("collectors/trace.py", TRACE, {*NUMBERS, "msgspec"}),
    (
        "collectors/operation_table.py",
        {"collectors.errors", "collectors.input_file", "collectors.schema", "common"},
        NUMBERS,
    ),
    ("collectors/processes.py", {"common.platform"}, {"psutil"}),
    ("collectors/foreign_files.py", {"common"}, set()),
    (
        "collectors/input_file.py",
        {"collectors.errors", "collectors.foreign_files", "common"},
        set(),
    ),
    ("collectors/sqlite_file.py", READER, {*NUMBERS, "adbc_driver_manager", "adbc_driver_sqlite"}),
    ("collectors/unpacking.py", {"collectors.errors"}, set()),
    # It hands the file that it unpacked to whichever collector knows it.
    ("collectors/archive", {"collectors", "common"}, set()),
    ("collectors/nsys", READER, {*NUMBERS, "adbc_driver_manager", "adbc_driver_sqlite"}),
    ("collectors/ncu", READER, {*NUMBERS, "google"}),
    ("collectors/torch_profiler", READER, {*NUMBERS, "msgspec"}),
    ("collectors/telemetry/sampler.py", set(), {"psutil", "pynvml"}),
    ("collectors/telemetry", READER, {*NUMBERS, "sqlite_utils"}),
    ("collectors/capture/guard.py", set(), set()),
    ("collectors/capture", {"collectors.errors", "collectors.processes", "common"}, {"psutil"}),
    ("collectors/__init__.py", {"collectors"}, set()),
    ("analyzers/facts", FACTS, NUMBERS),
    ("analyzers/counters", COUNTERS, NUMBERS),
    ("analyzers/ledger", LEDGER, NUMBERS),
    ("analyzers/work", WORK, {*NUMBERS, "msgspec"}),
    ("analyzers/losses", LOSSES, NUMBERS),
    # A rule knows nothing of other rules, nor of what becomes of its answer.
    ("analyzers/rules", RULES, NUMBERS),
    ("analyzers/kernels", KERNELS, NUMBERS),
    *(
        (
            f"analyzers/compare/{name}.py",
            {"analyzers.compare", "analyzers.intervals"},
            {"numpy", "scipy"},
        )
        for name in ("statistics", "paired", "run_to_run")
    ),
    ("analyzers/compare/same_work.py", {"analyzers.compare", *WORDS}, {*NUMBERS, "scipy"}),
    ("analyzers/compare", ANSWER | WORK, {*NUMBERS, "msgspec"}),
    ("analyzers/whatif/compiled.py", {"analyzers.whatif"}, {"numba"}),
    ("analyzers/whatif", ANSWER, {*NUMBERS, "msgspec"}),
    ("analyzers/fleet/compiled.py", set(), {"numba"}),
    ("analyzers/fleet", {"analyzers.fleet", "analyzers.intervals", *WORDS}, NUMBERS),
    ("analyzers/recorder.py", TRACE, set()),
    ("analyzers/report.py", LEDGER, {"msgspec"}),
    ("analyzers/quality", ANSWER, NUMBERS),
    ("analyzers/diagnose.py", ANSWER | {"analyzers.rules"}, NUMBERS),
    ("analyzers/verdict.py", ANSWER | WORK, NUMBERS),
    (
        "analyzers/analysis.py",
        ANSWER | WORK | {"analyzers.diagnose", "analyzers.verdict", "analyzers.whatif"},
        NUMBERS,
    ),
    ("analyzers/__init__.py", {"analyzers.analysis", "analyzers.report", *TRACE}, set()),
    ("analyzers", WORDS, NUMBERS),
    ("library/predictions.py", STORE, {"msgspec"}),
    ("library", STORE, {*NUMBERS, "msgspec", "psutil"}),
    ("timeline", STORE, {*NUMBERS, "msgspec"}),
    ("exports", STORE, NUMBERS),
    ("reports/capture.py", STORE | {"captures", "reports"}, set()),
    ("reports/html.py", STORE | {"reports"}, {"jinja2", "markupsafe"}),
    ("reports/terminal.py", {"common", "reports"}, {"rich"}),
    ("reports", STORE, NUMBERS),
    ("jobs", STORE | {"timeline"}, {"msgspec", "psutil"}),
    ("captures", STORE | {"jobs"}, {"msgspec", "numpy", "psutil"}),
    ("cli", STORE | {"captures", "exports", "jobs", "reports", "timeline"}, set()),
    (
        "views/charts",
        STORE | {"reports", "views.shared.devices", "views.shared.units"},
        {*NUMBERS, "plotly"},
    ),
    ("views/shared/units.py", STORE | {"reports"}, NUMBERS),
    ("views/server", STORE | {"jobs", "timeline", "views"}, {*NUMBERS, *SERVER, "streamlit"}),
    (
        "views",
        STORE | {"captures", "exports", "jobs", "reports", "timeline"},
        {*NUMBERS, *SERVER, "plotly", "psutil", "pynvml", "streamlit"},
    ),
    ("app.py", {"views"}, {"starlette", "streamlit"}),
    # What tells whether the analysis is right must know nothing of it.
    ("benchmarks/simulated", {"traces.nsys_layout", "traces.nsys_writer"}, {"numpy"}),
    ("workloads", {"workloads.harness"}, {"nvtx", "numba", "numpy", "torch"}),
)

WITHOUT_HTML = ("captures", "cli", "exports", "jobs", "library", "reports", "timeline")
PAGES = Pages(ROOT)


def sources(pattern):
    return sorted(p for p in ROOT.glob(pattern) if "__pycache__" not in p.parts)


def module_of(path):
    """Return the dotted name of a file; a package's is that of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def bordered_files():
    """Return each file once, under the first border that names it or its folder."""
    border_of = {}
    for place, ours, libraries in BORDERS:
        is_file = place.endswith(".py")
        own = () if is_file else (place.replace("/", "."),)
        # Rules and workloads are each to be read alone.
        own = () if place in ("analyzers", "analyzers/rules", "workloads") else own
        for path in sources(place if is_file else f"{place}/**/*.py"):
            border_of.setdefault(path, (ours | set(own), libraries))
    return [
        pytest.param(path, *border, id=str(path.relative_to(ROOT)))
        for path, border in border_of.items()
    ]


@functools.cache
def imports(path):
    """Return every module that ``path`` imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} line {node.lineno}: relative import"
            found |= {_imported(node.module, alias.name) for alias in node.names}
    return {name for name in found if name.split(".")[0] not in sys.stdlib_module_names}


def _imported(module, name):
    """Return ``module.name`` when that is a module of ours, else ``module``."""
    inside = ROOT / module.replace(".", "/") / name
    is_module = inside.with_suffix(".py").exists() or (inside / "__init__.py").exists()
    return f"{module}.{name}" if is_module else module


def _is_allowed(module, ours, libraries):
    if module.split(".")[0] not in OURS:
        return module.split(".")[0] in libraries
    return any(module == name or module.startswith(f"{name}.") for name in ours)


def test_every_folder_of_the_product_has_a_border():
    known = {param.values[0] for param in bordered_files()}
    proof = {"benchmarks", "tests", "traces"}  # may use all of the product
    folders = {p.parent.name for p in ROOT.glob("*/*.py")} - proof - {"build"}
    everything = {p for folder in folders for p in sources(f"{folder}/**/*.py")}
    assert everything - known == set()


def test_every_border_is_that_of_a_place_that_exists():
    assert [place for place, *_ in BORDERS if not (ROOT / place).exists()] == []


@pytest.mark.parametrize(("path", "ours", "libraries"), bordered_files())
def test_a_file_imports_only_what_its_border_allows(path, ours, libraries):
    crossing = {
        module
        for module in imports(path) - {module_of(path)}
        if not _is_allowed(module, ours, libraries)
    }
    assert crossing == set()


def room_of(module):
    """Return the folder of the first two levels that a module lies in; else the module itself."""
    parts = module.split(".")[:2]
    is_folder = (ROOT.joinpath(*parts) / "__init__.py").exists()
    if len(parts) == 2 and not is_folder and parts[0] not in ("analyzers", "collectors", "views"):
        parts = parts[:1]
    return ".".join(parts)


def test_no_two_rooms_import_each_other_however_far_around():
    arrows = {}
    for path, *_ in (param.values for param in bordered_files()):
        own = room_of(module_of(path))
        rooms = {room_of(m) for m in imports(path) if m.split(".")[0] in OURS}
        arrows.setdefault(own, set()).update(rooms - {own})
    order = graphlib.TopologicalSorter(arrows)
    order.prepare()  # raises CycleError, which names the circle


def test_no_two_files_import_each_other_however_far_around():
    arrows = {}
    for path, *_ in (param.values for param in bordered_files()):
        own = module_of(path)
        arrows[own] = {m for m in imports(path) if m.split(".")[0] in OURS} - {own}
    graphlib.TopologicalSorter(arrows).prepare()


def test_workloads_import_nothing_of_ours_but_the_harness():
    for path in sources("workloads/*.py"):
        ours = {m for m in imports(path) if m.split(".")[0] in OURS}
        assert ours <= {"workloads.harness"}, path.name


def test_a_rule_never_imports_another_rule():
    for path in sources("analyzers/rules/*.py"):
        assert not [m for m in imports(path) if m.startswith("analyzers.rules")], path.name


@pytest.mark.parametrize("path", PAGES.files, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_text_of_a_recording_reaches_markdown_unescaped(path):
    assert CheckedFile(path, PAGES).unescaped() == []


def test_html_outside_the_pages_is_written_only_in_the_template_of_the_report():
    # One template turns a report into HTML, and escapes all of it.
    for path in (p for room in WITHOUT_HTML for p in sources(f"{room}/**/*.py")):
        tags = [
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.search(r"</?(html|div|p|span|table|tr|td|a|svg|script|style)\b", node.value)
        ]
        assert tags == [], path.name


def test_the_template_of_the_report_trusts_no_text_but_the_style_sheet():
    template = (ROOT / "reports" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"\|\s*(safe|attr|xmlattr|tojson)\b|autoescape|\bMarkup\b", template)
    calls = [
        ast.unparse(node)
        for path in sources("reports/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Markup")
    ]
    assert calls == ["Markup(STYLE)"]


def test_html_is_written_only_in_components_and_the_style_sheet():
    forbidden = {"unsafe_allow_html", "unsafe_allow_javascript"}
    found = []
    for path in PAGES.files:
        if "components" in path.parts or path.name == "style.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            keywords = {k.arg for k in node.keywords} if isinstance(node, ast.Call) else set()
            is_html = isinstance(node, ast.Attribute) and ast.unparse(node) in (
                "st.html",
                "components.html",
                "st.components.v1.html",
                "st.iframe",
            )
            if keywords & forbidden or is_html:
                found.append(f"{path.name}:{node.lineno}")
    assert found == []


# The checker is only worth its name when it finds what it is for.


def check_text(text, tmp_path):
    path = tmp_path / "views" / "page.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "import streamlit as st\nfrom views.shared.markdown import Escaped, md_escape\n"
        f"from views.shared.units import time_text\n{text}"
    )
    made_in = path.with_name(MADE_IN)
    shutil.copy(ROOT / "views" / "shared" / MADE_IN, made_in)
    return CheckedFile(path, Pages(tmp_path)).unescaped()


@pytest.mark.parametrize(
    "text",
    [
        "def page(name):\n    st.error(name)",
        "def page(name):\n    st.markdown(f'**{name}**')",
        "def page(kernel):\n    st.caption('Kernel ' + kernel.name)",
        "def page(row):\n    left, right = st.columns(2)\n    right.metric('Kernel', row.name)",
        "def page(names):\n    st.tabs(names)",
        "def page(names):\n    st.tabs([n for n in names])",
        "def page(name):\n    st.button('ok', help=name)",
        "def page(name):\n    text = 'a'\n    text = name\n    st.write(text)",
        "def page(name):\n    with st.container() as box:\n        box.warning(name)",
        "def page(e):\n    text = f'{e}'\n    st.info(text)",
        "def _show(text):\n    st.error(text)\ndef page(e):\n    _show(str(e))",
        "def _name(row):\n    return row.name\ndef page(row):\n    st.error(_name(row))",
        "def _name(row) -> Escaped:\n    return row.name",
        "def page(row):\n    st.error(Escaped(row.name))",
        "def _show(text: Escaped):\n    st.error(text)\ndef page(e):\n    _show(e.name)",
        "def _show(*, text: Escaped):\n    st.error(text)\ndef page(e):\n    _show(**e)",
        "LABELS = {}\ndef page(e):\n    LABELS['x'] = e\n    st.error(LABELS['x'])",
        "def page(name):\n    st.error('{}'.format(name))",
        "def page(*names):\n    st.write(*names)",
        "def page(row):\n    st.write(plural(3, row.name))",
        "def page(options):\n    st.radio('Which?', **options)",
    ],
)
def test_the_checker_sees_unescaped_text(text, tmp_path):
    assert check_text(text, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "st.error('Nothing here')",
        "def page(name):\n    st.error(md_escape(name))",
        "def page(name, ns):\n    st.markdown(f'**{md_escape(name)}** {time_text(ns)}')",
        "def page(n):\n    st.caption(f'{n:,} kernels, {len(n)} of them')",
        "def page(name):\n    text = md_escape(name)\n    st.write(text)",
        "LABELS = {'a': 'A'}\ndef page(key):\n    st.write(LABELS[key])",
        "def page(n):\n    st.write(plural(n, 'kernel'))",
        "def page(finding):\n    st.write(f'{finding.cause.value}: {finding.lost_ns:,}')",
        "def page(name):\n    st.text(name)\n    st.code(name)",
        "def page(names):\n    st.tabs([md_escape(n) for n in names])",
        "def _show(text: Escaped):\n    st.error(text)\ndef page(e):\n    _show(md_escape(e))",
        "def row(unit: Escaped) -> Escaped:\n    return Escaped(f'{unit}:')\nst.write(row('ms'))",
        "def _name(row) -> Escaped:\n    return md_escape(row)\nst.error(_name(1))",
        "def page(names):\n    st.write(', '.join(md_escape(n) for n in names))",
        "def page(bad):\n    st.write('a' if bad else 'b')",
        "def page(name):\n    name.write(name)\n    open(name).write(name)",
        "import logging\ndef page(name):\n    logging.getLogger().warning(name)",
    ],
)
def test_the_checker_lets_escaped_text_pass(text, tmp_path):
    assert check_text(text, tmp_path) == []


@pytest.mark.parametrize("scan", [collectors, all_rules, all_changes], ids=lambda f: f.__name__)
def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(monkeypatch, scan):
    assert scan()

    def listdir(*_):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(OSError, match="allocate"):
        scan()
