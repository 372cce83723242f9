"""What a reader calls a range into whose text a library wrote numbers and shapes.

PyTorch adds ``, seq = 12, op_id = 5, sizes = [[64, 256], []], input_op_ids = [(4,0)]`` to the name
of an operator (``getNvtxStr`` in ``torch/csrc/profiler/util.cpp``); hooks around modules of
inference engines write a ``dict`` that begins with the module's name.
"""

from __future__ import annotations

import re

_DETAILS = re.compile(r", ?(?:op_id|seq|sizes|input_op_ids) ?=")
_OPERATOR = re.compile(r"(?:aten|autograd|c10d?|nccl|prims|quantized|torch\w*)::\w")
# With PyTorch's details behind it, any other library's operator is one, too: _C::rms_norm.
_DETAILED_OPERATOR = re.compile(r"(?:\w+::)+\w|\w+Backward\d*$")
_MODULE = re.compile(r"""\{\s*["']Module["']:\s*["']([^"']{1,300})["']""")


def range_name(text: str) -> tuple[str, bool]:
    """Return what a reader calls a range, and whether it is a call of an operator of PyTorch."""
    if text.startswith("{"):
        module = _MODULE.match(text)
        return (module[1] if module else text), False
    details = _DETAILS.search(text)
    if details is None:
        return text, _OPERATOR.match(text) is not None
    name = text[: details.start()]
    return name, (_OPERATOR.match(name) or _DETAILED_OPERATOR.match(name)) is not None
