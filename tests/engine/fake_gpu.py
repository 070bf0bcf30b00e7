"""A CUDA device without a GPU: tensors have its device, shapes, copies and lifetimes, but no memory and no values.

Runs the engine as it is, at any size, on torch's `FakeTensorMode`. An operation that mixes devices fails as it does on a GPU. One that
waits for the device fails too, since there is no value to wait for. Kernel launches, copies from the host, attention calls and the peak of
live bytes are recorded. Needs neither a GPU nor a torch built for CUDA. The encoders do not run on it: transformers computes their windows
from values.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from omnidrop_cli.model import decoder_layer
from omnidrop_cli.model.adapter import QwenOmniAdapter, set_attention
from omnidrop_cli.model.cuda_capture import CudaCapture
from omnidrop_cli.model.names import QWEN_BOUNDS
from omnidrop_cli.model.random_weights import thinker_config, tiny_tokenizer
from omnidrop_cli.model.sizes import ThinkerSizes
from omnidrop_cli.model.thinker import Thinker
from omnidrop_cli.outputs import LoadedModel

GPU = torch.device("cuda:0")

NF4_BLOCK, SCALES_PER_SCALE = 64, 256
FUSED_ROWS = 1_536
"""Rows up to which bitsandbytes may multiply with 4-bit weights in one kernel; with more it unpacks them first."""

READS_VALUES = {
    *("item", "_local_scalar_dense", "is_nonzero", "equal"),
    *("nonzero", "masked_select", "_unique2", "unique_consecutive", "unique_dim"),
}
"""Operations that give a value to the host, or whose output's size depends on values."""


PRODUCTS = {"mm", "bmm", "matmul", "linear", "addmm", "addmm_", "baddbmm"}


class HostWait(AssertionError):
    """The host would wait for the GPU here."""


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """Arguments of one call of SDPA. Shapes are (batch, heads, rows, head size)."""

    queries: tuple[int, ...]
    keys: tuple[int, ...]
    dtype: torch.dtype
    masked: bool
    causal: bool

    @property
    def flash(self) -> bool:
        """Whether flash attention takes this call on Ampere and later GPUs (torch's `sdp_utils.cpp`). Other kernels are slower, or keep
        the whole matrix of weights."""
        aligned = not self.causal or self.queries[2] == self.keys[2]
        return not self.masked and aligned and self.dtype in (torch.float16, torch.bfloat16) and self.queries[3] <= 256


@dataclass(slots=True)
class Recorder:
    """What the fake GPU was asked to do since `reset`.

    Attributes:
        launches: kernels by the operation that launches them; one each, where a sort takes several. A captured graph is one.
        copies: copies from pageable memory of the host, for which it waits, by place.
        forbid_copies: makes such a copy an error.
        attention: calls of SDPA in order.
        float32_flop: floating-point operations of matrix products in float32, which tensor cores do not run at full precision.
        peak_mb: most megabytes (1e6 bytes) that were live, without the weights.
    """

    launches: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    forbid_copies: bool = False
    attention: list[AttentionCall] = field(default_factory=list)
    float32_flop: float = 0.0
    _live: dict[int, tuple[StorageWeakRef, int]] = field(default_factory=dict)
    _now: int = 0
    _peak: int = 0

    @property
    def peak_mb(self) -> float:
        return self._peak / 1e6

    def reset(self) -> None:
        """Begin to count again. What is live stays so."""
        self.launches.clear()
        self.copies.clear()
        self.attention.clear()
        self.float32_flop = 0.0
        self._sweep()
        self._peak = self._now

    def forget(self) -> None:
        """Do not count what is live now: the weights."""
        self._live.clear()
        self._now = 0
        self.reset()

    def copy_from_host(self) -> None:
        """The host waits for a copy to the GPU."""
        if self.forbid_copies:
            raise HostWait(f"a copy from the host, {_place()}")
        self.copies[_place()] += 1

    def allocate(self, tensor: Tensor) -> None:
        """Count the storage of `tensor` for as long as it is live."""
        storage = tensor.untyped_storage()
        self._now -= self._live.pop(storage._cdata, (None, 0))[1]  # an earlier storage at this address, which is dead
        self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._now += storage.nbytes()
        if self._now > self._peak:
            self._sweep()
            self._peak = max(self._peak, self._now)

    def _sweep(self) -> None:
        dead = [key for key, (reference, _) in self._live.items() if reference.expired()]
        self._now -= sum(self._live.pop(key)[1] for key in dead)


class FakeGpu:
    """A fake GPU. Tensors of CUDA devices may be used inside `active` only.

    Args:
        capability: its compute capability.
    """

    def __init__(self, capability: tuple[int, int] = (9, 0)) -> None:
        self.recorder = Recorder()
        self._capability = capability
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside the block CUDA tensors are those of this GPU."""
        with ExitStack() as stack:
            stack.enter_context(patch("torch.cuda.get_device_capability", lambda device=None: self._capability))
            stack.enter_context(patch.object(CudaCapture, "__call__", lambda _, step: self._captured(step)))
            stack.callback(decoder_layer._shares_keys.cache_clear)
            decoder_layer._shares_keys.cache_clear()
            for mode in (self._fake, _Operations(self.recorder), _Bindings(self.recorder), torch.inference_mode()):
                stack.enter_context(mode)
            yield

    def _captured(self, step: Callable[[], None]) -> Callable[[], None]:
        """What `CudaCapture` does: a run as a warm-up, and one that is recorded, which launches nothing."""
        step()
        launches = self.recorder.launches.copy()
        step()
        self.recorder.launches = launches

        def replay() -> None:
            self.recorder.launches["graph"] += 1

        return replay

    def thinker(self, sizes: ThinkerSizes) -> Thinker:
        """A thinker on this GPU, NF4 and bfloat16. Its weights do not count as live."""
        tokenizer = tiny_tokenizer()
        config = thinker_config(sizes, tokenizer)
        set_attention(config, "sdpa")
        with torch.device("meta"):
            model = Qwen2_5OmniThinkerForConditionalGeneration(config).eval()
        loaded = LoadedModel("fake", "no weights", "nf4", str(GPU), "bfloat16", "sdpa", sizes.decoder.num_layers)
        with self.active():
            for layer in QwenOmniAdapter(model).layers:
                for name, module in list(layer.named_modules()):
                    if type(module) is nn.Linear:
                        layer.set_submodule(name, NF4Linear(module))
            for module in model.modules():
                for name, parameter in module._parameters.items():
                    if parameter is not None and not parameter.is_cuda:
                        module._parameters[name] = _parameter(*parameter.shape, dtype=torch.bfloat16)
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=GPU)
        self.recorder.forget()
        return Thinker.assemble(model, tokenizer, loaded, QWEN_BOUNDS)


class NF4Linear(nn.Module):
    """The tensors of bitsandbytes' `Linear4bit`, and the kernels that its product launches on a GPU."""

    def __init__(self, replaced: nn.Linear) -> None:
        super().__init__()
        self.out_features, self.in_features = replaced.weight.shape
        count = replaced.weight.numel()
        self.weight = _parameter(count // 2, 1, dtype=torch.uint8)
        self.scales = _parameter(count // NF4_BLOCK, dtype=torch.uint8)
        self.scales_of_scales = _parameter(-(-count // (NF4_BLOCK * SCALES_PER_SCALE)), dtype=torch.float32)
        self.bias = replaced.bias

    def forward(self, rows: Tensor) -> Tensor:
        """The product: one kernel for few rows. For more the scales and then the weights are unpacked, and multiplied as usual."""
        if rows.numel() // self.in_features <= FUSED_ROWS:
            return rows.new_zeros(*rows.shape[:-1], self.out_features)
        scales = torch.zeros(self.scales.shape, dtype=torch.float32, device=rows.device)
        scales = scales + 1.0
        return linear(rows, rows.new_zeros(self.out_features, self.in_features), self.bias)


def _parameter(*shape: int, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape, dtype=dtype, device=GPU), requires_grad=False)


# ---------------------------------------------------------------- what sees the calls


class _Operations(TorchDispatchMode):
    """Sees every operation on its way to a device."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        named = kwargs or {}
        name = func._schema.name.partition("::")[2]
        inputs = [tensor for tensor in tree_leaves((args, named)) if isinstance(tensor, Tensor)]
        on_gpu = any(tensor.is_cuda for tensor in inputs)
        if on_gpu and name in READS_VALUES:
            raise HostWait(f"{name}, {_place()}")
        target = named.get("device")
        if name == "_to_copy" and target is not None and torch.device(target).type != inputs[0].device.type:
            return self._copy_across(inputs[0], torch.device(target), named)
        output = func(*args, **named)
        known = {tensor.untyped_storage()._cdata for tensor in inputs}
        outputs = [tensor for tensor in tree_leaves(output) if isinstance(tensor, Tensor)]
        if on_gpu and any(tensor.device.type == "cpu" for tensor in outputs):
            raise HostWait(f"a copy to the host, {_place()}")
        fresh = [tensor for tensor in outputs if tensor.is_cuda and tensor.untyped_storage()._cdata not in known]
        if (fresh and not name.removeprefix("new_").startswith("empty")) or (on_gpu and func._schema.is_mutable):
            self.recorder.launches[name] += 1  # anything else is a view
        for tensor in fresh:
            self.recorder.allocate(tensor)
        if name in PRODUCTS and on_gpu and inputs[-1].dtype == torch.float32:
            self.recorder.float32_flop += 2 * outputs[0].numel() * args[1 if name.startswith(("addmm", "baddbmm")) else 0].shape[-1]
        return output

    def _copy_across(self, source: Tensor, target: torch.device, named: Mapping[str, Any]) -> Tensor:
        if target.type == "cpu":
            raise HostWait(f"a copy to the host, {_place()}")
        if target.type == "cuda" and not named.get("non_blocking"):
            self.recorder.copy_from_host()
        self.recorder.launches["copy from the host"] += 1
        return torch.empty(source.shape, dtype=named.get("dtype") or source.dtype, device=target)


class _Bindings(TorchFunctionMode):
    """Sees every call of torch's Python functions. Those that a torch without CUDA refuses for CUDA tensors are done by the operations
    that they consist of."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        named = kwargs or {}
        if func is scaled_dot_product_attention:
            return self._attend(*args, **named)
        if func in (torch.tensor, torch.as_tensor) and torch.device(named.get("device") or "cpu").type == "cuda":
            return _to(func(*args, **{**named, "device": "cpu"}), GPU)
        own = args[0] if args else None
        if func is Tensor.to and isinstance(own, Tensor):
            return _moved(own, args[1:], named, func)
        if not isinstance(own, Tensor) or not own.is_cuda:
            return func(*args, **named)
        if func in (Tensor.nonzero, torch.nonzero, Tensor.tolist, Tensor.numpy):
            raise HostWait(f"{func.__name__}, {_place()}")
        if func is Tensor.__invert__:
            return torch.ops.aten.bitwise_not.default(own)
        if func is Tensor.copy_:
            return self._copy(own, *args[1:], **named)
        if func is Tensor.__getitem__:
            view, tensors = _indexed(own, args[1])
            return torch.ops.aten.index.Tensor(view, tensors) if tensors else view
        if func is Tensor.__setitem__:
            return self._set(own, args[1], args[2])
        return func(*args, **named)

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        for other in (key, value, *([] if attn_mask is None else [attn_mask])):
            assert other.device == query.device, "SDPA of a mixture of devices"
        assert query.dtype == key.dtype == value.dtype, "SDPA of a mixture of dtypes"
        assert enable_gqa or query.shape[1] == key.shape[1], "SDPA of different numbers of heads"
        self.recorder.attention.append(AttentionCall((*query.shape,), (*key.shape,), query.dtype, attn_mask is not None, is_causal))
        self.recorder.launches["scaled_dot_product_attention"] += 1
        batch, heads, rows, _ = query.shape
        return query.new_empty(batch, rows, heads, value.shape[-1]).transpose(1, 2)  # flash attention's order in memory

    def _copy(self, target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        """`target.copy_(source)`."""
        source.expand(target.shape)  # raises where it does not fit
        if source.is_cuda:
            self.recorder.launches["copy_"] += 1
        else:
            _to(source, GPU, non_blocking=non_blocking)
        return target

    def _set(self, tensor: Tensor, index: Any, value: Any) -> None:
        """`tensor[index] = value`."""
        view, tensors = _indexed(tensor, index)
        if not isinstance(value, Tensor):
            value = torch.full((), value, dtype=tensor.dtype, device=GPU)
        if tensors:
            torch.ops.aten.index_put_.default(view, tensors, value)
        else:
            self._copy(view, value)


def _to(tensor: Tensor, device: torch.device, **options: Any) -> Tensor:
    moved: Tensor = torch.ops.aten._to_copy.default(tensor, device=device, **options)
    return moved


def _moved(tensor: Tensor, args: Any, named: Mapping[str, Any], func: Any) -> Tensor:
    """`tensor.to(...)`; `func` is what does it where the device stays the same."""
    given = (args[0].device, args[0].dtype, *args[1:]) if args and isinstance(args[0], Tensor) else args
    device, dtype, non_blocking, _ = torch._C._nn._parse_to(*given, **named)
    if device is None or device.type == tensor.device.type:
        moved: Tensor = func(tensor, *args, **named)
        return moved
    return _to(tensor, device, dtype=dtype, non_blocking=non_blocking)


def _indexed(tensor: Tensor, index: Any) -> tuple[Tensor, list[Tensor | None]]:
    """What torch's own indexing does first: the view that slices and numbers give, and the tensors that index its dimensions, if any.

    Raises:
        HostWait: A mask, whose ones would be counted; a number on the GPU, which would be read; indices on the host, which would be copied.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    for at, part in enumerate(parts):
        if part is Ellipsis:
            parts[at : at + 1] = [slice(None)] * (tensor.ndim - sum(one is not None and one is not Ellipsis for one in parts))
            break
    tensors: list[Tensor | None] = []
    for part in parts:
        dim = len(tensors)
        if isinstance(part, int):
            tensor = tensor.select(dim, part)
            continue
        if isinstance(part, Tensor) and (part.dtype in (torch.bool, torch.uint8) or not part.is_cuda or not part.ndim):
            raise HostWait(f"an index of {part.dtype} on {part.device.type} with {part.ndim} dimensions, {_place()}")
        if part is None:
            tensor = tensor.unsqueeze(dim)
        elif isinstance(part, slice) and part != slice(None):
            tensor = torch.ops.aten.slice.Tensor(tensor, dim, part.start, part.stop, part.step or 1)
        tensors.append(None if part is None or isinstance(part, slice) else torch.as_tensor(part, device=GPU))
    return tensor, tensors if any(part is not None for part in tensors) else []


def _place() -> str:
    """The innermost line of the package that is running."""
    frame = sys._getframe(1)
    while frame is not None and "omnidrop_cli" not in frame.f_code.co_filename:
        frame = frame.f_back  # type: ignore[assignment]
    return "outside the package" if frame is None else f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"
