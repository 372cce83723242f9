"""Frames of Python stacks as the torch profiler names them: whose code they are, and their words.

A frame is called ``FILE(LINE): FUNCTION``, where ``LINE`` is the one on which the function begins;
the profiler leaves out of ``FILE`` what stands in ``sys.path`` (``torch/csrc/autograd/
profiler_python.cpp`` in PyTorch). Built-in functions and modules have names of their own.
"""

from __future__ import annotations

import enum
import re
import sys

import numpy as np

from analyzers.intervals import Array

_FRAME = re.compile(r"(?P<file>.+?)\((?P<line>\d+)\): (?P<function>.+)", re.DOTALL)
_INSTALLED = re.compile(r"^.*(?:site|dist)-packages/")
_STANDARD = re.compile(r"(?:^|/)lib(?:64)?/python3[^/]*/")

# What runs a program rather than is one: nobody can change a line of it.
_MACHINERY = {
    *("torch", "torchgen", "functorch", "torchvision", "torchaudio", "triton", "apex", "nvtx"),
    *("numpy", "pandas", "scipy", "PIL", "tqdm", "cupy", "numba", "debugpy", "pydevd", "IPython"),
    *("ipykernel", "_pytest", "pluggy", "pkg_resources", "setuptools", "runpy"),
}
# Libraries of models and loops: a line of them says more than none, and less than the user's own.
_LIBRARIES = {
    *("transformers", "accelerate", "diffusers", "peft", "trl", "datasets", "huggingface_hub"),
    *("lightning", "lightning_fabric", "pytorch_lightning", "deepspeed", "ignite", "fastai"),
    *("timm", "torchmetrics", "torchtune", "torchtitan", "torchrec", "torch_geometric", "dgl"),
    *("mmcv", "mmengine", "mmdet", "detectron2", "monai", "ultralytics", "composer", "fairscale"),
    *(
        "vllm",
        "sglang",
        "xformers",
        "flash_attn",
        "bitsandbytes",
        "einops",
        "sentence_transformers",
    ),
    *("sklearn", "ray", "megatron", "transformer_engine", "torchdata", "webdataset", "kornia"),
}


class Owner(enum.IntEnum):
    """Whose code a frame is."""

    MACHINERY = 0  # of Python, of PyTorch, or no frame at all
    LIBRARY = 1
    USER = 2


def frame_owner(name: str) -> Owner:
    """Return whose code a frame is, by its file."""
    match = _FRAME.fullmatch(name)
    if match is None:
        return Owner.MACHINERY
    file = match["file"].replace("\\", "/")
    if file.startswith("<"):
        return Owner.USER if file.startswith("<ipython-input") else Owner.MACHINERY
    is_installed = _INSTALLED.match(file) is not None
    file = _INSTALLED.sub("", file)
    if _STANDARD.search(file):
        return Owner.MACHINERY
    top = file.split("/")[0].removesuffix(".py")
    if top in _MACHINERY or (not is_installed and top in sys.stdlib_module_names):
        return Owner.MACHINERY
    return Owner.LIBRARY if is_installed or top in _LIBRARIES else Owner.USER


def frame_owners(names: Array) -> Array:
    """Return the ``Owner`` of each name."""
    return np.array([frame_owner(str(n)) for n in names], dtype=np.int8)


def frame_text(name: str) -> str:
    """Write a frame for a sentence: ``step (train.py:42)``; what is none stays as it is."""
    match = _FRAME.fullmatch(name)
    if match is None:
        return name
    file = match["file"].replace("\\", "/").rpartition("/")[2]
    return f"{match['function']} ({file}:{match['line']})"
