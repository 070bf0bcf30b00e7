"""How kernels read NF4 weights of bitsandbytes: what they are given, what four bits stand for, the scales of blocks."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from omnidrop_cli.kernels.nf4_weights import NF4Weights

TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32}


def codes_of(weights: NF4Weights) -> tuple[Tensor, Tensor]:
    """What stands for the weights, and for their scales in double quantisation."""
    return weights.codes, weights.codes if weights.nested is None else weights.nested[0]


def matrix_of(weights: NF4Weights) -> tuple[Tensor, ...]:
    """Weights, scales, scales of the scales, their offset, bias. What is missing is not read; some tensor has to stand there."""
    inner = (weights.scales, weights.scales) if weights.nested is None else weights.nested[1:]
    return (weights.words, weights.scales, *inner, weights.codes if weights.bias is None else weights.bias)


@triton.jit
def _shuffled(words, code):
    """Code values of the eight weights of each word. Each half of a warp holds all 16, one a lane; a shuffle looks one up.

    A shuffle reads the lowest five bits of its index. The lane loads its code here: a tensor of them might be moved between lanes.
    """
    return tl.inline_asm_elementwise(
        """
        {
        .reg .b32 t, own;
        .reg .b64 at;
        mov.u32 t, %laneid;
        and.b32 t, t, 15;
        mad.wide.u32 at, t, 4, $9;
        ld.global.nc.b32 own, [at];
        shr.u32 t, $8, 4;
        shfl.sync.idx.b32 $0, own, t, 31, 0xffffffff;
        shfl.sync.idx.b32 $1, own, $8, 31, 0xffffffff;
        shr.u32 t, $8, 12;
        shfl.sync.idx.b32 $2, own, t, 31, 0xffffffff;
        shr.u32 t, $8, 8;
        shfl.sync.idx.b32 $3, own, t, 31, 0xffffffff;
        shr.u32 t, $8, 20;
        shfl.sync.idx.b32 $4, own, t, 31, 0xffffffff;
        shr.u32 t, $8, 16;
        shfl.sync.idx.b32 $5, own, t, 31, 0xffffffff;
        shr.u32 t, $8, 28;
        shfl.sync.idx.b32 $6, own, t, 31, 0xffffffff;
        shr.u32 t, $8, 24;
        shfl.sync.idx.b32 $7, own, t, 31, 0xffffffff;
        }
        """,
        "=&r,=&r,=&r,=&r,=&r,=&r,=&r,=&r,r,l",
        [words, code.to(tl.int64)],
        dtype=(tl.float32, tl.float32, tl.float32, tl.float32, tl.float32, tl.float32, tl.float32, tl.float32),
        is_pure=True,
        pack=1,
    )


@triton.jit
def looked_up(words, code, shuffle: tl.constexpr):
    """Code values of the eight weights of each word, float32, in their order. `code` points to the 16 that there are."""
    if shuffle:
        return _shuffled(words, code)
    return (  # the same in Triton alone, four times slower, for its interpreter
        tl.load(code + ((words >> 4) & 15)), tl.load(code + (words & 15)), tl.load(code + ((words >> 12) & 15)),
        tl.load(code + ((words >> 8) & 15)), tl.load(code + ((words >> 20) & 15)), tl.load(code + ((words >> 16) & 15)),
        tl.load(code + ((words >> 28) & 15)), tl.load(code + ((words >> 24) & 15)),
    )  # fmt: skip


@triton.jit
def scales_of(scales, outer, offset, codes, blocks, mask, nested: tl.constexpr):
    """Float32 scales of `blocks`. `nested` ones are 8-bit codes, 256 of which share a scale."""
    if nested:
        code = tl.load(scales + blocks, mask=mask, other=0).to(tl.int32)
        scale = tl.load(codes + code) * tl.load(outer + blocks // 256, mask=mask, other=0) + offset
    else:
        scale = tl.load(scales + blocks, mask=mask, other=0)
    return scale
