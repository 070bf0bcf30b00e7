"""Quantised decoder weights: NF4 and LLM.int8 through bitsandbytes.

Knows: which layers are quantised (the projections of the decoder layers, nothing else) and what bitsandbytes can do where. Does
not know where weights come from (`load.py`). A quantised copy is saved by `save.py`.

NF4 is that of QLoRA (arXiv 2305.14314): blocks of 64, double quantisation, products in bf16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from omnidrop_cli.errors import ModelError, UsageError

if TYPE_CHECKING:
    from torch import nn

QUANTS = ("nf4", "int8", "none")

NOT_QUANTIZED = ("model.visual", "model.audio_tower", "lm_head")
"""Towers and output matrix. Full names: shorter ones match nothing, and any list replaces the default one, which names `lm_head`."""


def quantization_config(quant: str) -> Any:
    """What transformers is told for `quant`; None for "none". Raises `UsageError` for an unknown name."""
    from transformers import BitsAndBytesConfig

    if quant == "none":
        return None
    if quant == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=list(NOT_QUANTIZED),
        )
    if quant == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(NOT_QUANTIZED))
    raise UsageError(f"unknown quantisation {quant!r}", f"one of {', '.join(QUANTS)}, auto")


def require_bitsandbytes(quant: str) -> None:
    """Raises `ModelError` where `quant` needs bitsandbytes and it cannot be imported."""
    if quant == "none":
        return
    try:
        import bitsandbytes  # noqa: F401
    except Exception as error:  # a broken CUDA installation makes it raise more than ImportError
        raise ModelError(f"--quant {quant} needs bitsandbytes, which cannot be imported: {error}", "use --quant none") from error


def quantize_in_place(layer: nn.Module, quant: str, device: str | torch.device) -> None:
    """Replace the linear layers inside one decoder layer by quantised ones with the same weights, on `device`."""
    if quant == "none":
        return
    import bitsandbytes as bnb

    for name, linear in list(layer.named_modules()):
        if type(linear) is not torch.nn.Linear:
            continue
        sizes = (linear.in_features, linear.out_features, linear.bias is not None)
        new: Any
        with torch.device("meta"):
            if quant == "nf4":
                new = bnb.nn.Linear4bit(*sizes, torch.bfloat16, compress_statistics=True, quant_type="nf4")
            else:
                new = bnb.nn.Linear8bitLt(*sizes, has_fp16_weights=False)
        options = {"requires_grad": False, **new.weight.__dict__}
        options.pop("SCB", None)
        kind = bnb.nn.Params4bit if quant == "nf4" else bnb.nn.Int8Params
        new.weight = kind(linear.weight.data, **options).to(device)
        new.bias = linear.bias
        layer.set_submodule(name, new)


def quantized_modules(model: nn.Module) -> dict[str, str]:
    """Names of quantised modules and the class of each."""
    kinds = ("Linear4bit", "Linear8bitLt")
    return {name: type(module).__name__ for name, module in model.named_modules() if type(module).__name__ in kinds}


def has_run_on_cpu(model: nn.Module) -> bool:
    """Whether the CPU kernels have repacked a 4-bit weight, which they do at its first product; saving it then loses precision."""
    states = (getattr(getattr(module, "weight", None), "quant_state", None) for module in model.modules())
    return any(getattr(state, "packing_format_for_cpu", False) for state in states)
