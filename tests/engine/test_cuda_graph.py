"""Decoding by a captured graph: the same answers and the same cache as without one; where a graph fails, the eager loop goes on.

There is no CUDA here. A tape (`tape.py`) stands in for `torch.cuda.CUDAGraph`: it freezes the operations of one step and the tensors
they use, and refuses what a capture refuses (values that go back to the host), so that whatever a replay needs to be static is held
to it. Kernels, streams and the allocator are what it cannot stand for: those tests are marked `gpu`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from omnidrop_cli.bench.decoding import uncaptured
from omnidrop_cli.config import GenerationConfig
from omnidrop_cli.engine import cuda_graph, decode_step
from omnidrop_cli.engine import generate as generation
from omnidrop_cli.engine.cuda_graph import CudaGraphRunner, agree
from omnidrop_cli.engine.generate import generate
from omnidrop_cli.engine.kv_cache import RaggedCache
from omnidrop_cli.engine.prefill import Prefilled
from omnidrop_cli.model.cuda_capture import Capture
from omnidrop_cli.model.quantize import quantize_head
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.model.thinker import Thinker
from omnidrop_cli.outputs import Answer
from tests.engine.tape import capture_on_tape
from tests.engine.test_decode_step import SHAPES, assert_same, lengths_for, ragged

IDS = torch.arange(10, 60)


@pytest.fixture(autouse=True)
def _early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Capture after two tokens, so that short answers see graphs."""
    monkeypatch.setattr(cuda_graph, "WARMUP_TOKENS", 2)
    monkeypatch.setattr(cuda_graph, "MIN_TOKENS", 3)


def prefilled(thinker: Thinker, longest: int = 90) -> Prefilled:
    logits = torch.randn(thinker.sizes.vocab, generator=torch.Generator().manual_seed(3))
    return Prefilled(ragged(thinker, lengths_for(thinker, longest)), logits, longest + 30, state=None)  # type: ignore[arg-type]


def answer(
    thinker: Thinker, start: Prefilled, capture: Capture | None = None, graphs: CudaGraphRunner | None = None, **options: object
) -> tuple[Answer, list[str], list[str]]:
    pieces: list[str] = []
    said: list[str] = []
    settings = GenerationConfig(**{"max_new_tokens": 30, **options})  # type: ignore[arg-type]
    given = generate(thinker, start, IDS, settings, pieces.append, runner=graphs or CudaGraphRunner(capture), warn=said.append)
    return given, pieces, said


class Counting:
    """A capture that counts what is made of it."""

    def __init__(self, capture: Capture = capture_on_tape) -> None:
        self.capture, self.captures, self.replays = capture, 0, 0

    def __call__(self, step: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1
        replay = self.capture(step)

        def counted() -> None:
            self.replays += 1
            replay()

        return counted


def without_end(thinker: Thinker) -> Thinker:
    return replace(thinker, eos_ids=())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("most", [1, 5, 6, 30])
def test_answers_and_cache_are_those_without_a_graph(shape: tuple[int, int, int, int], most: int) -> None:
    thinker = without_end(tiny_thinker(*shape))
    plain, graphed, capture = prefilled(thinker), prefilled(thinker), Counting()
    expected, expected_pieces, _ = answer(thinker, plain, max_new_tokens=most)
    found, pieces, said = answer(thinker, graphed, capture, max_new_tokens=most)
    assert found == expected
    assert len(found.token_ids) == most
    assert pieces == expected_pieces
    assert said == []
    assert capture.captures == (most >= 6), "two read, three to come after the one just chosen"
    if capture.captures:
        assert capture.replays == most - 3
    assert_same(graphed.cache, plain.cache)


@pytest.mark.parametrize("head", ["none", "nf4"])
def test_a_quantised_decoder(head: str) -> None:
    """bitsandbytes' own operations are on the tape too. Held against the same step without a tape: in bfloat16 an eager step's attention
    rounds otherwise."""
    thinker = without_end(tiny_thinker(3, 4, 2, 16, quant="nf4", dtype=torch.bfloat16))
    quantize_head(thinker.adapter, head, "cpu")
    plain, graphed, capture = prefilled(thinker), prefilled(thinker), Counting()
    assert answer(thinker, graphed, capture)[0] == answer(thinker, plain, uncaptured)[0]
    assert capture.replays == 27


@pytest.mark.parametrize("options", [{"temperature": 2.0, "seed": 4}, {"repetition_penalty": 1.3}, {"temperature": 1.5, "top_p": 0.5}])
def test_sampled_answers_too(options: dict[str, object]) -> None:
    thinker = without_end(tiny_thinker(4))
    plain, graphed, capture = prefilled(thinker), prefilled(thinker), Counting()
    expected, _, _ = answer(thinker, plain, **options)
    found, _, _ = answer(thinker, graphed, capture, **options)
    assert found == expected
    assert expected.token_ids != answer(thinker, prefilled(thinker))[0].token_ids
    assert capture.replays == 27
    assert_same(graphed.cache, plain.cache)


@pytest.mark.parametrize("end", range(1, 14))
def test_an_end_token_anywhere_between_two_looks(end: int) -> None:
    """The steps past it leave nothing in the cache, wherever in a run of replays it comes."""
    thinker = without_end(tiny_thinker(4, seed=2))
    tokens = answer(thinker, prefilled(thinker))[0].token_ids
    ending = replace(thinker, eos_ids=(tokens[end],))
    stop = tokens.index(tokens[end])
    plain, graphed = prefilled(thinker), prefilled(thinker)
    expected, _, _ = answer(ending, plain)
    found, _, _ = answer(ending, graphed, capture_on_tape)
    assert found == expected
    assert (found.finish_reason, found.token_ids) == ("eos", tokens[:stop])
    assert_same(graphed.cache, plain.cache)


def test_a_stop_string_between_two_looks() -> None:
    thinker = without_end(tiny_thinker(4, seed=2))
    tokens = answer(thinker, prefilled(thinker))[0].token_ids
    letter = next(thinker.tokenizer.decode([t]) for t in tokens[8:] if 33 <= t < 127)
    plain, graphed = prefilled(thinker), prefilled(thinker)
    expected, expected_pieces, _ = answer(thinker, plain, stop=(letter,))
    found, pieces, _ = answer(thinker, graphed, capture_on_tape, stop=(letter,))
    assert (found, pieces) == (expected, expected_pieces)
    assert found.finish_reason == "stop"
    assert_same(graphed.cache, plain.cache)


def test_a_long_answer_is_captured_again_where_its_storage_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "MAX_CAPTURE", 7)
    thinker = without_end(tiny_thinker(4))
    plain, graphed, capture = prefilled(thinker), prefilled(thinker), Counting()
    assert answer(thinker, graphed, capture)[0] == answer(thinker, plain)[0]
    assert capture.captures == 4
    assert_same(graphed.cache, plain.cache)


def test_the_conversation_goes_on_in_the_same_cache() -> None:
    """After an answer by graph the cache is an ordinary one: asked again from the prefill, or continued, with a graph or without."""
    thinker = without_end(tiny_thinker(5))
    plain, graphed = prefilled(thinker), prefilled(thinker)
    lengths = graphed.cache.lengths
    first = answer(thinker, graphed, capture_on_tape)[0]
    assert first == answer(thinker, plain)[0]
    graphed.cache.truncate(lengths)
    assert answer(thinker, graphed, capture_on_tape, max_new_tokens=12)[0].token_ids == first.token_ids[:12]
    plain.cache.truncate(lengths)
    assert answer(thinker, plain, max_new_tokens=12)[0].token_ids == first.token_ids[:12]
    for capture in (None, capture_on_tape):
        ahead = [replace(p, next_position=p.next_position + 40) for p in (plain, graphed)]
        assert answer(thinker, ahead[0])[0] == answer(thinker, ahead[1], capture)[0]
    assert_same(graphed.cache, plain.cache)


# ---------------------------------------------------------------- where it fails


def broken_on(call: int, error: Exception) -> Capture:
    """A capture whose recorded step raises, as one does that waits for the host; before that the warm-up ran."""
    calls = iter(range(100))

    def capture(step: Callable[[], None]) -> Callable[[], None]:
        if next(calls) >= call:
            step()
            raise error
        return capture_on_tape(step)

    return capture


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted when stream is capturing\nCUDA kernel"), NotImplementedError()])
def test_a_capture_that_fails_costs_speed_only_and_is_not_tried_again(error: Exception) -> None:
    thinker = without_end(tiny_thinker(4))
    plain, graphed, capture = prefilled(thinker), prefilled(thinker), Counting(broken_on(0, error))
    graphs = CudaGraphRunner(capture)
    expected = answer(thinker, plain)[0]
    found, _, said = answer(thinker, graphed, graphs=graphs)
    assert found == expected
    assert_same(graphed.cache, plain.cache)
    assert capture.captures == 1
    assert len(said) == 1
    assert "\n" not in said[0]
    assert (str(error).partition("\n")[0] or "NotImplementedError") in said[0]
    again, _, said = answer(thinker, prefilled(thinker), graphs=graphs)
    assert (again, said, capture.captures) == (expected, [], 1)


def test_memory_that_does_not_suffice_once_may_the_next_time() -> None:
    thinker = without_end(tiny_thinker(4))
    expected = answer(thinker, prefilled(thinker))[0]
    failures = iter([torch.OutOfMemoryError("CUDA out of memory")])

    def capture(step: Callable[[], None]) -> Callable[[], None]:
        for failure in failures:
            raise failure
        return capture_on_tape(step)

    graphs = CudaGraphRunner(counted := Counting(capture))
    found, _, said = answer(thinker, prefilled(thinker), graphs=graphs)
    assert (found, len(said), counted.captures, counted.replays) == (expected, 1, 1, 0)
    assert answer(thinker, prefilled(thinker), graphs=graphs)[0] == expected
    assert (counted.captures, counted.replays) == (2, 27)


def test_an_eager_step_that_breaks_off_leaves_no_half_row(monkeypatch: pytest.MonkeyPatch) -> None:
    thinker = without_end(tiny_thinker(4))
    plain, graphed, calls = prefilled(thinker), prefilled(thinker), []
    expected = answer(thinker, plain)[0]
    eager = cuda_graph.step

    def breaking(thinker: Thinker, cache: RaggedCache, token: int, position: int) -> torch.Tensor:
        calls.append(token)
        if len(calls) == 3:  # the one that a graph is to be held against
            for layer in cache.layers[:2]:
                layer.append(layer.keys[:, :, :1], layer.values[:, :, :1])
            raise torch.OutOfMemoryError("CUDA out of memory")
        return eager(thinker, cache, token, position)

    monkeypatch.setattr(cuda_graph, "step", breaking)
    monkeypatch.setattr(generation, "step", breaking)
    found, _, said = answer(thinker, graphed, capture_on_tape)
    assert (found, len(said)) == (expected, 1)
    assert_same(graphed.cache, plain.cache)


def test_a_second_capture_that_fails_leaves_what_the_first_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "MAX_CAPTURE", 7)
    thinker = without_end(tiny_thinker(4))
    plain, graphed = prefilled(thinker), prefilled(thinker)
    expected = answer(thinker, plain)[0]
    found, _, said = answer(thinker, graphed, broken_on(1, RuntimeError("no")))
    assert (found, len(said)) == (expected, 1)
    assert_same(graphed.cache, plain.cache)


@pytest.mark.parametrize("at", ["warm-up", "replay"])
def test_a_graph_that_differs_from_the_eager_step_is_not_used(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    thinker = without_end(tiny_thinker(4))
    plain, graphed = prefilled(thinker), prefilled(thinker)
    expected = answer(thinker, plain)[0]
    made = []
    static_decode = cuda_graph.StaticDecode

    class Kept(static_decode):  # type: ignore[valid-type,misc]
        def __init__(self, *args: object) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(cuda_graph, "StaticDecode", Kept)

    def spoil() -> None:
        with torch.inference_mode():
            made[-1].logits[5] += 0.02 * made[-1].logits.abs().max()

    def capture(step: Callable[[], None]) -> Callable[[], None]:
        replay = capture_on_tape(step)
        if at == "warm-up":
            spoil()
        return lambda: (replay(), spoil())[0]

    found, _, said = answer(thinker, graphed, capture)
    assert found == expected
    assert_same(graphed.cache, plain.cache)
    assert said == ["decoding goes on without a CUDA graph, slower but the same: its first step differs from the eager one"]


class Spoiled:
    """Kernels that raise `error`, or give another hidden state than the layers do."""

    def __init__(self, error: Exception | None) -> None:
        self.error, self.calls = error, 0

    def run(self, hidden: torch.Tensor, _: object) -> torch.Tensor:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return -hidden


@pytest.mark.parametrize("error", [RuntimeError("no compiler\nanywhere"), None])
def test_kernels_that_fail_give_way_to_a_graph_of_modules(error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    thinker, spoiled = without_end(tiny_thinker(4)), Spoiled(error)
    monkeypatch.setattr(cuda_graph, "readable_layers", lambda _: [])
    monkeypatch.setattr(decode_step, "RowStep", lambda *_: spoiled.run)
    plain, graphed, capture = prefilled(thinker), prefilled(thinker), Counting()
    graphs = CudaGraphRunner(capture)
    expected = answer(thinker, plain)[0]
    found, _, said = answer(thinker, graphed, graphs=graphs)
    assert found == expected
    assert_same(graphed.cache, plain.cache)
    reason = "no compiler" if error else "its first step differs from the eager one"
    assert said == [f"decoding goes on without kernels for NF4 weights, slower but the same: {reason}"]
    calls = spoiled.calls
    again, _, said = answer(thinker, prefilled(thinker), graphs=graphs)
    assert (again, said, spoiled.calls, capture.captures) == (expected, [], calls, 3)


def test_kernels_without_enough_memory_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    thinker, spoiled = without_end(tiny_thinker(4)), Spoiled(torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(cuda_graph, "readable_layers", lambda _: [])
    monkeypatch.setattr(decode_step, "RowStep", lambda *_: spoiled.run)
    graphs = CudaGraphRunner(capture_on_tape)
    found, _, said = answer(thinker, prefilled(thinker), graphs=graphs)
    assert (found, len(said), spoiled.calls) == (answer(thinker, prefilled(thinker))[0], 1, 1)
    answer(thinker, prefilled(thinker), graphs=graphs)
    assert (spoiled.calls, graphs.kernels) == (2, True)


def test_agreement_of_logits() -> None:
    row = torch.tensor([1.0, -8.0, 5.0, 4.9])
    assert agree(row, row, 0)
    assert agree(row, row + 0.07, 0.01)
    assert not agree(row, row + 0.09, 0.01)
    assert agree(row, torch.tensor([1.0, -8.0, 4.95, 4.96]), 0.02), "a tie within the bound"
    assert not agree(row, torch.tensor([1.0, -8.0, 4.94, 4.97]), 0.01), "another token, though no logit is far off"
    assert not agree(row, torch.full((4,), float("nan")), 1.0)


def test_graphs_are_for_cuda_and_reported_where_they_cannot_be() -> None:
    thinker = without_end(tiny_thinker(4))
    assert CudaGraphRunner.of(thinker) == CudaGraphRunner()

    class OnCuda:
        device = torch.device("cuda", 0)
        loaded = thinker.loaded

    on_cuda = OnCuda()
    assert CudaGraphRunner.of(on_cuda, enabled=False) == CudaGraphRunner()  # type: ignore[arg-type]
    graphs = CudaGraphRunner.of(on_cuda)  # type: ignore[arg-type]
    assert graphs.capture is not None
    assert graphs.refusal is None
    refused = (({"quant": "int8"}, "outliers"), ({"quant_head": "int8"}, "outliers"), ({"attention": "flash_attention_2"}, "mask"))
    for change, reason in refused:
        on_cuda.loaded = replace(thinker.loaded, **change)
        graphs = CudaGraphRunner.of(on_cuda)  # type: ignore[arg-type]
        assert reason in (graphs.refusal or "")
        found, _, said = answer(thinker, prefilled(thinker), graphs=graphs)
        assert found == answer(thinker, prefilled(thinker))[0]
        assert len(said) == 1
        assert reason in said[0]


@pytest.mark.parametrize("wait", [lambda t: float(t.sum()), lambda t: bool((t > 0).any()), lambda t: t.nonzero()])
def test_a_step_that_waits_for_the_host_cannot_be_taped(wait: Callable[[torch.Tensor], object]) -> None:
    """The stand-in refuses what CUDA refuses, or these tests would show nothing."""
    value = torch.ones(3)
    with pytest.raises(RuntimeError, match="capturing"):
        capture_on_tape(lambda: setattr(value, "seen", wait(value)))


@pytest.mark.gpu
@pytest.mark.parametrize("quant", ["none", "nf4"])
def test_on_cuda(quant: str) -> None:
    dtype = torch.float32 if quant == "none" else torch.bfloat16
    thinker = without_end(tiny_thinker(4, 4, 2, 64, device="cuda", dtype=dtype, quant=quant))

    def start() -> Prefilled:
        made = prefilled(tiny_thinker(4, 4, 2, 64, dtype=dtype))
        cache = ragged(thinker, ())
        with torch.inference_mode():
            for number, layer in enumerate(made.cache.layers):
                cache.update(layer.keys.cuda(), layer.values.cuda(), number)
        return replace(made, cache=cache, logits=made.logits.cuda())

    graphs = CudaGraphRunner.of(thinker)
    counted = graphs.capture = Counting(graphs.capture)  # type: ignore[arg-type]
    for temperature in (0.0, 1.0):
        options = GenerationConfig(max_new_tokens=30, temperature=temperature)
        said: list[str] = []
        found = generate(thinker, start(), IDS.cuda(), options, runner=graphs, warn=said.append)
        assert said == []
        assert counted.replays
        if quant == "none":
            assert found == generate(thinker, start(), IDS.cuda(), options)
