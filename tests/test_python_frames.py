"""Whose code a frame of a Python stack is, and how a sentence writes it."""

import pytest

from analyzers.facts.python_frames import Owner, frame_owner, frame_text


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("train.py(42): step", Owner.USER),
        ("/home/me/project/model.py(7): forward", Owner.USER),
        ("mypackage/loop.py(1): run", Owner.USER),
        (r"C:\code\train.py(3): main", Owner.USER),
        ("<ipython-input-3-ab12>(1): <module>", Owner.USER),
        ("transformers/models/bert/modeling_bert.py(1100): forward", Owner.LIBRARY),
        ("/opt/venv/lib/python3.11/site-packages/unheard_of/a.py(1): f", Owner.LIBRARY),
        ("torch/nn/modules/module.py(1501): _call_impl", Owner.MACHINERY),
        ("/opt/venv/lib/python3.11/site-packages/torch/_tensor.py(1): f", Owner.MACHINERY),
        ("threading.py(1032): _bootstrap", Owner.MACHINERY),
        ("/usr/lib/python3.11/json/decoder.py(3): decode", Owner.MACHINERY),
        ("<frozen os>(808): getenv", Owner.MACHINERY),
        ("<string>(2): __init__", Owner.MACHINERY),
        ("<built-in method item of Tensor object at 0x7f>", Owner.MACHINERY),
        ("nn.Module: Linear_0", Owner.MACHINERY),
    ],
)
def test_a_frame_belongs_to_whom_its_file_does(name, owner):
    assert frame_owner(name) == owner


def test_a_frame_is_written_as_function_file_and_line():
    assert frame_text("/home/me/project/model.py(7): forward") == "forward (model.py:7)"
    assert frame_text(r"C:\code\train.py(3): main") == "main (train.py:3)"
    assert frame_text("<ipython-input-3>(1): <module>") == "<module> (<ipython-input-3>:1)"
    assert frame_text("nn.Module: Linear_0") == "nn.Module: Linear_0"
