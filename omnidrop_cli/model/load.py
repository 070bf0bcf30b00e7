"""A model's name → a `Thinker` on its device.

Chooses device, dtype, attention and quantisation where the user left them open, and calls transformers. File layouts are in
`checkpoint.py`, downloads in `hub.py`, names in `names.py`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from omnidrop_cli.config import ModelConfig
from omnidrop_cli.errors import ModelError, OmnidropError, OutOfMemory, UsageError, summarize
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.in_use import keep_in_use
from omnidrop_cli.kernels import AMPERE
from omnidrop_cli.model.adapter import QwenOmniAdapter, set_attention, unquantized_names
from omnidrop_cli.model.checkpoint import Checkpoint, check_parameter_count, open_checkpoint, thinker_slices
from omnidrop_cli.model.hub import pull
from omnidrop_cli.model.names import BUILT_IN, ModelSpec, resolve
from omnidrop_cli.model.quantize import QUANTS, check_quantizable, quantization_config, quantize_head
from omnidrop_cli.model.quiet import quiet
from omnidrop_cli.model.self_check import require_transformers
from omnidrop_cli.model.stored_config import sizes_of
from omnidrop_cli.model.thinker import Thinker
from omnidrop_cli.model.tokenizer import load_tokenizer
from omnidrop_cli.outputs import LoadedModel

if TYPE_CHECKING:
    from omnidrop_cli.model.sizes import ThinkerSizes

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

LARGE = 1_000_000_000
"""Decoder parameters from which `auto` quantises, and keeps a CPU's activations in bfloat16 to halve the memory."""


def load(choice: ModelConfig, progress: ProgressCallback = SILENT) -> Thinker:
    """Load the thinker that `choice` names; everything left at "auto" is settled here and explained in `Thinker.loaded.reasons`.

    Raises `UsageError` for values that mean nothing, `ModelError` for a checkpoint that cannot be found or read, `OutOfMemory`.
    """
    spec = resolve(choice)
    require_transformers(progress)
    device = resolve_device(choice.device)
    if choice.name == "auto" and spec.kind == "hub" and device.type == "cpu":
        raise ModelError("there is an NVIDIA GPU, but this PyTorch cannot use it", "install PyTorch for its driver, or give `device=cpu`")
    attention = _attention(choice.attention, device)
    if spec.notice:
        progress.warn(spec.notice)
    if spec.kind == "random":
        return _load_random(choice, spec, device, attention)
    directory, revision = Path(spec.source), None
    if spec.kind == "hub":
        directory, revision = pull(spec.source, choice.revision, choice.offline, progress)
    elif choice.revision is not None:
        raise UsageError(f"`revision` means nothing for {spec.name}", "it chooses a version of a hub repository")
    keep_in_use(directory)  # `cache clean` and `models rm` then leave it alone
    checkpoint = open_checkpoint(directory)
    sizes = sizes_of(checkpoint.thinker, spec.source)
    quant, why_quant = _quant(choice, checkpoint.quant, sizes)
    dtype, why_dtype = _dtype(choice.dtype, device, sizes)
    if device.type == "cpu" and choice.device == "auto" and sizes.decoder.parameters >= LARGE:
        progress.warn(f"{spec.name} runs on the CPU, which is slow: {_why_no_gpu()}")
    if attention == "flash_attention_2" and dtype == torch.float32:
        raise UsageError("flash_attention_2 does not compute in float32", "leave `dtype` out, or use `attention=sdpa`")
    config = _config(checkpoint, attention)
    tokenizer = load_tokenizer(directory)
    if getattr(config, "vision_start_token_id", None) is None:  # transformers' position code reads it, its configuration lacks it
        config.vision_start_token_id = tokenizer.convert_tokens_to_ids("<|vision_bos|>")
    with quiet(), _memory_explained(device, quant):
        model = _model(checkpoint, sizes, config, quant, choice.quant_head, dtype, device)
    loaded = LoadedModel(
        name=spec.name,
        source=BUILT_IN if spec.kind == "builtin" else spec.source,
        quant=quant,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        attention=attention,
        num_layers=sizes.decoder.num_layers,
        revision=revision,
        reasons=(*spec.reasons, *filter(None, (why_quant, why_dtype))),
        notice=spec.notice,
        quant_head=choice.quant_head,
    )
    with _loading(directory):
        return Thinker.assemble(model, tokenizer, loaded, spec.frame_bounds, directory)


# ---------------------------------------------------------------- what "auto" means


def resolve_device(name: str) -> torch.device:
    """What `name` means here. Raises `UsageError` for what is no device, `ModelError` for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}", "one of auto, cpu, cuda, cuda:0, cuda:1, …") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise UsageError(f"device {name!r} is not supported", "one of auto, cpu, cuda, cuda:0, cuda:1, …")
    if not torch.cuda.is_available():
        raise ModelError(f"`device={name}`: {_why_no_gpu()}", "use `device=cpu`, or see `omnidrop doctor`")
    if (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"`device={name}`: there are {torch.cuda.device_count()} GPUs", "they count from cuda:0")
    return device


def _why_no_gpu() -> str:
    """Why PyTorch uses no GPU, in the driver's words where it has any."""
    if torch.version.cuda is None:
        return "this PyTorch was built without CUDA"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return summarize(error)
    return "PyTorch finds no usable NVIDIA GPU"


def _attention(name: str, device: torch.device) -> str:
    if name == "flash_attention_2":
        if device.type != "cuda":
            raise ModelError("flash_attention_2 runs on NVIDIA GPUs only", "leave `attention` at sdpa")
        if importlib.util.find_spec("flash_attn") is None:
            raise ModelError("flash_attention_2 is not installed", 'pip install "flash-attn>=2.5", or leave `attention` at sdpa')
    return name


def _quant(choice: ModelConfig, stored: str, sizes: ThinkerSizes) -> tuple[str, str | None]:
    check_quantizable(choice.quant_head, sizes.decoder, "quant_head")
    asked = choice.quant
    if stored not in QUANTS:
        raise ModelError(
            f"the checkpoint is stored in {stored[:60]}, which omnidrop does not read", "use the unquantised checkpoint with `quant=nf4`"
        )
    if stored != "none":
        if asked not in ("auto", stored):
            raise ModelError(
                f"the checkpoint is stored in {stored} and cannot be loaded as {asked}", f"leave `quant` out, or give {stored}"
            )
        return stored, f"{stored}: stored so"
    if asked == "auto":
        large = sizes.decoder.parameters >= LARGE
        asked = "nf4" if large else "none"
        reason = f"{asked}: the decoder has {sizes.decoder.parameters / 1e6:,.0f} million parameters"
    else:
        reason = None
    check_quantizable(asked, sizes.decoder)
    return asked, reason


def _dtype(asked: str, device: torch.device, sizes: ThinkerSizes) -> tuple[torch.dtype, str | None]:
    if asked != "auto":
        return DTYPES[asked], None
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < AMPERE:
        # bfloat16 runs in slow kernels there, and its attention keeps the whole matrix of weights.
        return torch.float16, "float16: this GPU has no bfloat16"
    if device.type == "cuda":
        return torch.bfloat16, "bfloat16: a GPU computes in it at full speed"
    if sizes.decoder.parameters >= LARGE:
        return torch.bfloat16, "bfloat16: float32 would need twice the memory"
    return torch.float32, "float32: small enough for the CPU's most exact type"


# ---------------------------------------------------------------- loading


def _load_random(choice: ModelConfig, spec: ModelSpec, device: torch.device, attention: str) -> Thinker:
    from omnidrop_cli.model.random_weights import random_thinker

    if spec.sizes is None:
        raise ValueError("random weights have sizes")
    quant, _ = _quant(choice, "none", spec.sizes)
    dtype, _ = _dtype(choice.dtype, device, spec.sizes)
    with quiet(), _memory_explained(device, quant):
        thinker = random_thinker(spec.sizes, device=str(device), dtype=dtype, quant=quant, attention=attention, name=spec.name)
        quantize_head(thinker.adapter, choice.quant_head, device)
    return replace(thinker, loaded=replace(thinker.loaded, quant_head=choice.quant_head))


def _config(checkpoint: Checkpoint, attention: str) -> Any:
    """The thinker's configuration as transformers reads it; where it was quantised, with that."""
    from transformers import Qwen2_5OmniThinkerConfig

    quantised = {} if checkpoint.quantization is None else {"quantization_config": checkpoint.quantization}
    with quiet(), _loading(checkpoint.directory):
        config = Qwen2_5OmniThinkerConfig.from_dict({**checkpoint.thinker, **quantised})
    set_attention(config, attention)
    return config


def _model(
    checkpoint: Checkpoint, sizes: ThinkerSizes, config: Any, quant: str, quant_head: str, dtype: torch.dtype, device: torch.device
) -> Any:
    """The thinker with its weights on `device`. Tensors go there one by one as they are read and quantised."""
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    slices = thinker_slices(checkpoint)
    check_parameter_count(slices, checkpoint.quant, sizes, checkpoint.directory)
    quantization = None
    if quant != "none" and checkpoint.quantization is None:
        quantization = quantization_config(quant, unquantized_names(config))
    with _loading(checkpoint.directory):
        model, info = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
            None,
            config=config,
            state_dict=slices,
            dtype=dtype,
            device_map={"": device},
            quantization_config=quantization,
            output_loading_info=True,
        )
    if missing := sorted(info["missing_keys"]):
        where, first = checkpoint.directory, missing[0]
        raise ModelError(f"the checkpoint in {where} lacks {len(missing)} tensors, the first is {first}", "download it again")
    model.eval().requires_grad_(False)
    adapter = QwenOmniAdapter(model)
    adapter.set_up_attention()
    quantize_head(adapter, quant_head, device)
    return model


@contextmanager
def _loading(directory: Path) -> Iterator[None]:
    """One line for whatever transformers finds wrong with a checkpoint; it, its validators and its quantisers raise kinds of their own."""
    try:
        yield
    except (OmnidropError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(f"the checkpoint in {directory} cannot be loaded: {summarize(error)}", "`debug` shows the whole error") from error


@contextmanager
def _memory_explained(device: torch.device, quant: str) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        hint = "use a smaller model (`model=3b`)" if quant == "nf4" else "use `quant=nf4`"
        raise OutOfMemory(f"the model does not fit on {device}", f"{hint}; `omnidrop inspect` shows what each needs") from error
