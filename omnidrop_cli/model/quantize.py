"""Quantised decoder weights: NF4 and LLM.int8 through bitsandbytes.

The projections of the decoder layers are quantised, and the output matrix where that was asked for.

NF4 is that of QLoRA (arXiv 2305.14314): blocks of 64, double quantisation, products in bf16.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from omnidrop_cli import fileio
from omnidrop_cli.errors import ModelError, UsageError
from omnidrop_cli.kernels.nf4_weights import NF4_BLOCK
from omnidrop_cli.model.checkpoint import copy_trained_parts
from omnidrop_cli.model.quiet import quiet

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from omnidrop_cli.model.adapter import QwenOmniAdapter
    from omnidrop_cli.model.sizes import DecoderSizes
    from omnidrop_cli.model.thinker import Thinker

QUANTS = ("nf4", "int8", "none")

OUTLIER_THRESHOLD = 6.0
"""Activations beyond it are multiplied in 16 bits (LLM.int8, arXiv 2208.07339)."""


def quantization_config(quant: str, unquantized: list[str]) -> Any:
    """transformers' settings for `quant`; None for "none". Raises `UsageError` for an unknown name."""
    from transformers import BitsAndBytesConfig

    if quant == "none":
        return None
    if quant == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=unquantized,
        )
    if quant == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=OUTLIER_THRESHOLD, llm_int8_skip_modules=unquantized)
    raise UsageError(f"unknown quantisation {quant!r}", f"one of {', '.join(QUANTS)}, auto")


def check_quantizable(quant: str, sizes: DecoderSizes, option: str = "quant") -> None:
    """Raises `ModelError` where bitsandbytes is missing, or where NF4's blocks of 64 do not fit the rows of a weight.

    `option` is the name under which `quant` was given.
    """
    if quant == "none":
        return
    try:
        with quiet():  # its import warns of kernels that are optional
            import bitsandbytes  # noqa: F401
    except Exception as error:  # a broken CUDA installation makes it raise more than ImportError
        raise ModelError(f"`{option}={quant}` needs bitsandbytes, which cannot be imported: {error}", f"use `{option}=none`") from error
    if quant == "nf4" and any(size % NF4_BLOCK for size in (sizes.hidden, sizes.heads * sizes.head_dim, sizes.mlp)):
        raise ModelError(f"NF4 works on rows that are multiples of {NF4_BLOCK} long, and this model's are not", f"use `{option}=none`")


def quantize_in_place(layer: nn.Module, quant: str, device: str | torch.device) -> None:
    """Replace the linear layers inside one decoder layer by quantised ones with the same weights, on `device`."""
    if quant == "none":
        return
    for name, linear in list(layer.named_modules()):
        if type(linear) is torch.nn.Linear:
            layer.set_submodule(name, quantized_linear(linear, quant, device))


def quantize_head(adapter: QwenOmniAdapter, quant: str, device: str | torch.device) -> None:
    """Replace the output matrix by a quantised one on `device`. An embedding table that it was tied to stays as it is.

    NF4 products are in the dtype of the weight: in bfloat16 a float32 model's logits would have three digits.
    """
    if quant != "none":
        adapter.replace_head(quantized_linear(adapter.lm_head, quant, device, adapter.embedding_weight.dtype))


def quantized_linear(linear: nn.Linear, quant: str, device: str | torch.device, dtype: torch.dtype = torch.bfloat16) -> Any:
    """A quantised layer with the weights of `linear`, on `device`. NF4 products are in `dtype`."""
    import bitsandbytes as bnb

    sizes = (linear.in_features, linear.out_features, linear.bias is not None)
    new: Any
    with torch.device("meta"):
        if quant == "nf4":
            new = bnb.nn.Linear4bit(*sizes, dtype, compress_statistics=True, quant_type="nf4")
        else:
            new = bnb.nn.Linear8bitLt(*sizes, has_fp16_weights=False, threshold=OUTLIER_THRESHOLD)
    options = {"requires_grad": False, **new.weight.__dict__}
    options.pop("SCB", None)
    kind = bnb.nn.Params4bit if quant == "nf4" else bnb.nn.Int8Params
    # From the CPU: bitsandbytes quantises on the way to a device, and leaves 8-bit weights alone that are on one already.
    new.weight = kind(linear.weight.data.cpu(), **options).to(device)
    new.bias = linear.bias
    return new


def has_run_on_cpu(model: nn.Module) -> bool:
    """Whether the CPU kernels have repacked a 4-bit weight, which they do at its first product; saving it then loses precision."""
    states = (getattr(getattr(module, "weight", None), "quant_state", None) for module in model.modules())
    return any(getattr(state, "packing_format_for_cpu", False) for state in states)


def save_quantized(thinker: Thinker, directory: Path) -> None:
    """Write a copy of `thinker` that loads without quantising again: weights, tokenizer and frame bounds.

    The directory appears complete or not at all. Raises `ModelError` where it exists already, cannot be written, where the model has run on
    the CPU (load it again, then save), or where its output matrix is quantised, which transformers would not load again.
    """
    if thinker.loaded.quant_head != "none":
        raise ModelError("a copy keeps its output matrix unquantised", "load without `quant_head`; give it where the copy is used")
    if has_run_on_cpu(thinker.model):
        raise ModelError("the CPU has repacked the weights of this model while it ran; a copy would be less exact", "load it again first")
    if directory.exists():
        raise ModelError(f"{directory} exists already", "choose a new directory, or remove it first")
    least, most = thinker.frame_bounds
    try:
        with fileio.new_folder(directory) as work:
            with quiet():
                thinker.model.save_pretrained(work, max_shard_size="4GB")
            thinker.tokenizer.save_pretrained(work)
            if thinker.directory is not None:
                copy_trained_parts(thinker.directory, work)
            (work / "preprocessor_config.json").write_text(json.dumps({"min_pixels": least, "max_pixels": most}, indent=2) + "\n")
    except OSError as error:
        raise ModelError(f"{directory} cannot be written: {error}", "check the free space and the permissions") from error
