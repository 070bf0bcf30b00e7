"""Real bitsandbytes on the CPU: what is quantised, how well, and that a saved copy is the same model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from omnidrop_cli.config import ModelConfig
from omnidrop_cli.engine.session import Session
from omnidrop_cli.errors import ModelError
from omnidrop_cli.model.load import load
from omnidrop_cli.model.memory_estimate import guess
from omnidrop_cli.model.quantize import check_quantizable, has_run_on_cpu, quantize_head, save_quantized
from omnidrop_cli.model.random_weights import tiny_sizes, tiny_thinker
from omnidrop_cli.model.thinker import Thinker
from tests.model.checkpoints import quantized_modules


def logits(thinker: Thinker, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return thinker.model(ids).logits.float()


@pytest.mark.parametrize(("quant", "kind"), [("nf4", "Linear4bit"), ("int8", "Linear8bitLt")])
def test_exactly_the_decoder_layers_are_quantised(quant: str, kind: str, omni_checkpoint: Path) -> None:
    loaded = load(ModelConfig(str(omni_checkpoint), device="cpu", quant=quant))
    expected = {id(module) for number in range(4) for module in loaded.adapter.linears(number).values()}
    found = quantized_modules(loaded.model)
    assert {id(loaded.model.get_submodule(name)) for name in found} == expected
    assert set(found.values()) == {kind}
    assert loaded.loaded.quant == quant
    assert type(loaded.adapter.lm_head) is torch.nn.Linear


@pytest.mark.parametrize("quant", ["nf4", "int8"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_quantised_answers_are_near(quant: str, dtype: str, thinker: Thinker, omni_checkpoint: Path, prompt_ids: torch.Tensor) -> None:
    loaded = load(ModelConfig(str(omni_checkpoint), device="cpu", quant=quant, dtype=dtype))
    exact, near = logits(thinker, prompt_ids), logits(loaded, prompt_ids)
    closeness = torch.cosine_similarity(exact, near, dim=-1).mean()
    assert closeness > {"nf4": 0.9, "int8": 0.99}[quant]
    assert not torch.equal(exact, near)


@pytest.mark.parametrize("quant", ["nf4", "int8"])
def test_random_thinkers_quantise_like_loaded_ones(quant: str, omni_checkpoint: Path, prompt_ids: torch.Tensor) -> None:
    loaded = load(ModelConfig(str(omni_checkpoint), device="cpu", quant=quant))
    made = tiny_thinker(quant=quant)
    assert quantized_modules(made.model) == quantized_modules(loaded.model)
    assert torch.equal(logits(made, prompt_ids), logits(loaded, prompt_ids))


@pytest.mark.parametrize("quant", ["nf4", "int8"])
def test_a_saved_copy_is_the_same_model(quant: str, omni_checkpoint: Path, tmp_path: Path, prompt_ids: torch.Tensor) -> None:
    choice = ModelConfig(str(omni_checkpoint), device="cpu", quant=quant)
    first = load(choice)
    copy = tmp_path / "copies" / quant
    save_quantized(first, copy)
    again = load(ModelConfig(str(copy), device="cpu"))
    assert again.loaded.quant == quant
    assert again.frame_bounds == first.frame_bounds
    assert quantized_modules(again.model) == quantized_modules(first.model)
    assert torch.equal(logits(again, prompt_ids), logits(first, prompt_ids))
    assert [entry.name for entry in copy.parent.iterdir()] == [quant]  # no half-written directory stays


@pytest.mark.parametrize("quant", ["nf4", "int8", "none"])
def test_random_weights_can_be_saved(quant: str, tmp_path: Path, prompt_ids: torch.Tensor, capfd: pytest.CaptureFixture[str]) -> None:
    made = tiny_thinker(quant=quant)
    save_quantized(made, tmp_path / "copy")
    again = load(ModelConfig(str(tmp_path / "copy"), device="cpu"))
    assert again.loaded.quant == quant
    assert again.frame_bounds == made.frame_bounds
    assert torch.equal(logits(again, prompt_ids), logits(made, prompt_ids))
    assert capfd.readouterr() == ("", "")


def test_a_model_that_has_run_is_not_saved(tmp_path: Path, prompt_ids: torch.Tensor) -> None:
    thinker = tiny_thinker(quant="nf4")
    logits(thinker, prompt_ids)
    if not has_run_on_cpu(thinker.model):
        pytest.skip("this CPU's kernels do not repack weights")
    with pytest.raises(ModelError, match="repacked"):
        save_quantized(thinker, tmp_path / "copy")


def test_saving_over_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with pytest.raises(ModelError, match="exists"):
        save_quantized(tiny_thinker(layers=1, quant="nf4"), tmp_path / "copy")


def test_saving_into_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        save_quantized(tiny_thinker(layers=1, quant="nf4"), tmp_path / "file" / "copy")


def test_a_stored_quantisation_is_not_replaced(tmp_path: Path) -> None:
    save_quantized(tiny_thinker(layers=1, quant="nf4"), tmp_path / "copy")
    with pytest.raises(ModelError, match="nf4"):
        load(ModelConfig(str(tmp_path / "copy"), device="cpu", quant="int8"))
    assert load(ModelConfig(str(tmp_path / "copy"), device="cpu", quant="nf4")).loaded.quant == "nf4"


def test_rows_that_do_not_fit_blocks_are_refused() -> None:
    odd = tiny_sizes(mlp=96).decoder
    with pytest.raises(ModelError, match="64"):
        check_quantizable("nf4", odd)
    check_quantizable("int8", odd)


def test_large_models_are_quantised_by_default(monkeypatch: pytest.MonkeyPatch, omni_checkpoint: Path) -> None:
    from omnidrop_cli.model import load as module

    monkeypatch.setattr(module, "LARGE", 1000)
    loaded = load(ModelConfig(str(omni_checkpoint), device="cpu"))
    assert (loaded.loaded.quant, loaded.loaded.dtype) == ("nf4", "bfloat16")
    assert any("parameters" in reason for reason in loaded.loaded.reasons)


# ---------------------------------------------------------------- the output matrix


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("head", "closeness"), [("nf4", 0.99), ("int8", 0.9999)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_quantised_output_matrix_is_near_and_leaves_the_embedding_alone(
    head: str, closeness: float, dtype: torch.dtype, tied: bool
) -> None:
    plain, thinker = tiny_thinker(tied=tied, dtype=dtype), tiny_thinker(tied=tied, dtype=dtype)
    assert (thinker.adapter.lm_head.weight is thinker.adapter.embedding_weight) == tied
    quantize_head(thinker.adapter, head, "cpu")
    assert list(quantized_modules(thinker.model)) == ["lm_head"]
    assert thinker.model.lm_head is thinker.adapter.lm_head
    assert torch.equal(thinker.adapter.embedding_weight, plain.adapter.embedding_weight)
    assert thinker.adapter.embedding_weight.dtype == dtype
    hidden = torch.randn(1, 5, thinker.sizes.hidden, generator=torch.Generator().manual_seed(1)).to(dtype)
    with torch.inference_mode():
        exact, near = plain.adapter.row_logits(hidden), thinker.adapter.row_logits(hidden)
        torch.testing.assert_close(thinker.adapter.logits(hidden), near[-1], rtol=0.02, atol=0.02)
    assert not torch.equal(exact, near)
    assert torch.cosine_similarity(exact, near, dim=-1).min() > closeness


def test_the_output_matrix_gets_rows_not_a_single_dimension() -> None:
    """bitsandbytes' int8 products raise for one dimension on CUDA, not on a CPU."""
    thinker, shapes = tiny_thinker(), list[torch.Size]()
    thinker.adapter.lm_head.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape))
    hidden = torch.randn(1, 5, thinker.sizes.hidden)
    with torch.inference_mode():
        assert thinker.adapter.logits(hidden).shape == (thinker.sizes.vocab,)
        assert thinker.adapter.row_logits(hidden).shape == (5, thinker.sizes.vocab)
    assert shapes == [(1, thinker.sizes.hidden), (5, thinker.sizes.hidden)]


@pytest.mark.parametrize("quant", ["none", "nf4", "int8"])
@pytest.mark.parametrize("head", ["nf4", "int8"])
def test_a_model_loads_with_its_output_matrix_quantised(quant: str, head: str, omni_checkpoint: Path, tmp_path: Path) -> None:
    """From a checkpoint and from a quantised copy of it alike; a copy itself keeps its matrix."""
    thinker = load(ModelConfig(str(omni_checkpoint), device="cpu", quant=quant, quant_head=head))
    assert (thinker.loaded.quant, thinker.loaded.quant_head) == (quant, head)
    assert len(quantized_modules(thinker.model)) == 1 + 7 * 4 * (quant != "none")
    with pytest.raises(ModelError, match="output matrix"):
        save_quantized(thinker, tmp_path / "copy")
    save_quantized(load(ModelConfig(str(omni_checkpoint), device="cpu", quant=quant)), tmp_path / "copy")
    again = load(ModelConfig(str(tmp_path / "copy"), device="cpu", quant_head=head))
    assert quantized_modules(again.model) == quantized_modules(thinker.model)
    hidden = torch.randn(1, 1, thinker.sizes.hidden, generator=torch.Generator().manual_seed(1)).to(thinker.dtype)
    with torch.inference_mode():
        assert torch.equal(again.adapter.logits(hidden), thinker.adapter.logits(hidden))


def test_nano_answers_with_a_quantised_output_matrix() -> None:
    """Its matrix is tied to the embedding."""
    plain = load(ModelConfig("nano"))
    quantised = load(ModelConfig("nano", quant_head="nf4"))
    assert plain.adapter.lm_head.weight is plain.adapter.embedding_weight
    assert torch.equal(quantised.adapter.embedding_weight, plain.adapter.embedding_weight)
    found = Session(quantised).ask("demo", "What is said?", prompt_lookup=3)
    assert found.answer.text == "hello music garden goodbye"
    assert found.model.quant_head == "nf4"


@pytest.mark.parametrize("head", ["none", "nf4", "int8"])
@pytest.mark.parametrize("tied", [False, True])
def test_memory_of_the_output_matrix_is_estimated(head: str, tied: bool) -> None:
    thinker = tiny_thinker(tied=tied, dtype=torch.bfloat16)
    quantize_head(thinker.adapter, head, "cpu")
    weight = thinker.adapter.lm_head.weight
    state = getattr(weight, "quant_state", None)
    scales = 0 if state is None else state.absmax.nbytes + state.state2.absmax.nbytes
    scales += weight.SCB.nbytes if getattr(weight, "SCB", None) is not None else 0
    own = 0 if tied and head == "none" else weight.nbytes + scales
    guessed = guess(tiny_sizes(tied=tied), "none", [10] * 4, quant_head=head).tables_mb * 1e6
    assert guessed == pytest.approx(thinker.adapter.embedding_weight.nbytes + own, rel=0.001)
