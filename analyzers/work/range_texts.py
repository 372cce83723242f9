"""What libraries write into the texts of NVTX ranges: operators, modules, and their inputs.

* PyTorch under ``emit_nvtx(record_shapes=True)`` or ``nsys profile
  --pytorch=autograd-shapes-nvtx`` (``getNvtxStr`` in ``torch/csrc/profiler/util.cpp``):
  ``aten::addmm, seq = 12, op_id = 5, sizes = [[128], [64, 256], [256, 128], [], []], input_op_ids =
  [(4,0)]``. What is no tensor has ``[]``; lists of tensors are flattened; types, strides and
  numbers are not written.
* Hooks around modules, as TensorRT-LLM, vLLM and SGLang have them (``LayerwiseNvtxMarker``):
  ``{'Module': 'model.layers.0.mlp.down_proj', 'TrainableParams': {'weight': [4096, 14336]},
  'Inputs': [[2048, 14336]]}``, a Python ``dict`` or JSON.
* PyProf, as DLProf used it: ``{'mod': 'torch', 'op': 'matmul', 'args': [{'type': 'tensor',
  'shape': (64, 256), 'dtype': 'float16'}, …]}``.

Texts are of strangers: they are cut to a length, decoded as JSON, and never evaluated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import numpy as np

from analyzers.facts.range_texts import range_name
from analyzers.intervals import Array

MAX_TEXT = 16_384  # characters that are looked at; the longest seen has 2,000
MAX_NAME = 300

_SIZES = ", sizes = "
_NO_SIZES = "no sizes"
_LIST_FIRST = frozenset(f"aten::{name}" for name in ("cat", "_cat", "stack", "hstack", "vstack"))
# Which sizes belong to which list is not written, nor which dimension an index is of.
_MANY_LISTS = re.compile(r"aten::(?:_foreach_|_fused_|_amp_foreach|_?index|_unsafe_index|einsum)")
_LONG, _BOOL, _FLOAT = "long int", "bool", "float"
_TYPES: dict[str, tuple[str, ...]] = {
    "aten::embedding": ("", _LONG),
    "aten::embedding_dense_backward": ("", _LONG),
    "aten::gather": ("", "Int", _LONG),
    "aten::scatter_add_": ("", "Int", _LONG),
    "aten::where": (_BOOL,),
    "aten::masked_fill": ("", _BOOL),
    "aten::masked_fill_": ("", _BOOL),
    "aten::native_dropout_backward": ("", _BOOL),
    "aten::native_layer_norm_backward": ("", "", "ScalarList", _FLOAT, _FLOAT),
    "aten::nll_loss_forward": ("", _LONG),
    "aten::nll_loss_backward": ("", "", _LONG),
}
"""Types that an operator's inputs always have, where they are not those of its data."""

_CAUSAL: dict[str, int] = {
    "aten::scaled_dot_product_attention": 5,
    "aten::_scaled_dot_product_flash_attention": 4,
    "aten::_scaled_dot_product_efficient_attention": 6,
    "aten::_scaled_dot_product_cudnn_attention": 6,
    "aten::_scaled_dot_product_fused_attention_overrideable": 5,
    "aten::_scaled_dot_product_flash_attention_backward": 11,
    "aten::_scaled_dot_product_efficient_attention_backward": 11,
    "aten::_scaled_dot_product_cudnn_attention_backward": 14,
}
"""Where the flag stands that halves the work of attention. It is not written: the least counts."""


class RangeText(NamedTuple):
    """What the text of a range says.

    Attributes:
        name: What a reader calls it: without numbers and sizes.
        operator: Operator that it is a call of, empty for none.
        shapes: Shapes of its inputs, a JSON list as in ``Input Dims`` of a torch trace.
        types: Their types, empty where they are not those of the kernel's data.
        numbers: Texts of what was passed by value.
    """

    name: str
    operator: str = ""
    shapes: str = ""
    types: str = ""
    numbers: str = ""


def read_range_texts(texts: Iterable[str]) -> tuple[Array, list[RangeText]]:
    """Return what each text says as a place among the different answers, and those.

    Nearly every text is another one, for the number of its operator; the answers are few.
    """
    places: dict[tuple[str, str], int] = {}
    codes = [places.setdefault(_key(text), len(places)) for text in texts]
    return np.array(codes, dtype=np.int64), [_read(*key) for key in places]


def _key(text: str) -> tuple[str, str]:
    """Return what decides about an answer: name and sizes of an operator, else the text."""
    if text.startswith("{"):
        return text, ""
    head = text[:MAX_TEXT]
    name, is_operator = range_name(head)
    if not is_operator:
        return name, ""
    place = head.find(_SIZES, len(name))
    end = head.find("]]", place) if place >= 0 else -1
    return name, head[place + len(_SIZES) : end + 2] if end >= 0 else _NO_SIZES


def _read(name: str, sizes: str) -> RangeText:
    if name.startswith("{"):
        return _of_dict(name) or RangeText(name)
    if not sizes or len(name) > MAX_NAME:
        return RangeText(name)
    if sizes == _NO_SIZES or _MANY_LISTS.match(name):
        return RangeText(name, name)
    return _sized(name, sizes)


def _sized(name: str, sizes: str) -> RangeText:
    """Return a call of PyTorch whose sizes stand as a JSON list."""
    types = _TYPES.get(name)
    if name in _LIST_FIRST:
        shapes: Any = _decoded(sizes)
        if not isinstance(shapes, list) or len(shapes) < 2:
            return RangeText(name, name)
        sizes = json.dumps([shapes[:-1], shapes[-1]])
        types = ("TensorList", "Int")
    place = _CAUSAL.get(name)
    values = "" if place is None else json.dumps([""] * place + ["True"])
    return RangeText(name, name, sizes, json.dumps(types) if types else "", values)


def _decoded(text: str) -> Any:
    """Return what a text says as JSON, None for another."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return None


_AS_JSON = (("'", '"'), ("(", "["), (",)", "]"), (")", "]"), ("None", "null"))
_WORDS = (("True", "true"), ("False", "false"))


def _of_dict(text: str) -> RangeText | None:
    """Return what a ``dict`` or a JSON object says of a module or a function; None for others."""
    if len(text) > MAX_TEXT:
        return None
    content = _decoded(text)
    if content is None:
        for python, as_json in (*_AS_JSON, *_WORDS):
            text = text.replace(python, as_json)
        content = _decoded(text)
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("Module"), str):
        return _of_module(content["Module"], content)
    if isinstance(content.get("op"), str) and isinstance(content.get("args"), list):
        return _of_function(content["op"], content["args"])
    return None


def _of_module(name: str, content: dict[str, Any]) -> RangeText:
    """Return the call of a module, by what the shapes of its weights and inputs say it is."""
    plain = RangeText(name[:MAX_NAME] or "module")
    weights, inputs = content.get("TrainableParams"), content.get("Inputs")
    weights = weights if isinstance(weights, dict) else {}
    weight, bias = (_plain_shape(weights.get(key)) for key in ("weight", "bias"))
    shapes = [_plain_shape(one) for one in inputs] if isinstance(inputs, list) else []
    first = shapes[0] if shapes else None
    if not weight or not first:
        return plain
    operator, types, places = "", "", [first, weight]
    if len(weight) == 2 and len(first) > 1 and first[-1] == weight[-1]:
        operator, places = "module::linear", [*places, bias or []]
    elif len(weight) == 2 and len(first) == 1 and "embed" in name:
        operator, types = "module::embedding", json.dumps([_LONG, ""])
    elif len(weight) == 1 and "norm" in name and first[-1] == weight[0]:
        residual = first if first in shapes[1:2] else []
        operator, places = "module::norm", [*places, residual]
    return RangeText(plain.name, operator, json.dumps(places) if operator else "", types)


def _plain_shape(shape: Any) -> list[int] | None:
    """Return a list of whole numbers; None for anything else."""
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        return None
    return shape


def _of_function(name: str, arguments: list[Any]) -> RangeText:
    """Return the call of a function of PyTorch whose arguments are all written."""
    operator = name if "::" in name else f"aten::{name}"
    parts = [one if isinstance(one, dict) else {} for one in arguments]
    is_tensor = [one.get("type") == "tensor" for one in parts]
    shapes: list[Any] = [
        one.get("shape") if t else [] for one, t in zip(parts, is_tensor, strict=True)
    ]
    types = [one.get("dtype") if t else "Scalar" for one, t in zip(parts, is_tensor, strict=True)]
    values = [_value_text(one.get("value")) for one in parts]
    texts = (json.dumps(column) for column in (shapes, types, values))
    return RangeText(name[:MAX_NAME], operator[:MAX_NAME], *texts)


def _value_text(value: Any) -> str:
    return (
        "" if value is None else json.dumps(value).replace("true", "True").replace("false", "False")
    )
