"""Random thinkers: the whole architecture runs, deterministically, and looks alive."""

from __future__ import annotations

import time

import pytest
import torch

from omnidrop_cli.model.random_weights import ADDED_TOKENS, CHAT_TOKENS, random_thinker, tiny_sizes, tiny_thinker, tiny_tokenizer
from omnidrop_cli.model.sizes import QWEN_3B


@pytest.mark.parametrize(("layers", "heads", "kv_heads", "head_dim"), [(1, 2, 1, 16), (3, 4, 4, 32), (6, 6, 2, 16), (2, 8, 1, 64)])
def test_shapes(layers: int, heads: int, kv_heads: int, head_dim: int) -> None:
    thinker = tiny_thinker(layers, heads, kv_heads, head_dim)
    sizes = thinker.sizes
    assert (sizes.num_layers, sizes.heads, sizes.kv_heads, sizes.head_dim) == (layers, heads, kv_heads, head_dim)
    assert len(thinker.adapter.layers) == layers
    assert sum(thinker.adapter.text_model.rotary_emb.mrope_section) == head_dim // 2
    with torch.inference_mode():
        logits = thinker.model(torch.arange(20)[None]).logits
    assert logits.shape == (1, 20, 320)
    assert 0.5 < float(logits.std()) < 2


def test_a_seed_is_a_model() -> None:
    one, same, other = (tiny_thinker(seed=seed).model.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not any(torch.equal(one[key], other[key]) for key in one)


def test_no_two_weights_are_alike() -> None:
    weights = [p for p in tiny_thinker().model.parameters() if p.dim() > 1]
    firsts = {tuple(p.flatten()[:4].tolist()) for p in weights}
    assert len(firsts) == len(weights)


def test_attention_is_neither_flat_nor_one_hot() -> None:
    thinker = tiny_thinker(attention="sdpa")
    thinker.model.set_attn_implementation({"text_config": "eager"})
    with torch.inference_mode():
        weights = thinker.model(torch.arange(60)[None], output_attentions=True).attentions
    last = torch.stack([layer[0, :, -1] for layer in weights])  # (layers, heads, 60)
    assert 0.05 < float(last.max(-1).values.mean()) < 0.9


def test_large_weights_are_filled_at_copying_speed() -> None:
    """A layer of the 3B model is 77 million weights; drawing each would take a second or two."""
    start = time.perf_counter()
    thinker = random_thinker(tiny_sizes(), dtype=torch.bfloat16)
    sizes = QWEN_3B.decoder
    big = torch.nn.Linear(sizes.hidden, sizes.mlp, bias=False, device="meta")
    from omnidrop_cli.model.random_weights import _Filler

    _Filler(torch.device("cpu"), torch.bfloat16, 0).fill(big)
    weight = big.weight.float()
    assert time.perf_counter() - start < 20
    assert float(weight.std()) == pytest.approx(sizes.hidden**-0.5, rel=0.01)
    assert not torch.equal(weight[0], weight[512])
    assert thinker.dtype == torch.bfloat16


def test_byte_tokenizer_reads_back_every_text() -> None:
    tokenizer = tiny_tokenizer()
    for text in ("plain words", "Grüße, 你好 🎈\n\ttabs", "".join(map(chr, range(1, 256)))):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert ids == list(_normalised(text).encode())
        assert tokenizer.decode(ids) == _normalised(text)
    special = "<|im_start|>user\n<|vision_bos|><|VIDEO|><|vision_eos|><|im_end|>"
    ids = tokenizer.encode(special, add_special_tokens=False)
    assert len(ids) == 5 + len("user\n")
    assert tokenizer.decode(ids) == special
    assert len(tokenizer) == 256 + len(CHAT_TOKENS) + len(ADDED_TOKENS)


def _normalised(text: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFC", text)  # as Qwen's tokenizer does


def test_stock_positions_find_the_media() -> None:
    """transformers' own position code needs ids its configuration class does not declare."""
    thinker = tiny_thinker()
    t = {name: thinker.tokenizer.convert_tokens_to_ids(token) for name, token in ADDED_TOKENS.items()}
    video, sound = [t["video_token"]] * 4, [t["audio_token"]] * 6
    row = [65, t["vision_bos_token"], t["audio_bos_token"], *video, *sound, t["audio_eos_token"], t["vision_eos_token"], 66]
    ids = torch.tensor([row])
    positions, _ = thinker.model.get_rope_index(
        ids,
        video_grid_thw=torch.tensor([[1, 4, 4]]),
        attention_mask=torch.ones_like(ids),
        use_audio_in_video=True,
        audio_seqlens=torch.tensor([25]),
        second_per_grids=torch.tensor([1.0]),
    )
    at = row.index(t["video_token"])
    assert positions[1, 0, at : at + 4].tolist() == [2, 2, 3, 3]  # heights of a 2x2 picture: it was recognised
    assert positions[2, 0, at : at + 4].tolist() == [2, 3, 2, 3]


def test_a_hidden_size_that_is_no_multiple_is_refused() -> None:
    from dataclasses import replace

    sizes = tiny_sizes()
    with pytest.raises(ValueError, match="heads"):
        random_thinker(replace(sizes, decoder=replace(sizes.decoder, hidden=60)))
