"""What a GPU computes equals what the CPU computes. Skipped where there is none."""

from __future__ import annotations

import bitsandbytes as bnb
import pytest
import torch

from omnidrop_cli.bench.synthetic import noise_features, papers_prompt
from omnidrop_cli.config import ModelConfig, PruningConfig
from omnidrop_cli.engine.decode_step import step
from omnidrop_cli.engine.encode import embed
from omnidrop_cli.engine.kv_cache import RaggedCache
from omnidrop_cli.engine.masked_attention import masked_attention
from omnidrop_cli.engine.prefill import Prefilled, prefill
from omnidrop_cli.engine.session import Session
from omnidrop_cli.kernels import runs_on
from omnidrop_cli.kernels.nf4_weights import nf4_weights
from omnidrop_cli.model.decoder_layer import rotate
from omnidrop_cli.model.quantize import quantized_linear
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.model.thinker import Thinker
from omnidrop_cli.prune.methods import get_method, names

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU that this PyTorch can use"),
]

METHODS = [name for name in names() if name != "none"]


def run(thinker: Thinker, choice: PruningConfig) -> Prefilled:
    prompt = papers_prompt(thinker, 6)
    features = noise_features(thinker, prompt)
    return prefill(thinker, prompt, embed(thinker, prompt, features), features, get_method(choice))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_same_tokens(name: str) -> None:
    here, there = (tiny_thinker(6, device=device) for device in ("cpu", "cuda:0"))
    choice = PruningConfig(name, 0.3, options={"selector": "untrained"} if name == "omnisift" else {})
    expected, found = run(here, choice), run(there, choice)
    assert found.cache.lengths == expected.cache.lengths
    for mine, theirs in zip(found.trace.kept, expected.trace.kept, strict=True):
        shared = len(set(mine.tolist()) & set(theirs.tolist())) / len(theirs)
        assert shared >= 0.95, "near ties may fall otherwise"
    torch.testing.assert_close(
        run(there, PruningConfig("none")).logits.cpu(), run(here, PruningConfig("none")).logits, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("name", METHODS)
def test_the_tokens_that_enter_in_half_precision_are_those_of_the_cpu(name: str) -> None:
    here, there = (tiny_thinker(2, device=device, dtype=torch.bfloat16) for device in ("cpu", "cuda:0"))
    choice = PruningConfig(name, 0.3, options={"selector": "untrained"} if name == "omnisift" else {})
    mine, theirs = (set(run(thinker, choice).trace.kept[0].tolist()) for thinker in (there, here))
    assert len(mine & theirs) >= 0.95 * len(theirs), "near ties may fall otherwise"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_rotation_of_a_gpu_is_the_formula(dtype: torch.dtype) -> None:
    noise = torch.Generator().manual_seed(0)
    x, turn = torch.randn(1, 4, 50, 64, generator=noise), torch.randn(1, 50, 32, generator=noise)
    cos, sin = (torch.cat((half, half), -1) for half in (turn.cos(), turn.sin()))
    exact = rotate(x.to(dtype).double(), (cos.to(dtype).double(), sin.to(dtype).double()))
    x, cos, sin = (tensor.to("cuda:0", dtype) for tensor in (x, cos, sin))
    found = rotate(x, (cos, sin))
    assert (found.cpu().double() - exact).abs().max() <= exact.abs().max() * torch.finfo(dtype).eps


def test_a_decoded_row_is_that_of_the_stock_layer() -> None:
    thinker = tiny_thinker(3, device="cuda:0")
    adapter = thinker.adapter
    with torch.inference_mode():
        embeds = adapter.embed(torch.arange(40, 140, device="cuda:0")[None])
        positions = torch.arange(100, device="cuda:0").expand(3, 1, 100)
        cos, sin = adapter.rotary(embeds, positions)
        stock, own = RaggedCache(3), RaggedCache(3)
        hidden = embeds
        for number in range(3):
            expected = adapter.run_layer(number, hidden, (cos, sin), cache=stock)
            hidden = adapter.layer(number).feed_forward(adapter.layer(number).attention(hidden, (cos, sin), own.layers[number]))
            torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(step(thinker, own, 7, 100), step(thinker, stock, 7, 100), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [64, 1_216, 10_560, 101_568])
def test_masked_attention_is_exact_to_a_bfloat16(rows: int) -> None:
    noise = torch.Generator().manual_seed(rows)
    query = (3 * torch.randn(1, 28, 1, 128, generator=noise)).to("cuda:0", torch.bfloat16)
    keys, values = torch.randn(2, 1, 4, rows, 128, generator=noise).to("cuda:0", torch.bfloat16)
    written = rows - 9
    mask = torch.full((rows,), float("-inf"), device="cuda:0")
    mask[:written] = 0
    shown = keys[:, :, :written], values[:, :, :written]
    attend = torch.nn.functional.scaled_dot_product_attention
    exact = attend(query.double(), *(tensor.double().repeat_interleave(7, 1) for tensor in shown))
    error = (masked_attention(query, keys, values, mask, 128**-0.5).double() - exact).abs().max()
    assert error <= 2**-7 * exact.abs().max(), "more than the last place of the largest value"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("k", "sizes"), [(320, (9, 4, 3)), (3584, (3584, 512, 512)), (18944, (3584,))])
def test_products_of_one_row_are_those_of_the_unpacked_weights(dtype: torch.dtype, k: int, sizes: tuple[int, ...]) -> None:
    if not runs_on(torch.device("cuda:0")):
        pytest.skip("Triton does not run here")
    from omnidrop_cli.kernels import row_products

    noise = torch.Generator("cuda:0").manual_seed(k)
    x = torch.randn(k, generator=noise, device="cuda:0").to(dtype)
    weights, expected = [], []
    for n in sizes:
        linear = torch.nn.Linear(k, n, device="cuda:0", dtype=dtype)
        packed = quantized_linear(linear, "nf4", "cuda:0", dtype)
        parts, state = nf4_weights(packed, dtype), packed.weight.quant_state
        assert parts is not None
        weights.append(parts)
        state.dtype = torch.float32
        expected.append(bnb.functional.dequantize_4bit(packed.weight.data, state) @ x.float() + linear.bias.float())
    y = torch.full((sum(sizes),), torch.nan, device="cuda:0", dtype=dtype)
    row_products.products(row_products.planes(x), y, weights)
    exact = torch.cat(expected)
    assert (y.float() - exact).abs().max() <= max(torch.finfo(dtype).eps, 1e-5) * exact.abs().max()


@pytest.mark.parametrize(("quant", "kind"), [("nf4", torch.uint8), ("int8", torch.int8)])
def test_random_weights_are_quantised(quant: str, kind: torch.dtype) -> None:
    thinker = tiny_thinker(2, 4, 2, 64, device="cuda:0", dtype=torch.bfloat16, quant=quant)
    exact = tiny_thinker(2, 4, 2, 64, device="cuda:0", dtype=torch.bfloat16)
    assert thinker.adapter.linears(0)["up"].weight.dtype == kind  # type: ignore[union-attr]
    near, logits = run(thinker, PruningConfig("none")).logits, run(exact, PruningConfig("none")).logits
    assert torch.cosine_similarity(near, logits, dim=0) > 0.9


def test_encoders_leave_the_gpu_and_come_back() -> None:
    thinker = tiny_thinker(2, device="cuda:0")
    adapter, before = thinker.adapter, torch.cuda.memory_allocated()
    adapter.place_encoders(torch.device("cpu"))
    assert torch.cuda.memory_allocated() < before
    adapter.place_encoders(thinker.device)
    assert next(adapter.vision_encoder.parameters()).is_cuda


def test_cudnn_attention_is_off() -> None:
    Session(tiny_thinker(1, device="cuda:0"))
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_a_card_that_is_too_small_says_so_and_lowers_what_it_must() -> None:
    session = Session.load(ModelConfig("nano", device="cuda:0", feature_cache=False))
    plain = session.ask("demo", "What is said?", method="none")
    total = torch.cuda.mem_get_info(0)[1]
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved(0)
    try:
        torch.cuda.set_per_process_memory_fraction((held + 4e6) / total, 0)
        report = session.ask("demo", "What is said?", method="none")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
    assert report.warnings
    assert all("memory does not suffice" in warning for warning in report.warnings)
    assert report.answer.text or plain.answer.text
