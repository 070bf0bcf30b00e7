"""The products of a decoder layer with NF4 weights for many rows, on a GPU where Triton runs.

bitsandbytes unpacks each matrix in several launches, behind a layer of Python that takes half of a pruned prefill's time on the host. Here
one launch unpacks a matrix; queries, keys and values come from one product; a rotation and an activation are one launch each.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import linear

from omnidrop_cli.model.decoder_layer import MANY

if TYPE_CHECKING:
    from omnidrop_cli.kernels.nf4_weights import NF4Layer, NF4Weights
    from omnidrop_cli.model.decoder_layer import Angles, DecoderLayer


MOST_ROUNDING = 0.02
"""Largest difference from the modules' results, as a share of the largest of those."""


@dataclass(frozen=True)
class NF4Products:
    """Takes rows (1, n, hidden)."""

    layer: NF4Layer

    def heads(self, normed: Tensor, angles: Angles) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries, rotated keys, and values, (1, heads, n, head_dim) each, of normed rows."""
        from omnidrop_cli.kernels.many_rows import rotate

        size = self.layer.head_dim
        counts = [one.n // size for one in self.layer.qkv]
        projected = linear(normed, _unpacked(self.layer.qkv, normed), self._bias).unflatten(-1, (-1, size))
        rotate(projected[0], angles[0][0], angles[1][0], counts[0] + counts[1])
        queries, keys, values = projected.transpose(1, 2).split(counts, 1)
        return queries, keys, values

    def output(self, mixed: Tensor) -> Tensor:
        """The output projection of attention."""
        return linear(mixed, _unpacked((self.layer.o,), mixed), self.layer.o.bias)

    def mlp(self, normed: Tensor) -> Tensor:
        """The gated MLP of normed rows."""
        from omnidrop_cli.kernels.many_rows import activate

        gate, up, down = self.layer.gate, self.layer.up, self.layer.down
        opened = linear(normed, _unpacked((gate,), normed), gate.bias)
        opened = activate(opened, linear(normed, _unpacked((up,), normed), up.bias))
        return linear(opened, _unpacked((down,), opened), down.bias)

    @cached_property
    def _bias(self) -> Tensor | None:
        biases = [one.bias for one in self.layer.qkv if one.bias is not None]
        return torch.cat(biases) if biases else None


def products_by_kernels(layers: Sequence[NF4Layer], first: DecoderLayer) -> Sequence[NF4Products] | None:
    """The products of `layers`; None where the kernels fail, or disagree with the modules of the `first` layer."""
    products = [NF4Products(layer) for layer in layers]
    with suppress(Exception):  # whatever Triton raises, the modules remain
        if agree(products[0], first):
            return products
    return None


@torch.inference_mode()
def agree(products: NF4Products, modules: DecoderLayer) -> bool:
    """Whether the kernels give what the modules of the same layer give, but for rounding. Waits for the device.

    Raises whatever Triton raises where it cannot compile them.
    """
    like, noise = products.layer.attention_norm[0], torch.Generator().manual_seed(0)
    rows, mixed = (torch.randn(1, MANY, width, generator=noise).to(like) for width in (products.layer.gate.k, products.layer.o.k))
    turn = torch.linspace(0, 3, MANY * modules.head_dim, device=like.device).view(1, MANY, modules.head_dim)
    angles = turn.cos().to(like.dtype), turn.sin().to(like.dtype)
    found = (*products.heads(rows, angles), products.output(mixed), products.mlp(rows))
    expected = (*modules.rotated_heads(rows, angles), modules.o(mixed), modules.mlp(rows))
    differences = [(one - other).abs().max() / other.abs().max() for one, other in zip(found, expected, strict=True)]
    return bool(torch.stack(differences).max() <= MOST_ROUNDING)


def _unpacked(parts: tuple[NF4Weights, ...], like: Tensor) -> Tensor:
    """(n of all, k) weights of `parts`, one below the other, in the dtype and on the device of `like`."""
    from omnidrop_cli.kernels.many_rows import unpack

    out = like.new_empty(sum(part.n for part in parts), parts[0].k)
    for part, rows in zip(parts, out.split([part.n for part in parts]), strict=True):
        unpack(part, rows)
    return out
