"""A stand-in for a CUDA graph on a CPU: the operations of one call, on the very tensors it used, to be run again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

_aten = torch.ops.aten
WAITING = {_aten._local_scalar_dense, _aten.item, _aten.is_nonzero, _aten.nonzero, _aten.equal}
"""What brings a value back to the host, or makes a shape of one."""


class Tape(TorchDispatchMode):
    """Records every operation inside its block. As in a CUDA capture, nothing done there has an effect, and Python's own values
    are frozen: a replay reads and writes the same addresses with the same shapes, whatever Python would do now."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self._before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func.overloadpacket in WAITING:
            raise RuntimeError("operation not permitted when stream is capturing")
        kwargs = kwargs or {}
        given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        for argument in func._schema.arguments:
            if argument.alias_info is not None and argument.alias_info.is_write and argument.name in given:
                value = given[argument.name]
                self._before.setdefault(value.data_ptr(), (value, value.clone()))
        result = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, result))
        return result

    def undo(self) -> None:
        """Put back what was written."""
        for tensor, earlier in reversed(self._before.values()):
            tensor.copy_(earlier)

    def replay(self) -> None:
        with torch.inference_mode():
            for func, args, kwargs, result in self.operations:
                for old, new in zip(tree_flatten(result)[0], tree_flatten(func(*args, **kwargs))[0], strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def capture_on_tape(step: Callable[[], None]) -> Callable[[], None]:
    """`engine.graph.Capture` on any device."""
    step()
    tape = Tape()
    with torch.inference_mode(), tape:
        step()
    with torch.inference_mode():
        tape.undo()
    return tape.replay
