"""The single changes that can be made to a file: what a slip of the hand would have written.

Each is an edit of its text, so that everything else stays as it is, comments and layout too.
Annotations, docstrings and the wording of messages are left alone; numbers inside of sentences
are not.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from itertools import pairwise

COMPARISONS = {
    "<": ("<=", ">"),
    "<=": ("<", ">"),
    ">": (">=", "<"),
    ">=": (">", "<"),
    "==": ("!=",),
    "!=": ("==",),
    "is": ("is not",),
    "is not": ("is",),
    "in": ("not in",),
    "not in": ("in",),
}
OPERATORS = {
    "+": "-",
    "-": "+",
    "*": "/",
    "/": "*",
    "//": "*",
    "%": "*",
    "**": "*",
    "&": "|",
    "|": "&",
    "^": "&",
    "<<": ">>",
    ">>": "<<",
}
# Of each the other is as easily written.
OPPOSITES = (
    *(("min", "max"), ("minimum", "maximum"), ("any", "all"), ("argmin", "argmax")),
    *(("first", "last"), ("head", "tail"), ("floor", "ceil"), ("nsmallest", "nlargest")),
    *(("cummin", "cummax"), ("idxmin", "idxmax"), ("logical_and", "logical_or")),
    *(("startswith", "endswith"), ("ffill", "bfill"), ("intersection", "union")),
    *(("union1d", "intersect1d"), ("lstrip", "rstrip"), ("partition", "rpartition")),
    *(("left", "right"), ("fmin", "fmax"), ("mean", "max"), ("median", "min"), ("sum", "max")),
)
OPPOSITE = {a: b for pair in reversed(OPPOSITES) for a, b in (pair, pair[::-1])}
# Parts of names that stand for the two sides of something.
SIDES = (
    *(("start", "end"), ("begin", "end"), ("first", "last"), ("before", "after"), ("min", "max")),
    *(("lower", "upper"), ("low", "high"), ("left", "right"), ("old", "new"), ("read", "write")),
    *(("device", "stream"), ("process", "thread"), ("baseline", "candidate"), ("gap", "busy")),
)
# These check ourselves, or say how, not what; leaving them out or turning them round is no slip.
HARMLESS_KEYWORDS = {
    *("cache", "copy", "encoding", "errors", "kind", "kw_only", "nogil", "observed", "sort"),
    *("strict", "validate", "frozen", "eq"),
}
LARGE = 16  # from here on a slip is another magnitude, not another step

SYMMETRIC = {
    *("max", "min", "maximum", "minimum", "zip", "isinstance", "logical_and", "logical_or"),
}

COLUMN = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+")


@dataclass(frozen=True)
class Mutant:
    """One edit of a file.

    Attributes:
        path: File, from the root of the checkout.
        function: Qualified name of the function or class that it is in; empty on top level.
        kind: What sort of slip it is.
        line: First line that it touches, from 1.
        end_line: Last line of the statement's part that it touches.
        start: First byte of the file that is replaced.
        end: Byte behind the last one.
        new: What stands there instead.
        before: The lines that it touches, stripped and joined.
        after: The same lines with the change.
    """

    path: str
    function: str
    kind: str
    line: int
    end_line: int
    start: int
    end: int
    new: str
    before: str
    after: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What names the change for as long as its line reads the same."""
        return self.path, self.function, self.before, self.after

    def applied(self, text: bytes) -> bytes:
        """Return the file's text with the change."""
        return text[: self.start] + self.new.encode() + text[self.end :]


def changes_of(path: str, text: bytes) -> list[Mutant]:
    """Return every change of a file that is still Python, in the order of its text.

    Args:
        path: File, from the root of the checkout.
        text: What is in it.
    """
    finder = _MutantFinder(text)
    finder.visit(ast.parse(text))
    made: dict[tuple[int, int, str], Mutant] = {}
    for function, kind, start, end, new in finder.edits:
        change = _change(path, function, kind, text, (start, end), new)
        if change.before != change.after:
            made.setdefault((change.start, change.end, change.new), change)
    return sorted(made.values(), key=lambda c: (c.start, c.end, c.new))


def is_python(text: bytes) -> bool:
    """Tell whether a text can still be read; a few changes need brackets that are not there."""
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _change(
    path: str, function: str, kind: str, text: bytes, place: tuple[int, int], new: str
) -> Mutant:
    start, end = place
    first = text.rfind(b"\n", 0, start) + 1
    last = text.find(b"\n", end)
    last = len(text) if last < 0 else last
    before = _one_line(text[first:last])
    after = _one_line(text[first:start] + new.encode() + text[end:last])
    line = text.count(b"\n", 0, start) + 1
    end_line = text.count(b"\n", 0, end) + 1
    return Mutant(path, function, kind, line, end_line, start, end, new, before, after)


def _one_line(text: bytes) -> str:
    return " ".join(part.strip() for part in text.decode().splitlines()).strip()


Edit = tuple[str, str, int, int, str]


class _MutantFinder(ast.NodeVisitor):
    """Collects the edits of a syntax tree."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.edits: list[Edit] = []
        self._line_starts = [0, *(m.end() for m in re.finditer(rb"\n", text))]
        self._names = set(re.findall(r"[A-Za-z_]\w*", text.decode()))
        self._columns = sorted(set(re.findall(r'"([a-z][a-z0-9]*(?:_[a-z0-9]+)+)"', text.decode())))
        self._function: list[str] = []
        self._assigned: list[set[str]] = [set()]

    def _span(self, node: ast.AST) -> tuple[int, int]:
        where = (node.lineno, node.col_offset, node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
        line, column, end_line, end_column = where
        return self._line_starts[line - 1] + column, self._line_starts[end_line - 1] + end_column

    def _source(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self.text[start:end].decode(errors="replace")

    def _edit(self, kind: str, span: tuple[int, int], new: str) -> None:
        self.edits.append((".".join(self._function), kind, *span, new))

    def _is_placed(self, node: ast.expr) -> bool:
        """Tell whether a node's position is right; within f-strings it may not be."""
        try:
            parsed = ast.parse(self._source(node).strip(), mode="eval").body
        except (SyntaxError, ValueError):
            return False
        return ast.dump(parsed) == ast.dump(node).replace("ctx=Store()", "ctx=Load()")

    # What is not to be touched.

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function.append(node.name)
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        self._assigned.append({a.arg for a in arguments})
        for default in (*node.args.defaults, *(d for d in node.args.kw_defaults if d)):
            self.visit(default)
        self._visit_body(node.body)
        self._assigned.pop()
        self._function.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._function.append(node.name)
        self._visit_body(node.body)
        self._function.pop()

    def _visit_body(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Import(self, node: ast.Import) -> None:
        del node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        del node

    def visit_Assert(self, node: ast.Assert) -> None:
        del node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        for part in ast.walk(node):
            if isinstance(part, ast.FormattedValue) and self._is_placed(part.value):
                self.visit(part.value)

    # Statements.

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return
        if isinstance(node.value, ast.Call):
            self._edit("statement removed", self._span(node), "pass")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        in_place = not isinstance(node.targets[0], ast.Name | ast.Tuple)
        if in_place or (names <= self._assigned[-1] and len(self._assigned) > 1):
            self._edit("statement removed", self._span(node), "pass")
        self.visit(node.value)
        self._assigned[-1] |= names

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._edit("statement removed", self._span(node), "pass")
        between = (self._span(node.target)[1], self._span(node.value)[0])
        for sign, other in OPERATORS.items():
            self._replace_between("operator", between, f"{sign}=", f"{other}=")
        self.visit(node.value)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._edit("statement removed", self._span(node), "pass")

    def visit_Break(self, node: ast.Break) -> None:
        self._edit("statement removed", self._span(node), "pass")

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self._negate(node.test)
        only_leaves = len(node.body) == 1 and isinstance(node.body[0], ast.Return | ast.Raise)
        if only_leaves and not node.orelse:
            self._edit("early exit removed", self._span(node.body[0]), "pass")
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for condition in node.ifs:
            self._negate(condition)
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        if self._is_placed(test) and not isinstance(test, ast.Constant):
            self._edit("condition negated", self._span(test), f"not ({self._source(test)})")

    # Expressions.

    def _replace_between(self, kind: str, between: tuple[int, int], old: str, new: str) -> None:
        text = self.text[between[0] : between[1]].decode(errors="replace")
        if text.strip(" \n()\\") != old:
            return
        start = between[0] + len(text[: text.index(old)].encode())
        self._edit(kind, (start, start + len(old)), new)

    def visit_Compare(self, node: ast.Compare) -> None:
        parts = [node.left, *node.comparators]
        for left, right in pairwise(parts):
            between = (self._span(left)[1], self._span(right)[0])
            for sign, others in COMPARISONS.items():
                for other in others:
                    self._replace_between("comparison", between, sign, other)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        between = (self._span(node.left)[1], self._span(node.right)[0])
        for sign, other in OPERATORS.items():
            self._replace_between("operator", between, sign, other)
        if isinstance(node.op, ast.Add | ast.Sub | ast.BitAnd | ast.BitOr | ast.Mult | ast.Div):
            self._edit("term dropped", self._span(node), self._source(node.left))
        if isinstance(node.op, ast.Add | ast.BitAnd | ast.BitOr | ast.Mult):
            self._edit("term dropped", self._span(node), self._source(node.right))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            between = (self._span(left)[1], self._span(right)[0])
            self._replace_between("and, or", between, old, new)
        for value in node.values:
            others = [self._source(v) for v in node.values if v is not value]
            joined = f" {old} ".join(others)
            self._edit("condition dropped", self._span(node), joined)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if not isinstance(node.operand, ast.Constant):
            self._edit("sign dropped", self._span(node), f"({self._source(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        span = self._span(node)
        if isinstance(value, bool):
            self._edit("constant", span, str(not value))
        elif isinstance(value, int):
            steps = (value + 1, value - 1) if value <= LARGE else (value * 2, value + 1)
            for other in steps:
                self._edit("constant", span, str(other) if other >= 0 else f"({other})")
        elif isinstance(value, float):
            for factor in (2, 0.5):
                self._edit("constant", span, repr(value * factor if value else 1.0))
        elif isinstance(value, str) and self._source(node) == f'"{value}"':
            self._text(node, value)

    def _text(self, node: ast.Constant, value: str) -> None:
        if value in OPPOSITE:
            self._edit("aggregation", self._span(node), f'"{OPPOSITE[value]}"')
        if COLUMN.fullmatch(value) and (other := self._other_column(value)):
            self._edit("column", self._span(node), f'"{other}"')

    def _other_column(self, column: str) -> str:
        """Return the next column of the file with the same ending, or nothing."""
        ending = column.rpartition("_")[2]
        alike = [c for c in self._columns if c.rpartition("_")[2] == ending]
        return alike[(alike.index(column) + 1) % len(alike)] if alike != [column] and alike else ""

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._name(node.id, self._span(node))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        end = self._span(node)[1]
        self._name(node.attr, (end - len(node.attr), end))
        self.visit(node.value)

    def _name(self, name: str, span: tuple[int, int]) -> None:
        if name in OPPOSITE and name != "union":
            self._edit("aggregation", span, OPPOSITE[name])
        words = name.split("_")
        for one, other in (*SIDES, *(pair[::-1] for pair in SIDES)):
            swapped = "_".join(other if word == one else word for word in words)
            if swapped != name and swapped in self._names:
                self._edit("name", span, swapped)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        index = self._source(node.slice)
        if index in ("0", "-1"):
            self._edit("slice", self._span(node.slice), "-1" if index == "0" else "0")
        self.generic_visit(node)

    def visit_Slice(self, node: ast.Slice) -> None:
        for bound in (node.lower, node.upper):
            if bound is not None:
                self._edit("slice", self._span(bound), "")
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        """Leave alone the values of what is harmless."""
        if node.arg not in HARMLESS_KEYWORDS:
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in ("cast", "TypeVar"):
            return
        name = self._source(node.func).rpartition(".")[2]
        if name not in SYMMETRIC:
            self._swap_arguments(node)
        # What a class is made of is nearly always required, and its lack a loud error.
        if len(node.args) + len(node.keywords) > 1 and not name.strip("_")[:1].isupper():
            self._drop_keywords(node)
        self.generic_visit(node)

    def _swap_arguments(self, node: ast.Call) -> None:
        movable = (ast.Name, ast.Attribute, ast.Subscript, ast.Call, ast.BinOp)
        for one, other in pairwise(node.args):
            if isinstance(one, movable) and isinstance(other, movable):
                start, end = self._span(one)[0], self._span(other)[1]
                between = self.text[self._span(one)[1] : self._span(other)[0]].decode()
                if between.strip(" \n,"):
                    continue
                swapped = f"{self._source(other)}{between}{self._source(one)}"
                self._edit("arguments swapped", (start, end), swapped)

    def _drop_keywords(self, node: ast.Call) -> None:
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg in HARMLESS_KEYWORDS:
                continue
            start, end = self._span(keyword)
            comma = re.match(rb"\s*,", self.text[end:])
            if comma:
                end += comma.end()
            self._edit("keyword dropped", (start, end), "")
