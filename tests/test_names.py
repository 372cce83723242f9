"""Names are nouns of the field: no pronouns, no participles, and one class for one name."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# They tell what happened to a thing instead of what it is.
VAGUE = {
    *("told", "asked", "mine", "its", "said", "fed", "thing", "stuff"),
    *("shown", "found", "wanted", "known", "opened", "looked", "apart", "given"),
}
VAGUE_TYPES = {
    *("Asked", "Shown", "Opened", "Wanted", "Known", "Found", "Apart", "Looked", "Where"),
    *("Told", "Said", "Given"),
}

MAX_LINES = 500
WHY_LONG = "One file because "  # in the docstring of a file that is longer

HOUSES = ("analyzers", "collectors", "views")

# A workload is to be read alone; programs that are simulated are written in the words of CUDA.
OWN_WORDS = ("workloads/", "traces/", "benchmarks/simulated/")


def product_files():
    """Return every Python file of the product, and of what proves it; tests may speak freely."""
    return sorted(
        p
        for p in ROOT.rglob("*.py")
        if not {".venv", "build", "tests", "__pycache__"} & set(p.relative_to(ROOT).parts)
    )


def bindings(tree):
    """Yield the line and the name of everything that a file binds: variables, arguments, fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.alias):
            yield node.lineno, node.asname or node.name
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name


def room_of(path):
    """Return the folder of the first two levels, where rooms are rooms of a house themselves."""
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:2] if parts[0] in HOUSES and len(parts) > 2 else parts[:1])


def vague_names(paths):
    """Return where a name is a pronoun or a participle."""
    return [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in paths
        for line, name in bindings(ast.parse(path.read_text(encoding="utf-8")))
        if name.strip("_") in VAGUE | VAGUE_TYPES
    ]


@pytest.mark.parametrize("room", sorted({room_of(p) for p in product_files()}))
def test_no_name_is_a_pronoun_or_a_participle(room):
    vague = vague_names(p for p in product_files() if room_of(p) == room)
    assert not vague, "\n".join(vague)


def test_one_name_stands_for_one_class():
    places = defaultdict(list)
    for path in product_files():
        if path.relative_to(ROOT).as_posix().startswith(OWN_WORDS):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name.strip("_")].append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def long_files():
    """Return the files that are long and do not say why."""
    everything = [*product_files(), *(ROOT / "tests").rglob("*.py")]
    return {
        path.relative_to(ROOT).as_posix()
        for path in everything
        if len((text := path.read_text(encoding="utf-8")).splitlines()) > MAX_LINES
        and WHY_LONG not in (ast.get_docstring(ast.parse(text)) or "")
    }


def test_a_long_file_says_why_it_is_one():
    assert long_files() == set()


@pytest.mark.parametrize(
    "text",
    ["told = 1", "def f(asked): pass", "class Found: pass", "for its in (): pass", "_said = 2"],
)
def test_the_word_list_sees_every_kind_of_binding(text):
    assert any(name.strip("_") in VAGUE | VAGUE_TYPES for _, name in bindings(ast.parse(text)))
