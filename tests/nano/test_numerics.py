"""The training forward is the stock forward."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from omnidrop_cli.nano.train import batched_encoders, drop_schedule, model_shape, packed_forward
from omnidrop_cli.nano.train.labels import label
from omnidrop_cli.nano.train.optim import Optimiser, orthogonal, rate_at
from omnidrop_cli.nano.train.samples import Packer, TrainingSample
from omnidrop_cli.nano.world.questions import ask
from omnidrop_cli.nano.world.scenario import Profile, sample
from omnidrop_cli.prompt.patches import patchify
from omnidrop_cli.prompt.spec import PromptSpec


def _batch(tokenizer: Any, spec: PromptSpec) -> tuple[Any, list[TrainingSample]]:
    rng = np.random.default_rng(0)
    samples = []
    for profile in (Profile(2, 2, silent=0.0, sound_only=0.0), Profile(3, 4, silent=1.0)):
        timeline = sample(rng, profile)
        labels = label(timeline, spec)
        samples.append(TrainingSample(timeline, labels, np.arange(len(labels)), tuple(ask(timeline, rng)[:3])))
    return Packer(tokenizer).collate(samples), samples


@torch.no_grad()
def test_packed_questions_equal_separate_stock_runs(model: Any, tokenizer: Any, spec: PromptSpec) -> None:
    batch, samples = _batch(tokenizer, spec)
    text = model.model.language_model
    media = torch.randn(int(batch.media.sum()), text.config.hidden_size)
    shared = text.embed_tokens(batch.shared).masked_scatter(batch.media[..., None], media)
    parts = packed_forward.Shared(shared, batch.shared_positions, batch.shared_valid, batch.media)
    got = packed_forward.run(model, parts, packed_forward.Blocks(text.embed_tokens(batch.ids), batch.positions, batch.allowed))
    for row, one in enumerate(samples):
        for number in range(len(one.questions)):
            own, valid = batch.block[row] == number, batch.shared_valid[row]
            hidden = torch.cat([shared[row, valid], text.embed_tokens(batch.ids[row, own])])[None]
            places = torch.cat([batch.shared_positions[:, row, valid], batch.positions[:, row, own]], 1)[:, None]
            stock = text(inputs_embeds=hidden, position_ids=places, use_cache=False).last_hidden_state[0, -int(own.sum()) :]
            torch.testing.assert_close(got[row, own], stock, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_dropped_tokens_are_masked_tokens(model: Any, tokenizer: Any, spec: PromptSpec) -> None:
    """All media gone from layer 2 on equals the two lower layers with media and the two upper ones without."""
    batch, _ = _batch(tokenizer, spec)
    text = model.model.language_model
    media = torch.randn(int(batch.media.sum()), text.config.hidden_size)
    shared = text.embed_tokens(batch.shared).masked_scatter(batch.media[..., None], media)
    blocks = packed_forward.Blocks(text.embed_tokens(batch.ids), batch.positions, batch.allowed)
    parts = packed_forward.Shared(shared, batch.shared_positions, batch.shared_valid, batch.media)
    keep = drop_schedule.full_then_none(4, 2, 2)
    got = packed_forward.run(model, parts, blocks, keep)
    own, valid = batch.block[0] == 1, batch.shared_valid[0]
    hidden = torch.cat([shared[0, valid], blocks.hidden[0, own]])[None]
    places = torch.cat([batch.shared_positions[:, 0, valid], batch.positions[:, 0, own]], 1)[:, None]
    stays = torch.cat([~batch.media[0, valid], torch.ones(int(own.sum()), dtype=torch.bool)])
    for number, layer in enumerate(text.layers):
        if number == 2:
            hidden, places = hidden[:, stays], places[:, :, stays]
        hidden = layer(hidden, position_embeddings=text.rotary_emb(hidden, places))
    torch.testing.assert_close(got[0, own], text.norm(hidden)[0, -int(own.sum()) :], rtol=1e-4, atol=1e-4)


def test_shares_never_grow_and_end_at_nothing() -> None:
    keep = drop_schedule.random_shares(12, 9, 64, np.random.default_rng(1))
    assert (keep.diff(dim=0) <= 1e-6).all()
    whole = (keep == 1).all(0)
    assert 0.2 < whole.float().mean() < 0.6, "some clips keep everything"
    assert (keep[9:, ~whole] == 0).all()
    assert (keep[0] == 1).all()
    assert ((keep[8] > 0) & (keep[8] < 1)).any(), "some clips lose tokens on the way"


@torch.no_grad()
def test_encoders_equal_the_stock_encoders(model: Any, spec: PromptSpec) -> None:
    generator = torch.Generator().manual_seed(0)
    for height, width in ((84, 84), (56, 112), (112, 56)):
        frames = torch.randint(0, 256, (6, 3, height, width), generator=generator, dtype=torch.uint8)
        grid = torch.tensor([[3, height // 14, width // 14]])
        stock = model.model.visual(patchify(frames, spec), grid_thw=grid).pooler_output
        torch.testing.assert_close(batched_encoders.see(model.model.visual, frames, spec).flatten(0, 1), stock, rtol=1e-4, atol=1e-5)
    mels = [torch.randn(128, length, generator=generator) for length in (200, 430, 73)]
    for mel, ours in zip(mels, batched_encoders.hear(model.model.audio_tower, mels), strict=True):
        stock = model.model.audio_tower(mel, feature_lens=torch.tensor([mel.shape[1]])).last_hidden_state
        torch.testing.assert_close(ours, stock, rtol=1e-4, atol=1e-5)


def test_query_and_key_match_at_the_start(model: Any) -> None:
    attention = model.model.language_model.layers[0].self_attn
    head = attention.head_dim
    query, key = attention.q_proj.weight[:head], attention.k_proj.weight[:head]
    assert torch.nn.functional.cosine_similarity(query.flatten(), key.flatten(), dim=0) > 0.9
    # Orthogonal but for the gains: rows of slow rotary pairs are long, of fast ones short.
    square = key @ key.T
    lengths = square.diagonal().sqrt()
    torch.testing.assert_close(square / torch.outer(lengths, lengths), torch.eye(head), atol=0.5, rtol=0)
    assert lengths[head // 2 - 1] > 3 * lengths[0]


@pytest.mark.parametrize(("near", "kv"), [(model_shape.TOKEN_BEFORE, 0), (model_shape.SAME_SECOND, 1)])
def test_heads_start_out_looking_near(near: model_shape.Near, kv: int) -> None:
    """Through the stock rotary, the constant parts of query and key meet best at the wanted distance and hardly far away."""
    shape = model_shape.NanoShape()
    attention = SimpleNamespace(
        q_proj=torch.nn.Linear(shape.hidden, shape.heads * shape.head_dim),
        k_proj=torch.nn.Linear(shape.hidden, shape.kv_heads * shape.head_dim),
        v_proj=torch.nn.Linear(shape.hidden, shape.kv_heads * shape.head_dim),
        o_proj=torch.nn.Linear(shape.heads * shape.head_dim, shape.hidden),
    )
    torch.nn.init.zeros_(attention.k_proj.bias)
    model_shape.look_near(attention, shape, kv, near)
    head = (kv + 1) * shape.heads // shape.kv_heads - 1
    query = attention.q_proj.bias.view(shape.heads, -1)[head]
    key = attention.k_proj.bias.view(shape.kv_heads, -1)[kv]
    frequency = shape.rope_theta ** (-torch.arange(0, shape.head_dim, 2) / shape.head_dim)
    angle = torch.arange(200)[:, None] * frequency
    half = shape.head_dim // 2
    # A key `distance` back is turned that much less than the query.
    turned = torch.cat([key[:half] * angle.cos() + key[half:] * angle.sin(), key[half:] * angle.cos() - key[:half] * angle.sin()], 1)
    scores = (turned @ query).detach() * shape.head_dim**-0.5
    assert int(scores.argmax()) == near.distance
    torch.testing.assert_close(scores.max(), torch.tensor(near.sharpness), rtol=0.02, atol=0)
    assert scores[100:].mean() < 0.2 * near.sharpness


def test_orthogonal_brings_singular_values_to_one() -> None:
    stack = torch.randn(3, 40, 24, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(stack).float())
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_optimiser_descends_and_ignores_what_is_not_finite() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix, vector = torch.randn(8, 8, generator=generator).requires_grad_(), torch.zeros(8).requires_grad_()
    goal = torch.randn(8, 8, generator=generator)
    optimiser = Optimiser([matrix], [vector])
    first = None
    for step in range(150):
        loss = (matrix - goal).pow(2).mean() + (vector - 1).pow(2).mean()
        first = first or loss.item()
        loss.backward()
        optimiser.step(rate_at(step, 150, 0.2, warm=5))
    assert loss.item() < 0.05 * first
    before = matrix.detach().clone()
    matrix.grad = torch.full_like(matrix, torch.nan)
    optimiser.step(0.1)
    assert torch.equal(matrix.detach(), before)


def test_weights_settle_on_the_mean_of_the_last_steps_and_go_on_from_their_own() -> None:
    """Driven to and fro round a place, they stand there once averaged; the state that is saved holds both."""
    weight = torch.zeros(1).requires_grad_()
    optimiser, places = Optimiser([], [weight]), []
    for step in range(1000):
        weight.grad = torch.full_like(weight, 1.0 if step // 10 % 2 else -1.0)
        optimiser.step(0.05)
        places.append(weight.item())
    own, mean, late = optimiser.master[0].clone(), optimiser.mean[0].clone(), places[-200:]
    assert mean.item() == pytest.approx(sum(late) / len(late), abs=0.1 * (max(late) - min(late)))
    assert abs(own - mean) > 0.2 * (max(late) - min(late))
    other = torch.ones(1).requires_grad_()
    resumed = Optimiser([], [other])
    resumed.load(optimiser.state())
    assert torch.equal(other.detach(), own)
    resumed.settle()
    assert torch.equal(other.detach(), mean)
    assert torch.equal(resumed.master[0], own)
