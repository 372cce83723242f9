"""Finds text that reaches one of Streamlit's Markdown parameters without being escaped.

An expression is safe when it can only hold words of ours: a constant, a number, the result of a
function that escapes or formats, or something made of those. A name is safe when everything ever
assigned to it is; a parameter of a private or inner function, when every call within ``views/``
passes something safe; a function of ``views/``, when everything it returns is.
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

# Functions of views/shared/units.py and analyzers/words.py that escape text, or write numbers.
ESCAPERS = {"md_escape", "md_prose"}
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
        for path, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, Function):
                    found.setdefault(node.name, []).append((path, node))
        return found

    @cached_property
    def calls(self):
        """Calls by the name of what is called."""
        found = {}
        for path, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and (name := _called(node)):
                    found.setdefault(name, []).append((path, node))
        return found


class CheckedFile:
    """One file, and which of its expressions are safe."""

    def __init__(self, path, pages):
        self.path, self.pages, self.tree = path, pages, pages.trees[path]
        self.scope_of = {}
        self._note_scopes(self.tree, self.tree)
        self.roots = {"st"} | self._containers()

    def unescaped(self):
        """Return ``file:line: call`` of each Markdown parameter that may hold foreign text."""
        return [
            f"{self.path.name}:{call.lineno}: {ast.unparse(call)[:90]}"
            for call in ast.walk(self.tree)
            if isinstance(call, ast.Call) and self._draws(call)
            if not all(self.is_safe(value) for value in self._markdown_values(call))
        ]

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
        if name in ESCAPERS | FORMATTERS | NUMBERS:
            return True
        if name in COUNTERS:
            return self._all(node.args[1:], seen)
        if name in ("list", "tuple", "sorted", "str", "reversed"):
            return self._all(node.args, seen)
        return self._ours(name, seen)

    def _method(self, node, seen):
        if _called(node) in ("join", "format", "get", *TEXT_METHODS):
            return self._all((node.func.value, *node.args), seen)
        if _called(node) in ("keys", "values", "items", "index", "count", "sum"):
            return self.is_safe(node.func.value, seen) or _called(node) in ("index", "count")
        return False

    def _ours(self, name, seen):
        """Tell whether the functions called ``name`` return only what is safe."""
        found = self.pages.functions.get(name, [])
        return bool(found) and all(
            CheckedFile(path, self.pages).is_safe(result.value, seen)
            for path, function in found
            for result in ast.walk(function)
            if isinstance(result, ast.Return) and result.value is not None
        )

    def _name(self, node, seen):
        scope = self.scope_of.get(node, self.tree)
        while True:
            values = self._bindings(scope, node.id)
            if values:
                return self._all(values, seen)
            if isinstance(scope, Function) and _has_parameter(scope, node.id):
                return self._parameter(scope, node.id, seen)
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

    def _parameter(self, function, name, seen):
        """Tell whether every call within ``views/`` passes something safe for ``name``."""
        calls = self.pages.calls.get(function.name, [])
        is_local = self.scope_of[function] is not self.tree
        if not calls or not (is_local or function.name.startswith("_")):
            return False
        places = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
        for path, call in calls:
            passed = [k.value for k in call.keywords if k.arg in (name, None)]
            if name in places and places.index(name) < len(call.args):
                passed.append(call.args[places.index(name)])
            passed += [a for a in call.args if isinstance(a, ast.Starred)]
            if not CheckedFile(path, self.pages)._all(passed, seen):
                return False
        return self._all([*function.args.defaults, *function.args.kw_defaults], seen)

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


def _has_parameter(function, name):
    arguments = function.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    extra = (arguments.vararg, arguments.kwarg)
    return name in {a.arg for a in (*every, *extra) if a is not None}
