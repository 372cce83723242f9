"""Who may import whom, and that no recording's text is ever read as Markdown or HTML."""

import ast
import errno
import os
import re
import sys
from pathlib import Path

import pytest

from analyzers.diagnose import all_rules
from collectors import collectors
from tests.markdown_calls import CheckedFile, Pages

ROOT = Path(__file__).parents[1]
OURS = {p.stem for p in ROOT.glob("*.py")} | {p.parent.name for p in ROOT.glob("*/*.py")}
NUMBERS = {"numpy", "pandas", "pyarrow"}
DRAWING = {"plotly", "streamlit"}

# Facts, ledger and what they are told in; a rule knows nothing of what becomes of its answer.
USES_RULES = {"__init__", "compare", "diagnose", "quality", "report", "whatif"}
MADE_BEFORE_RULES = {
    f"analyzers.{p.stem}" for p in (ROOT / "analyzers").glob("*.py") if p.stem not in USES_RULES
}

# What tells whether the analysis is right must know nothing of it.
JUDGES = tuple(
    f"benchmarks.{name}" for name in ("simulator", "families", "recorder", "torch_recorder")
)

# For each group of files, most special first: the modules of ours and the libraries they may
# import; a folder stands for everything in it. What is not named is forbidden; the standard
# library is not listed.
BORDERS = (
    ("collectors/trace.py", set(), NUMBERS),
    ("collectors/telemetry/sampler.py", set(), {"psutil", "pynvml"}),
    ("collectors/telemetry*.py", {"collectors"}, {*NUMBERS, "sqlite_utils"}),
    ("collectors/torch_*.py", {"collectors"}, {*NUMBERS, "msgspec"}),
    ("collectors/*.py", {"collectors"}, {*NUMBERS, "adbc_driver_manager", "adbc_driver_sqlite"}),
    ("analyzers/rules/*.py", {*MADE_BEFORE_RULES, "collectors.trace"}, NUMBERS),
    ("analyzers/whatif/run.py", {"analyzers"}, {"numba", "numpy"}),
    ("analyzers/compare/statistics.py", {"analyzers"}, {"numpy", "scipy"}),
    ("analyzers/*.py", {"analyzers", "collectors.trace"}, {*NUMBERS, "duckdb"}),
    (
        "library/predictions.py",
        {"analyzers", "collectors.trace", "library"},
        {"numba"},
    ),
    (
        "library/*.py",
        {"analyzers", "collectors", "library"},
        {*NUMBERS, "plotly", "psutil", "sqlite_utils"},
    ),
    ("views/shared/units.py", {"analyzers", "collectors.trace", "reports.numbers"}, NUMBERS),
    (
        "views/charts/ledger.py",
        {"analyzers", "collectors.trace", "reports.palette", "views.shared.units"},
        {"plotly", *NUMBERS},
    ),
    (
        "views/charts/kernels.py",
        {"analyzers", "collectors.trace", "views.charts.ledger", "views.shared.units"},
        {"plotly", *NUMBERS},
    ),
    (
        "views/charts/compare.py",
        {"analyzers", "collectors.trace", "views.charts.ledger", "views.shared.units"}
        | {"reports.comparison_words", "reports.palette"},
        {"plotly", *NUMBERS},
    ),
    (
        "views/**/*.py",
        {"analyzers", "cli", "collectors", "library", "views", "worker"},
        {*NUMBERS, *DRAWING, "anyio", "psutil", "pynvml", "starlette"},
    ),
    ("app.py", {"analyzers", "collectors", "library", "views", "worker"}, {"streamlit"}),
    ("worker.py", {"analyzers", "collectors", "library"}, {"pyarrow"}),
    ("cli.py", {"analyzers", "collectors", "library", "worker"}, set()),
    *(
        (f"{name.replace('.', '/')}.py", {*JUDGES, "traces.nsys_writer"}, {"numpy"})
        for name in JUDGES
    ),
    ("workloads/*.py", {"workloads.harness"}, {"nvtx", "numba", "numpy", "torch"}),
)

PAGES = Pages(ROOT)


def sources(pattern):
    return sorted(p for p in ROOT.glob(pattern) if "__pycache__" not in p.parts)


def bordered_files():
    """Return each file once, under the first border that names it."""
    border_of = {}
    for pattern, ours, libraries in BORDERS:
        for path in sources(pattern):
            border_of.setdefault(path, (ours, libraries))
    return [
        pytest.param(path, *border, id=str(path.relative_to(ROOT)))
        for path, border in border_of.items()
    ]


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
    folders = ("analyzers", "collectors", "library", "views", "workloads")
    everything = {p for folder in folders for p in sources(f"{folder}/**/*.py")}
    assert everything - known == set()


@pytest.mark.parametrize(("path", "ours", "libraries"), bordered_files())
def test_a_file_imports_only_what_its_border_allows(path, ours, libraries):
    own = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    crossing = {
        module for module in imports(path) - {own} if not _is_allowed(module, ours, libraries)
    }
    assert crossing == set()


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


def test_library_and_command_line_write_html_only_in_the_report():
    # One module turns a report into HTML, so that one test of it can show that all text is escaped.
    for path in (*sources("library/*.py"), ROOT / "cli.py", ROOT / "worker.py"):
        tags = [
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.search(r"</?(html|div|p|span|table|tr|td|a|svg|script|style)\b", node.value)
        ]
        assert path.name == "report_html.py" or tags == [], path.name


def test_html_is_written_only_in_components_and_the_style_sheet():
    forbidden = {"unsafe_allow_html", "unsafe_allow_javascript"}
    found = []
    for path in PAGES.files:
        if "components" in path.parts or path.name == "_style.py":
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
        f"import streamlit as st\nfrom views._units import md_escape, time_text\n{text}"
    )
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
        "def _show(text):\n    st.error(text)\ndef page(e):\n    _show(md_escape(e))",
        "def page(ns):\n    def row(unit):\n        return f'{unit}:'\n    st.write(row('ms'))",
        "def _name(row):\n    return md_escape(row.name)\ndef page(r):\n    st.error(_name(r))",
        "def page(names):\n    st.write(', '.join(md_escape(n) for n in names))",
        "def page(bad):\n    st.write('a' if bad else 'b')",
        "def page(name):\n    name.write(name)\n    open(name).write(name)",
        "import logging\ndef page(name):\n    logging.getLogger().warning(name)",
    ],
)
def test_the_checker_lets_escaped_text_pass(text, tmp_path):
    assert check_text(text, tmp_path) == []


@pytest.mark.parametrize("scan", [collectors, all_rules], ids=lambda f: f.__name__)
def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(monkeypatch, scan):
    assert scan()

    def listdir(*_):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(OSError, match="allocate"):
        scan()
