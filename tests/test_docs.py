"""The documents tell what is there: commands, options, rules, tables, versions, samples."""

import argparse
import ast
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from cli.options import parser
from collectors import collectors
from collectors.schema import TABLES
from jobs.limits import Limits

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    *(ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG")),
    *sorted((ROOT / "docs").glob("*.md")),
]
LIMITS = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
README_LINES = 160  # what a newcomer reads; the rest is in docs/
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
RULES = sorted((ROOT / "analyzers" / "rules").glob("[!_]*.py"))
HEADINGS = (
    "What it looks for:",
    "Why it is slow:",
    "What to try:",
    "When it does not apply:",
)
SET_UP = "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e "


def commands_of(parser):
    """Return the subcommands of an argparse parser by name."""
    actions = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {name: command for action in actions for name, command in action.choices.items()}


COMMANDS = commands_of(parser())


def code_lines(text):
    """Return the lines of every shell block."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_readme_has_exactly_two_commands_that_set_up():
    lines = [line for line in code_lines(README) if line.startswith(SET_UP)]
    run, test = lines
    assert run == f"{SET_UP}. && .venv/bin/streamlit run app.py"
    assert re.fullmatch(
        re.escape(f'{SET_UP}".[test,workloads]" && .venv/bin/pytest') + r"( -n \w+)?", test
    )


def test_what_the_readmes_commands_use_is_there():
    assert (ROOT / "app.py").is_file()
    assert (ROOT / "constraints.txt").is_file()
    assert {"test", "workloads"} <= set(PROJECT["optional-dependencies"])
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_ci_runs_the_readmes_test_command_word_for_word():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    pattern = re.search(r"sed -n '(s/.*?/p)' README\.md", script).group(1)
    if shutil.which("sed") is None:
        pytest.skip("no sed")
    found = subprocess.run(
        ["sed", "-n", pattern, ROOT / "README.md"], capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines() == [
        line for line in code_lines(README) if "pytest" in line and line.startswith(SET_UP)
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_is_in_the_readme(name):
    assert f"whyslow {name}" in README


def test_every_command_that_the_documents_show_exists():
    for document in DOCUMENTS:
        shown = re.findall(
            r"`(?:\.venv/bin/)?whyslow (\w[\w-]*)", document.read_text(encoding="utf-8")
        )
        assert set(shown) <= set(COMMANDS), document.name


def test_every_option_that_the_readme_shows_for_whyslow_exists():
    table = README[README.index("| Command |") : README.index("Exit status")]
    options = {o for c in COMMANDS.values() for a in c._actions for o in a.option_strings}
    assert set(re.findall(r"--[a-z][a-z-]+", table)) <= options


def test_the_readme_is_short_shows_a_picture_and_leads_to_every_document():
    assert len(README.splitlines()) <= README_LINES
    assert "](views/screenshots/overview.png)" in README
    assert "](docs/decisions.md)" in README
    for heading in ("Start", "Use", "How it decides", "What it cannot see", "Platforms"):
        assert f"\n## {heading}\n" in README
    documents = [path for path in DOCUMENTS if path.parent.name == "docs"]
    assert [path.name for path in documents if f"](docs/{path.name})" not in README] == []


def test_the_documents_tell_every_limit_and_its_default():
    limits = Limits()
    for name in ("memory_gb", "cpu_s", "file_gb", "wall_s"):
        row = re.search(rf"`WHYSLOW_LIMIT_{name.upper()}` \| (\S+) \|", LIMITS)
        assert row, name
        assert float(row.group(1)) == getattr(limits, name), name


def test_every_limit_in_the_code_is_in_the_documents():
    told = set(re.findall(r"WHYSLOW_LIMIT_[A-Z]+(?:_[A-Z]+)*", LIMITS))
    used = set()
    for folder in {p.parent.name for p in ROOT.glob("*/*.py")} - {"tests", "benchmarks"}:
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            used |= set(re.findall(r"WHYSLOW_LIMIT_[A-Z]+(?:_[A-Z]+)*", text))
    assert used == told


@pytest.mark.parametrize("collector", collectors(), ids=lambda c: c.__name__)
def test_the_readme_names_every_suffix_that_a_collector_reads(collector):
    suffixes = re.findall(r"\.[a-z][\w.-]*\w", collector.KNOWN_AS)
    assert suffixes
    assert [s for s in suffixes if f"`{s}`" not in README] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda p: p.stem)
def test_every_rule_explains_itself(rule):
    docstring = ast.get_docstring(ast.parse(rule.read_text(encoding="utf-8")))
    lines = docstring.splitlines()
    assert lines[0].endswith("."), "the first line is a sentence"
    places = [lines.index(heading) for heading in HEADINGS]
    assert places == sorted(places)
    for place in places:
        assert lines[place + 1].strip(), f"nothing below {lines[place]}"


@pytest.mark.parametrize("table", TABLES)
def test_every_column_of_every_table_has_a_meaning(table):
    names = [column.name for column in TABLES[table]]
    assert len(names) == len(set(names))
    for column in TABLES[table]:
        assert len(column.meaning) > 2, column.name


def test_the_changelog_begins_with_the_version_that_is_built():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert versions[0] == PROJECT["version"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_and_paths_in_the_documents_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)\s#]+)\)", text)
    paths = re.findall(
        r"`((?:analyzers|collectors|library|tests|traces|views|workloads)/[\w./]*)`", text
    )
    missing = [p for p in links if not (document.parent / p).exists()]
    missing += [p for p in paths if not (ROOT / p).exists()]
    assert missing == []


def test_every_dependency_is_pinned():
    groups = (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    wanted = {normal(re.match(r"[\w.-]+", line).group()) for group in groups for line in group}
    assert wanted <= {normal(name) for name in PINS}
    assert all(re.fullmatch(r"[\w.]+", version) for version in PINS.values())


def test_torch_is_pinned_so_that_a_local_build_also_answers():
    assert PINS["torch"] == "2.13.0"


def test_every_sample_recording_is_listed():
    listed = (ROOT / "traces" / "README.md").read_text(encoding="utf-8")
    samples = [
        p.relative_to(ROOT / "traces")
        for suffix in ("sqlite", "nsys-rep")
        for p in (ROOT / "traces").rglob(f"*.{suffix}")
    ]
    assert samples
    assert [str(p) for p in samples if f"`{p}`" not in listed] == []
