"""Which operator call each kernel belongs to, and what that call had to do.

A kernel belongs to the innermost operator around its launch that has a work model; operators that
only pass their inputs on have the work of those inside them. Where a call contains another one that
has launched and has a model, its own work is not counted again.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analyzers.facts.facts import GRAPH, KERNEL, UNKNOWN, Facts
from analyzers.intervals import Array
from analyzers.work.classes import (
    CODES,
    MIXED,
    WorkClass,
    data_type_codes,
    kernel_class_codes,
    kernel_type_codes,
    operator_class,
)
from analyzers.work.element_types import CODE_OF, NO_TYPE
from analyzers.work.inputs import input_list, read_inputs
from analyzers.work.models.convolution import FORWARD, GRADIENTS, forward_to
from analyzers.work.models.registry import CARRIED_OUT_BY, model_of
from analyzers.work.models.work import Model
from analyzers.work.surrounding import TEXT_COLUMNS, OperatorsAround, operators_around

NO_CLASS = -1
_TEXT_NAMES = ("shapes", "types", "strides", "values")
_MODULE = "module::"
_PARTS_OF_MODULES = (WorkClass.OTHER, WorkClass.QUANTISE, WorkClass.REDUCTION)
_BACKWARD = re.compile(r"autograd::engine::evaluate_function|Backward\d*$")
_FORWARD_ONLY = re.compile(
    r"aten::(linear|conv[123]d|convolution|_convolution|scaled_dot_product_attention|layer_norm"
    r"|batch_norm|native_batch_norm|native_layer_norm)$"
)


@dataclass(frozen=True, eq=False)
class OperatorCalls:
    """What is known about the work of each kernel launch.

    Attributes:
        launches: Rows of ``Facts.launches`` of kernels and whole graphs.
        class_code: Place in ``CLASSES`` of each.
        kernel_class_code: The same by the kernel's name alone.
        call: Row in the trace's operators of the call that each belongs to, -1 for none; launches
            with one number belong together. What ranges tell, and replays, have higher numbers.
        key: Row in ``keys`` of what that call did, -1 for none.
        is_modelled: Whether the work of that call is known, and counted here.
        is_recomputed: Whether each repeats, in a backward pass, what a forward pass had computed.
        keys: One row a different operator with inputs: ``operator``, ``shapes``, ``types``,
            ``strides``, ``values`` (texts), ``flop``, ``needed_flop``, ``bytes`` (of one call, NaN
            unknown), ``type`` (place in ``TYPES``), ``on_matrix_units``, ``is_modelled``.
    """

    launches: Array
    class_code: Array
    kernel_class_code: Array
    call: Array
    key: Array
    is_modelled: Array
    is_recomputed: Array
    keys: pd.DataFrame


def operator_calls(facts: Facts) -> OperatorCalls:
    """Return the work of every kernel launch of a recording."""
    kinds = facts.launches["kind"].to_numpy()
    launches = np.flatnonzero(np.isin(kinds, (KERNEL, GRAPH)))
    codes, ids = pd.factorize(facts.launches["name_id"].to_numpy()[launches])
    names = facts.trace.names(ids) if len(ids) else ids
    by_kernel = kernel_class_codes(names)[codes]
    by_kernel = np.where(kinds[launches] == GRAPH, CODES[WorkClass.GRAPH], by_kernel)
    operators = operators_around(facts, launches)
    if not (operators.innermost >= 0).any():
        return _without_operators(launches, by_kernel)
    chain = _ancestors(operators.innermost, operators.parent)
    types = kernel_type_codes(names)[codes], data_type_codes(names)[codes]
    key_of, keys = _keys(facts, operators, chain, facts.duration_ns[launches], types)
    operators = _without_guests(operators, key_of, keys, by_kernel)
    modelled = keys["is_modelled"].to_numpy()[key_of] & (key_of >= 0)
    call = _nearest(operators.innermost, operators.parent, modelled)
    call = _known_by(call, operators.parent, modelled, _carries_out(keys)[key_of])
    call = np.where(_is_counted_inside(call, operators.parent, key_of, keys), UNKNOWN, call)
    is_modelled = call >= 0
    call = np.where(is_modelled, call, operators.innermost)
    key = np.where(call >= 0, key_of[call], UNKNOWN)
    return OperatorCalls(
        launches=launches,
        class_code=_classes(operators, key_of, keys, call, by_kernel),
        kernel_class_code=by_kernel,
        call=_by_run(call, operators),
        key=key,
        is_modelled=is_modelled,
        is_recomputed=_is_recomputed(operators, key_of, keys),
        keys=keys,
    )


def _without_operators(launches: Array, by_kernel: Array) -> OperatorCalls:
    nothing = np.full(len(launches), UNKNOWN)
    never = np.zeros(len(launches), dtype=bool)
    texts = {name: np.empty(0, object) for name in ("operator", *_TEXT_NAMES)}
    numbers = {name: np.empty(0) for name in ("flop", "needed_flop", "bytes", "type")}
    flags = {name: np.empty(0, bool) for name in ("on_matrix_units", "is_modelled")}
    keys = pd.DataFrame({**texts, **numbers, **flags})
    return OperatorCalls(launches, by_kernel, by_kernel, nothing, nothing, never, never, keys)


def _by_run(call: Array, operators: OperatorsAround) -> Array:
    """Return the calls with a number of its own for each replay of what was captured once."""
    again = (operators.run > 0) & (call >= 0)
    if not again.any():
        return call
    count = len(operators.parent)
    code = pd.factorize(operators.run[again] * count + call[again])[0]
    call = call.copy()
    call[again] = count + code
    return call


# --- operators around launches ---------------------------------------------------------------


def _without_guests(
    operators: OperatorsAround, key_of: Array, keys: pd.DataFrame, by_kernel: Array
) -> OperatorsAround:
    """Take kernels of another kind out of modules whose shapes are known.

    A linear layer quantises what it reads and multiplies; a collective in it is no part of that.
    """
    names = keys["operator"].astype(str)
    is_module = names.str.startswith(_MODULE).to_numpy(bool)
    if not is_module.any():
        return operators
    classes = [operator_class(n) if m else None for n, m in zip(names, is_module, strict=True)]
    own = np.array([NO_CLASS if c is None else CODES[c] for c in classes])
    key = key_of[operators.innermost]
    inside = (operators.innermost >= 0) & is_module[key]
    fits = (by_kernel == own[key]) | np.isin(by_kernel, [CODES[c] for c in _PARTS_OF_MODULES])
    return replace(operators, innermost=np.where(inside & ~fits, UNKNOWN, operators.innermost))


def _ancestors(rows: Array, parent: Array) -> Array:
    """Return every operator around a launch, at any distance."""
    return np.flatnonzero(_marked(rows, parent))


def _marked(rows: Array, parent: Array) -> Array:
    """Return, for every operator, whether it is one of these or around one of them."""
    marked = np.zeros(len(parent), dtype=bool)
    rows = rows[rows >= 0]
    while len(rows):
        marked[rows] = True
        rows = parent[rows]
        rows = rows[rows >= 0]
        rows = np.flatnonzero(_flags(rows, len(parent)) & ~marked)
    return marked


def _flags(rows: Array, count: int) -> Array:
    flags = np.zeros(count, dtype=bool)
    flags[rows] = True
    return flags


def _nearest(rows: Array, parent: Array, chosen: Array) -> Array:
    """Return the nearest operator around each launch that is among the chosen ones, else -1."""
    rows = rows.copy()
    while True:
        climbing = (rows >= 0) & ~chosen[np.maximum(rows, 0)]
        if not climbing.any():
            return rows
        rows[climbing] = parent[rows[climbing]]


def _carries_out(keys: pd.DataFrame) -> Array:
    result: Array = keys["operator"].isin(CARRIED_OUT_BY).to_numpy()
    return result


def _known_by(calls: Array, parent: Array, modelled: Array, carries_out: Array) -> Array:
    """Return the operators by whose name users know the calls: those that they carry out."""
    calls = calls.copy()
    while True:
        outer = np.where(calls >= 0, parent[calls], UNKNOWN)
        climbing = (calls >= 0) & carries_out[calls] & (outer >= 0) & modelled[outer]
        if not climbing.any():
            return calls
        calls[climbing] = outer[climbing]


def _is_counted_inside(calls: Array, parent: Array, key_of: Array, keys: pd.DataFrame) -> Array:
    """Return for each launch whether the work of its call is that of calls inside it.

    Products are counted where they are; what else goes on inside an operator that is one, such as
    adding a bias or changing a layout, is no part of it.
    """
    on_units = keys["on_matrix_units"].to_numpy()[key_of] & (key_of >= 0)
    around_any = _around_others(calls, parent)
    around_products = _around_others(np.where(on_units[calls], calls, UNKNOWN), parent)
    inside = np.where(on_units, around_products, around_any)
    result: Array = (calls >= 0) & inside[calls]
    return result


def _around_others(calls: Array, parent: Array) -> Array:
    """Return, for every operator, whether one of these calls lies inside it."""
    rows = parent[np.flatnonzero(_flags(calls[calls >= 0], len(parent)))]
    return _marked(rows, parent)


# --- what the calls did ------------------------------------------------------------------------


def _keys(
    facts: Facts,
    operators: OperatorsAround,
    chain: Array,
    duration_ns: Array,
    types: tuple[Array, Array],
) -> tuple[Array, pd.DataFrame]:
    """Return the row in the table of different calls of each operator in ``chain``, and the table.

    Types that are not recorded, as those of lists, are taken from the longest kernel's name: the
    first of ``types``; for ranges, which tell no types at all, the second, more careful one.
    """
    table = operators.table
    code = np.zeros(len(chain), np.int64)
    for name in ("name_id", *TEXT_COLUMNS):
        column, values = pd.factorize(table[name][chain])
        if len(values) > 1:
            code = pd.factorize(code * len(values) + column)[0]
    count = int(code.max()) + 1
    first = np.full(count, -1)
    first[code[::-1]] = np.arange(len(code))[::-1]
    key_of = np.full(len(operators.parent), UNKNOWN, np.int64)
    key_of[chain] = code
    texts = {
        name: operators.names(facts, table[column][chain[first]])
        for name, column in zip(("operator", *_TEXT_NAMES), ("name_id", *TEXT_COLUMNS), strict=True)
    }
    keys = pd.DataFrame(texts)
    if (keys["shapes"] == "").all():  # nobody asks for types
        return key_of, keys.assign(**_work_of(keys, np.full(count, NO_TYPE)))
    longest = _longest_type(operators, key_of, count, duration_ns, types[0])
    of_range = chain[first] >= operators.recorded
    if of_range.any():
        careful = _longest_type(operators, key_of, count, duration_ns, types[1])
        longest = np.where(of_range, np.where(careful == MIXED, NO_TYPE, careful), longest)
    return key_of, keys.assign(**_work_of(keys, longest))


def _longest_type(
    operators: OperatorsAround, key_of: Array, count: int, duration_ns: Array, kernel_types: Array
) -> Array:
    """Return, for each kind of call, the type that its longest kernel's name tells."""
    told_by = np.flatnonzero(kernel_types != NO_TYPE)
    told_by = told_by[np.argsort(duration_ns[told_by], kind="stable")]
    result = np.full(count, NO_TYPE)
    longest = np.full(count, -1)
    rows = operators.innermost[told_by]
    while True:
        inside = rows >= 0
        if not inside.any():
            return result
        key, ns = key_of[rows[inside]], duration_ns[told_by[inside]]
        best = np.full(count, -1)
        best[key] = ns  # sorted: the last, and longest, stays
        kind = np.full(count, NO_TYPE)
        kind[key] = kernel_types[told_by[inside]]
        longer = best > longest
        longest, result = np.where(longer, best, longest), np.where(longer, kind, result)
        rows = np.where(inside, operators.parent[rows], UNKNOWN)


def _work_of(keys: pd.DataFrame, kernel_types: Array) -> dict[str, Array]:
    """Return the columns of the work of each kind of call, model by model."""
    numbers = {name: np.full(len(keys), np.nan) for name in ("flop", "needed_flop", "bytes")}
    kind = np.full(len(keys), NO_TYPE)
    on_matrix_units = np.zeros(len(keys), dtype=bool)
    models: dict[Model, list[Array]] = {}
    codes, names = pd.factorize(keys["operator"])
    for name, rows in zip(names, _places(codes, len(names)), strict=True):
        if (model := model_of(str(name))) is not None:
            models.setdefault(model, []).append(rows)
    for model, parts in models.items():
        rows = np.concatenate(parts)
        rows = rows[keys["shapes"].to_numpy()[rows] != ""]
        if not len(rows):
            continue
        shapes, types, strides, values = (
            keys[name].to_numpy()[rows].tolist() for name in _TEXT_NAMES
        )
        with np.errstate(all="ignore"):  # what is not recorded is NaN, and stays it
            work = model(read_inputs(shapes, types, strides, values, kernel_types[rows]))
        numbers["flop"][rows], numbers["needed_flop"][rows] = work.flop, work.least_flop
        numbers["bytes"][rows] = work.bytes
        kind[rows], on_matrix_units[rows] = work.type, work.on_matrix_units
    _complete_convolutions(keys, numbers, kind, on_matrix_units, kernel_types)
    is_tf32 = (kind == CODE_OF["fp32"]) & (kernel_types == CODE_OF["tf32"])
    for column in numbers.values():
        column[~np.isfinite(column) | (column < 0)] = np.nan
    return {
        **numbers,
        "type": np.where(is_tf32, CODE_OF["tf32"], kind),
        "on_matrix_units": on_matrix_units,
        "is_modelled": np.isfinite(numbers["bytes"]),
    }


def _complete_convolutions(
    keys: pd.DataFrame, numbers: dict[str, Array], kind: Array, on_units: Array, kernel_types: Array
) -> None:
    """Write the work of forward convolutions whose strides were not recorded, if it can be known.

    The gradient of the output has its shape: it is that of a backward operator with the same input
    and filter.
    """
    made = {}
    for row in np.flatnonzero(keys["operator"].isin(GRADIENTS)):
        shapes, places = input_list(keys["shapes"].iloc[row]), GRADIENTS[keys["operator"].iloc[row]]
        if len(shapes) > max(places):
            gradient, x, weight = (shapes[place] for place in places)
            made[repr((x, weight))] = gradient
    rows, shapes_of, types_of = [], [], []
    lacking = keys["operator"].isin(FORWARD) & np.isnan(numbers["bytes"]) if made else ()
    for row in np.flatnonzero(lacking):
        shapes, types = (input_list(keys[name].iloc[row]) for name in ("shapes", "types"))
        gradient = made.get(repr(tuple(shapes[:2])))
        if gradient is not None:
            types += [""] * (2 - len(types))
            rows.append(row)
            shapes_of.append(json.dumps([*shapes[:2], gradient]))
            types_of.append(json.dumps([*types[:2], types[0]]))
    if not rows:
        return
    nothing = [""] * len(rows)
    work = forward_to(read_inputs(shapes_of, types_of, nothing, nothing, kernel_types[rows]))
    numbers["flop"][rows], numbers["needed_flop"][rows] = work.flop, work.flop
    numbers["bytes"][rows], kind[rows], on_units[rows] = work.bytes, work.type, True


def _places(codes: Array, count: int) -> list[Array]:
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.searchsorted(codes[order], np.arange(1, count)))


def _classes(
    operators: OperatorsAround, key_of: Array, keys: pd.DataFrame, call: Array, by_kernel: Array
) -> Array:
    """Return the class of each launch: of its call, its kernel, or what is around its call."""
    codes, names = pd.factorize(keys["operator"])
    of_name = [operator_class(str(name)) for name in names]
    of_key = np.array([NO_CLASS if c is None else CODES[c] for c in of_name], dtype=np.int8)[codes]
    has_class = (key_of >= 0) & (of_key[key_of] != NO_CLASS)
    own = np.where(call >= 0, of_key[key_of[call]], NO_CLASS)
    own = np.where(own == NO_CLASS, by_kernel, own)
    outer = _nearest(operators.innermost, operators.parent, has_class)
    is_odd = (own == CODES[WorkClass.OTHER]) & (outer >= 0)
    result: Array = np.where(is_odd, of_key[key_of[outer]], own).astype(np.int8)
    return result


def _is_recomputed(operators: OperatorsAround, key_of: Array, keys: pd.DataFrame) -> Array:
    """Return which launches a backward pass made of a forward operator.

    Functions such as ``linear`` exist in forward passes only; inside the evaluation of a backward
    function, they compute activations again.
    """
    names = keys["operator"].astype(str)
    is_backward = names.str.contains(_BACKWARD, regex=True).to_numpy(dtype=bool)
    is_forward = names.str.fullmatch(_FORWARD_ONLY).to_numpy(dtype=bool)
    rows = operators.innermost.copy()
    saw_forward = np.zeros(len(rows), dtype=bool)
    recomputed = np.zeros(len(rows), dtype=bool)
    while (rows >= 0).any():
        key = np.where(rows >= 0, key_of[rows], UNKNOWN)
        recomputed |= saw_forward & (key >= 0) & is_backward[key]
        saw_forward |= (key >= 0) & is_forward[key]
        rows = np.where(rows >= 0, operators.parent[rows], UNKNOWN)
    return recomputed
