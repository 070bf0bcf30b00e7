"""A second device on a machine with one: tensors that say `meta` compute on the CPU, and refuse to meet a tensor of the CPU as a GPU's do.

Exact, so that what is trained there is, bit for bit, what is trained on the CPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

ELSEWHERE = torch.device("meta")
_aten = torch.ops.aten
MOVES = {_aten._to_copy, _aten.copy_, _aten._foreach_copy_}
"""What may read from one device and write to the other."""
INDEXES = {_aten.index, _aten.index_put, _aten.index_put_}
"""What a GPU takes indices from the CPU for."""


class Away(Tensor):
    """A tensor of the other device; `held` is where it is computed."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Away:
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=ELSEWHERE
        )
        made.held = held
        return made  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        target = kwargs.pop("device", None)
        _meet(func, args, kwargs)
        done = func(*tree_map(_in, args), **tree_map(_in, kwargs))
        if func.overloadpacket is _aten._to_copy and target is not None and torch.device(target) != ELSEWHERE:
            return done
        return return_and_correct_aliasing(func, args, kwargs, tree_map(_out, done))


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Inside, what is made on `ELSEWHERE` or sent there is `Away`."""
    with _Made(), _Sent():
        yield


class _Made(TorchFunctionMode):
    """What asks no dispatcher: lists made tensors of `meta` lose their values, and `tolist` takes torch's own tensors only."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor and kwargs.get("device") is not None and torch.device(kwargs["device"]) == ELSEWHERE:
            return Away(func(*args, **{**kwargs, "device": "cpu"}))
        if func is Tensor.__getitem__ and isinstance(args[1], list):
            return func(args[0], torch.tensor(args[1]))
        if func is Tensor.tolist:
            return func(_in(args[0]))
        return func(*args, **kwargs)


class _Sent(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        away = [part for part in tree_flatten((args, kwargs))[0] if isinstance(part, Away)]
        if away:
            return Away.__torch_dispatch__(func, types, args, kwargs)
        if kwargs.get("device") is not None and torch.device(kwargs["device"]) == ELSEWHERE:
            return tree_map(_out, func(*args, **{**kwargs, "device": torch.device("cpu")}))
        return func(*args, **kwargs)


def move(module: nn.Module) -> None:
    """Put all weights and buffers of `module` elsewhere."""
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            part._parameters[name] = nn.Parameter(Away(weight.detach()), weight.requires_grad)
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = Away(buffer)


def _meet(func: Any, args: Any, kwargs: Any) -> None:
    if func.overloadpacket in MOVES:
        return
    tensors = [part for part in tree_flatten((args[:1] if func.overloadpacket in INDEXES else args, kwargs))[0] if isinstance(part, Tensor)]
    if any(not isinstance(part, Away) and part.dim() > 0 for part in tensors):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device")


def _in(part: Any) -> Any:
    return part.held if isinstance(part, Away) else part


def _out(part: Any) -> Any:
    return Away(part) if isinstance(part, Tensor) and not isinstance(part, Away) else part
