"""Finds text that reaches one of Streamlit's Markdown parameters without being escaped.

An expression is safe when it can only hold words of ours: a constant, a number, what a function
formats, or something made of those. A name is safe when everything ever assigned to it is. What a
function is given or returns is safe when it is declared ``Escaped``; therefore what is passed for
such a parameter, returned by such a function, or called so is looked at like what is drawn. mypy
alone would not do: it lets pass what it knows nothing of, as a row of a table.
"""

import ast
from functools import cached_property

# Parameters that Streamlit 1.67 renders as Markdown, in the order of the signature; "*" is all.
MARKDOWN = {
    "badge": ("label",),
    "button": ("label",),
    "caption": ("body",),
    "checkbox": ("label",),
    "dialog": ("title",),
    "download_button": ("label",),
    "error": ("body",),
    "expander": ("label",),
    "file_uploader": ("label",),
    "form_submit_button": ("label",),
    "header": ("body",),
    "info": ("body",),
    "link_button": ("label",),
    "markdown": ("body",),
    "metric": ("label", "value", "delta"),
    "multiselect": ("label",),
    "number_input": ("label",),
    "page_link": ("", "label"),
    "pills": ("label", "options"),
    "popover": ("label",),
    "progress": ("", "text"),
    "radio": ("label", "options"),
    "segmented_control": ("label", "options"),
    "select_slider": ("label", "options"),
    "selectbox": ("label",),
    "slider": ("label",),
    "spinner": ("text",),
    "status": ("label",),
    "subheader": ("body",),
    "success": ("body",),
    "table": ("data",),
    "tabs": ("tabs",),
    "text": (),
    "text_area": ("label",),
    "text_input": ("label",),
    "title": ("body",),
    "toast": ("body",),
    "toggle": ("label",),
    "update": ("label",),
    "warning": ("body",),
    "write": ("*",),
}
ALWAYS = ("help", "title", "captions", "delta_description")  # Markdown wherever they exist
CHOICES = ("pills", "radio", "segmented_control", "select_slider")  # their options may be words

MADE_IN = "markdown.py"  # where text is escaped
# Functions of views/shared/units.py and analyzers/words.py that write numbers.
FORMATTERS = {
    "size_text",
    "time_text",
    "format_value",
    "ns_to_us",
    "share_text",
}
COUNTERS = {"count_text", "plural"}  # take a number and a noun; the noun must be ours
NUMBERS = {"abs", "float", "int", "len", "round"}
CLOSED = {  # attributes that hold one of a few words of ours, whatever was recorded
    ".cause.value",
    ".confidence.value",
    ".level",
    ".row.value",
    "uuid4().hex",
}
TEXT_METHODS = {
    "capitalize",
    "lower",
    "removesuffix",
    "replace",
    "rstrip",
    "strip",
    "title",
    "upper",
}
NUMBER_FORMATS = tuple("bdeEfFgGnoxX%,")  # what text cannot be formatted with

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Pages:
    """Every file that draws, parsed once."""

    def __init__(self, root):
        self.root = root
        self.files = sorted(
            p
            for p in (*root.glob("views/**/*.py"), root / "app.py")
            if p.exists() and p.name != "__init__.py"
        )
        self.trees = {p: ast.parse(p.read_text(encoding="utf-8")) for p in self.files}

    @cached_property
    def functions(self):
        """Functions by name; a name that two files use stands for both."""
        found = {}
        for tree in self.trees.values():
            for node in ast.walk(tree):
                if isinstance(node, Function):
                    found.setdefault(node.name, []).append(node)
        return found


class CheckedFile:
    """One file, and which of its expressions are safe."""

    def __init__(self, path, pages):
        self.path, self.pages, self.tree = path, pages, pages.trees[path]
        self.scope_of = {}
        self._note_scopes(self.tree, self.tree)
        self.roots = {"st"} | self._containers()

    def unescaped(self):
        """Return ``file:line: call`` of each place that may hold foreign text and must not."""
        return [
            f"{self.path.name}:{node.lineno}: {ast.unparse(node)[:90]}"
            for node in ast.walk(self.tree)
            if not all(self.is_safe(value) for value in self._held(node))
        ]

    def _held(self, node):
        """Return what becomes Markdown at ``node``."""
        if self.path.name == MADE_IN:
            return []
        if isinstance(node, ast.Return):
            is_declared = _is_escaped(getattr(self.scope_of[node], "returns", None))
            return [node.value] if node.value and is_declared else []
        if not isinstance(node, ast.Call):
            return []
        if _called(node) == "Escaped":
            return node.args
        return [
            *(self._markdown_values(node) if self._draws(node) else ()),
            *self._declared_values(node),
        ]

    def _declared_values(self, call):
        """Yield what is passed for parameters that are declared ``Escaped``."""
        for function in self.pages.functions.get(_called(call), ()):
            parameters = [*function.args.posonlyargs, *function.args.args]
            parameters = [a for a in parameters if a.arg not in ("self", "cls")]
            every = (*parameters, *function.args.kwonlyargs)
            names = {a.arg for a in every if _is_escaped(a.annotation)}
            if not names:
                continue
            yield from (v for a, v in zip(parameters, call.args, strict=False) if a.arg in names)
            yield from (a for a in call.args if isinstance(a, ast.Starred))
            yield from (k.value for k in call.keywords if k.arg is None or k.arg in names)

    def _note_scopes(self, node, scope):
        for child in ast.iter_child_nodes(node):
            self.scope_of[child] = scope
            self._note_scopes(child, child if isinstance(child, Function) else scope)

    def _containers(self):
        """Names bound to something that a call on ``st`` returned, such as a column."""
        names = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign):
                bound, value = node.targets, node.value
            elif isinstance(node, ast.For):
                bound, value = [node.target], node.iter
            elif isinstance(node, ast.withitem) and node.optional_vars:
                bound, value = [node.optional_vars], node.context_expr
            elif isinstance(node, ast.arg) and "DeltaGenerator" in ast.dump(node):
                names.add(node.arg)
                continue
            else:
                continue
            if any(isinstance(n, ast.Name) and n.id == "st" for n in ast.walk(value)):
                names |= {n.id for t in bound for n in ast.walk(t) if isinstance(n, ast.Name)}
        return names

    def _draws(self, call):
        if not isinstance(call.func, ast.Attribute) or call.func.attr not in MARKDOWN:
            return False
        root = call.func.value
        while isinstance(root, ast.Attribute | ast.Call | ast.Subscript):
            root = root.func if isinstance(root, ast.Call) else root.value
        return isinstance(root, ast.Name) and root.id in self.roots

    def _markdown_values(self, call):
        name = call.func.attr
        wanted = MARKDOWN[name]
        for place, value in enumerate(call.args):
            if wanted == ("*",) or (place < len(wanted) and wanted[place]):
                yield value
            elif isinstance(value, ast.Starred):
                yield value.value
        formatted = next((k.value for k in call.keywords if k.arg == "format_func"), None)
        for keyword in call.keywords:
            if keyword.arg is None or keyword.arg in (*wanted, *ALWAYS):
                yield keyword.value
        if name in CHOICES and formatted is not None:
            yield ast.Call(func=formatted, args=[], keywords=[])

    def is_safe(self, node, seen=frozenset()):
        """Tell whether ``node`` can only hold words of ours."""
        if node in seen:  # a name defined by itself adds nothing new
            return True
        if isinstance(node, ast.Constant | ast.Compare):
            return True
        check = getattr(self, f"_{type(node).__name__.lower()}", None)
        return check is not None and check(node, seen | {node})

    def _all(self, nodes, seen):
        return all(self.is_safe(n, seen) for n in nodes if n is not None)

    def _joinedstr(self, node, seen):
        return self._all(node.values, seen)

    def _formattedvalue(self, node, seen):
        spec = node.format_spec.values if node.format_spec else []
        texts = [s.value for s in spec if isinstance(s, ast.Constant)]
        return bool(texts and texts[-1].endswith(NUMBER_FORMATS)) or self.is_safe(node.value, seen)

    def _binop(self, node, seen):
        return self._all((node.left, node.right), seen)

    def _boolop(self, node, seen):
        return self._all(node.values, seen)

    def _ifexp(self, node, seen):
        return self._all((node.body, node.orelse), seen)

    def _tuple(self, node, seen):
        return self._all(node.elts, seen)

    _list = _set = _tuple

    def _dict(self, node, seen):
        return self._all((*node.keys, *node.values), seen)

    def _listcomp(self, node, seen):
        return self.is_safe(node.elt, seen)

    _generatorexp = _setcomp = _listcomp

    def _starred(self, node, seen):
        return self.is_safe(node.value, seen)

    def _attribute(self, node, _seen):
        return ast.unparse(node).endswith(tuple(CLOSED))

    def _subscript(self, node, seen):
        return self.is_safe(node.value, seen)

    def _lambda(self, node, seen):
        return self.is_safe(node.body, seen)

    def _namedexpr(self, node, seen):
        return self.is_safe(node.value, seen)

    def _call(self, node, seen):
        name = _called(node)
        if isinstance(node.func, ast.Lambda):
            return self.is_safe(node.func.body, seen)
        if isinstance(node.func, ast.Attribute):
            return self._method(node, seen)
        if name in FORMATTERS | NUMBERS or name == "Escaped":
            return True
        if name in COUNTERS:
            return self._all(node.args[1:], seen)
        if name in ("list", "tuple", "sorted", "str", "reversed"):
            return self._all(node.args, seen)
        functions = self.pages.functions.get(name, [])
        return bool(functions) and all(_is_escaped(f.returns) for f in functions)

    def _method(self, node, seen):
        if _called(node) in ("join", "format", "get", *TEXT_METHODS):
            return self._all((node.func.value, *node.args), seen)
        if _called(node) in ("keys", "values", "items", "index", "count", "sum"):
            return self.is_safe(node.func.value, seen) or _called(node) in ("index", "count")
        return False

    def _name(self, node, seen):
        scope = self.scope_of.get(node, self.tree)
        while True:
            values = self._bindings(scope, node.id)
            if values:
                return self._all(values, seen)
            if isinstance(scope, Function) and (parameter := _parameter(scope, node.id)):
                return _is_escaped(parameter.annotation)
            if scope is self.tree:
                return self._imported(node.id, seen)
            scope = self.scope_of[scope]

    def _bindings(self, scope, name):
        """Return everything that is assigned to ``name`` in ``scope``."""
        values = []
        for node in ast.walk(scope):
            if self.scope_of.get(node) is not scope:
                continue
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                value = node.value
            elif isinstance(node, ast.For | ast.comprehension):
                targets, value = [node.target], node.iter
            else:
                continue
            if any(_binds(target, name) for target in targets) and value is not None:
                values.append(value)
        return values

    def _imported(self, name, seen):
        """Tell whether ``name`` is a constant that another file of ``views/`` defines safely."""
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.ImportFrom) or name not in {a.name for a in node.names}:
                continue
            for path, tree in self.pages.trees.items():
                module = path.relative_to(self.pages.root).with_suffix("").parts
                if node.module == ".".join(module):
                    other = CheckedFile(path, self.pages)
                    values = other._bindings(tree, name)
                    return bool(values) and other._all(values, seen)
        return False


def _called(call):
    func = call.func
    if isinstance(func, ast.Attribute):
        return func.attr
    return func.id if isinstance(func, ast.Name) else ""


def _binds(target, name):
    """Tell whether an assignment to ``target`` changes ``name``, or an item of it."""
    return any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(target))


def _parameter(function, name):
    """Return the parameter of this name, None when there is none."""
    arguments = function.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    extra = (arguments.vararg, arguments.kwarg)
    return next((a for a in (*every, *extra) if a is not None and a.arg == name), None)


def _is_escaped(annotation):
    return isinstance(annotation, ast.Name) and annotation.id == "Escaped"
