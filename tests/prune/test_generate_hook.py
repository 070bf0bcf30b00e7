"""The hook against the oracle: a pruned run equals a dense run that masks the same tokens, also while it decodes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from omnidrop_cli.engine.decode_step import step
from omnidrop_cli.engine.kv_cache import RaggedCache
from omnidrop_cli.errors import ModelError, OmnidropError
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.model.thinker import Thinker
from omnidrop_cli.prompt.layout import Layout, assemble, lay_out
from omnidrop_cli.prune.base import InputView, LayerView, Method, Plan, PromptInfo, Queries, Selection
from omnidrop_cli.prune.generate_hook import pruning
from tests.engine.oracle import DenseRun


@dataclass(frozen=True)
class Halving(Method):
    """Drops from the input if `before`, and a share of the least attended after most layers."""

    name = "halving"
    before: bool = True
    queries: Queries = "query"

    def plan(self, prompt: PromptInfo) -> Plan:
        return Plan(input_stage=_every_other if self.before else None, in_llm_stage=_LeastAttended(prompt.num_layers, self.queries))


def _every_other(view: InputView) -> Selection:
    return Selection(audio=torch.arange(0, len(view.audio), 2), video=torch.arange(1, len(view.video), 3))


@dataclass(frozen=True)
class _LeastAttended:
    layers: int
    queries: Queries

    def keep_count(self, layer: int, alive: int) -> int:
        return alive if layer in (0, self.layers - 1) else max(1, int(alive * 0.7))

    def __call__(self, view: LayerView, keep: int) -> Tensor:
        scores = view.attention(self.queries)
        for values in (view.modality, view.chunk, view.index, view.hidden, scores):
            assert len(values) == len(view.index)
        return scores.topk(keep).indices


def layout_of(thinker: Thinker, grids: int = 3, audio: int = 60, text: int = 20) -> Layout:
    block = lay_out(thinker.spec, grid_thw=(grids, 4, 6) if grids else None, seconds_per_grid=1.0, audio_tokens=audio)
    is_query = np.arange(text) >= text - 9
    is_query[-3:] = False
    return assemble(np.arange(text) + 3, is_query, 5, [block])


def run_pruned(thinker: Thinker, layout: Layout, method: Method) -> tuple[Tensor, RaggedCache, object]:
    cache = RaggedCache(thinker.sizes.num_layers)
    positions = torch.from_numpy(layout.positions)[:, None]
    with torch.inference_mode(), pruning(thinker.model, method, layout.tokens) as run:
        embeds = thinker.adapter.embed(torch.from_numpy(layout.input_ids))[None]
        hidden = thinker.adapter.run_stock(embeds, positions, cache)
    return hidden[0], cache, run.trace()


@pytest.mark.parametrize(("layers", "heads", "kv_heads", "head_dim"), [(2, 4, 4, 16), (6, 4, 2, 16), (5, 6, 1, 32), (9, 2, 1, 64)])
@pytest.mark.parametrize("before", [False, True])
def test_pruned_run_equals_masked_dense_run(layers: int, heads: int, kv_heads: int, head_dim: int, before: bool) -> None:
    thinker = tiny_thinker(layers, heads, kv_heads, head_dim)
    layout = layout_of(thinker)
    hidden, cache, trace = run_pruned(thinker, layout, Halving(before))
    assert cache.lengths == trace.kv_lengths
    assert trace.kv_lengths[-1] < trace.kv_lengths[0] or layers == 2

    dense = DenseRun(thinker.adapter, trace)
    with torch.inference_mode():
        embeds = thinker.adapter.embed(torch.from_numpy(layout.input_ids))[None]
    reference = dense.prefill(embeds, torch.from_numpy(layout.positions)[:, None])
    torch.testing.assert_close(hidden, reference[torch.from_numpy(trace.kept[-1])], rtol=1e-4, atol=2e-5)

    for offset in range(20):
        token, position = 40 + offset, layout.next_position + offset
        logits = step(thinker, cache, token, position)
        expected = thinker.adapter.lm_head(dense.step(token, position)[-1])
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("queries", ["query", "last", "text"])
def test_stock_generate_gives_the_same_tokens(before: bool, queries: Queries) -> None:
    thinker = tiny_thinker(6)
    layout = layout_of(thinker)
    ids = torch.from_numpy(layout.input_ids)[None]
    method = Halving(before, queries)
    with pruning(thinker.model, method, layout.tokens) as run:
        stock = thinker.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            position_ids=torch.from_numpy(layout.positions)[:, None],
            max_new_tokens=20,
            do_sample=False,
            eos_token_id=-1,
            pad_token_id=thinker.pad_id,
        )[0, ids.shape[1] :].tolist()
    stock_trace = run.trace()

    hidden, cache, trace = run_pruned(thinker, layout, method)
    logits = thinker.adapter.lm_head(hidden[-1])
    own = []
    for offset in range(20):
        own.append(int(logits.argmax()))
        logits = step(thinker, cache, own[-1], int(layout.positions[:, -1].max()) + 1 + offset)
    assert all((a == b).all() for a, b in zip(stock_trace.kept, trace.kept, strict=True))
    assert own == stock


def test_scores_are_the_layers_own_attention() -> None:
    """`LayerView.attention` is the mean over heads and question rows of what eager attention would show."""
    thinker = tiny_thinker(3)
    layout = layout_of(thinker)
    seen: dict[int, Tensor] = {}

    @dataclass(frozen=True)
    class Look(Method):
        name = "look"

        def plan(self, prompt: PromptInfo) -> Plan:
            return Plan(in_llm_stage=_Look(seen))

    run_pruned(thinker, layout, Look())
    thinker.model.set_attn_implementation("eager")
    with torch.inference_mode():
        attentions = thinker.adapter.text_model(
            input_ids=torch.from_numpy(layout.input_ids)[None],
            position_ids=torch.from_numpy(layout.positions)[:, None],
            output_attentions=True,
        ).attentions
    media = torch.from_numpy((layout.tokens.modality != 0).nonzero()[0])
    query = torch.from_numpy(layout.tokens.is_query.nonzero()[0])
    # Only the first layer is compared: afterwards one token is missing from what the other layers see.
    torch.testing.assert_close(seen[0], attentions[0][0][:, query][:, :, media].mean((0, 1)), rtol=1e-4, atol=1e-6)


@dataclass(frozen=True)
class _Look:
    seen: dict[int, Tensor]

    def keep_count(self, layer: int, alive: int) -> int:
        return alive - 1

    def __call__(self, view: LayerView, keep: int) -> Tensor:
        self.seen[view.layer] = view.attention()
        return torch.arange(keep)


def _hooks(thinker: Thinker) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in thinker.model.modules())


@dataclass(frozen=True)
class _Breaks(Method):
    name = "breaks"

    def plan(self, prompt: PromptInfo) -> Plan:
        return Plan(input_stage=_raise)


def _raise(view: InputView) -> Selection:
    raise KeyError("a bug in a method")


def test_hooks_are_gone_afterwards_and_after_an_exception() -> None:
    thinker = tiny_thinker(3)
    layout = layout_of(thinker)
    before = _hooks(thinker)
    with pruning(thinker.model, Halving(), layout.tokens):
        assert _hooks(thinker) == before + 1 + 2 * 3
    assert _hooks(thinker) == before
    with pytest.raises(KeyError):
        run_pruned(thinker, layout, _Breaks())
    assert _hooks(thinker) == before


def test_a_method_without_stages_installs_nothing() -> None:
    @dataclass(frozen=True)
    class Idle(Method):
        name = "idle"

        def plan(self, prompt: PromptInfo) -> Plan:
            return Plan(metadata={"keep": 1.0})

    thinker = tiny_thinker(3)
    layout = layout_of(thinker)
    before = _hooks(thinker)
    with pruning(thinker.model, Idle(), layout.tokens) as run:
        assert _hooks(thinker) == before
    assert run.trace().retention_after == 1.0


def test_another_prompt_is_refused() -> None:
    thinker = tiny_thinker(2)
    short, long = layout_of(thinker, text=20), layout_of(thinker, text=25)
    ids = torch.from_numpy(long.input_ids)[None]
    with pruning(thinker.model, Halving(), short.tokens), pytest.raises(ValueError, match="token map"):
        thinker.adapter.text_model(input_ids=ids, use_cache=True)
    with pruning(thinker.model, Halving(), long.tokens), pytest.raises(ValueError, match="batch"):
        thinker.adapter.text_model(input_ids=ids.expand(2, -1), use_cache=True)


def test_eager_attention_is_refused() -> None:
    thinker = tiny_thinker(2, attention="eager")
    with pytest.raises(ModelError, match="eager"), pruning(thinker.model, Halving(), layout_of(thinker).tokens):
        pass


@pytest.fixture
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("two_threads")
def test_two_threads_with_two_models_do_not_disturb_each_other() -> None:
    thinkers = [tiny_thinker(5, seed=seed) for seed in (1, 2)]
    layouts = [layout_of(thinkers[0], grids=4), layout_of(thinkers[1], grids=2, audio=40)]
    alone = [run_pruned(t, layout, Halving())[0] for t, layout in zip(thinkers, layouts, strict=True)]
    together: list[list[Tensor]] = [[], []]

    def work(number: int) -> None:
        for _ in range(8):
            together[number].append(run_pruned(thinkers[number], layouts[number], Halving())[0])

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in (0, 1):
        assert all(torch.equal(result, alone[number]) for result in together[number])


@dataclass(frozen=True)
class Mistaken(Method):
    """Chooses `audio` of the audio, and all of the video; with `inside`, these numbers after the first layer."""

    name = "mistaken"
    audio: object = None
    inside: object = None

    def plan(self, prompt: PromptInfo) -> Plan:
        def enter(view: InputView) -> Selection:
            return Selection(self.audio, torch.arange(len(view.video)))  # type: ignore[arg-type]

        return Plan(enter) if self.inside is None else Plan(in_llm_stage=_Fixed(self.inside))


@dataclass(frozen=True)
class _Fixed:
    chosen: object

    def keep_count(self, layer: int, alive: int) -> int:
        return alive if layer else 3

    def __call__(self, view: LayerView, keep: int) -> Tensor:
        return self.chosen  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Mistaken(torch.zeros(5, dtype=torch.int64)), "chose some of the audio tokens twice"),
        (Mistaken(torch.tensor([60])), "chose number 60 of 60 audio tokens"),
        (Mistaken(torch.tensor([-1, 3])), "chose number -1 of 60 audio tokens"),
        (Mistaken(torch.tensor([1.0])), "did not choose audio tokens by an int64 tensor"),
        (Mistaken([1, 2]), "did not choose audio tokens by an int64 tensor"),
        (Mistaken(torch.ones(2, 2, dtype=torch.int64)), "did not choose audio tokens by an int64 tensor"),
        (Mistaken(inside=torch.tensor([1, 1, 2])), "chose some of the tokens alive after layer 0 twice"),
        (Mistaken(inside=torch.tensor([1, 2])), "planned 3 survivors after layer 0 and chose 2"),
    ],
)
def test_a_mistaken_method_is_named(method: Mistaken, said: str) -> None:
    thinker = tiny_thinker(2)
    with pytest.raises(OmnidropError, match=f"the method mistaken {said}"):
        run_pruned(thinker, layout_of(thinker), method)
