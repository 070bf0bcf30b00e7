"""OmniSIFT's saliency and selector, and checkpoints in its layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from omnidrop_cli.errors import ModelError, UsageError
from omnidrop_cli.prune.audio_selector import AudioSelector, load_selector, save_selector, untrained_selector
from omnidrop_cli.prune.base import PromptInfo
from omnidrop_cli.prune.methods import omnisift
from omnidrop_cli.prune.methods.omnisift import OmniSift, saliency_references
from tests.prune.fakes import SHAPES, input_view, token_map
from tests.prune.published import timed_map

DIM = 16


def test_parameters_are_the_published_number() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in AudioSelector(3584).parameters()) == 4_856_321
        assert sum(p.numel() for p in AudioSelector(2048).parameters()) == 3_283_457


def test_first_grid_against_its_mean_second_against_the_first() -> None:
    assert saliency_references([0, 0, 1, 1, 2]) == [0, 0, 2, 2, 4]
    tokens = token_map((), (2, 2, 1))
    view = input_view(tokens)
    plan = OmniSift(audio_keep=0.0, video_keep=0.5, selector="untrained").plan(PromptInfo(tokens, 28))
    assert plan.input_stage is not None
    chosen = plan.input_stage(view).video
    grids = view.video.view(5, 12, DIM)
    for grid in range(5):
        other = grids[grid].mean(dim=0, keepdim=True) if grid % 2 == 0 else grids[grid - 1]
        salient = 1 - torch.cosine_similarity(grids[grid], other.expand(12, -1), dim=-1)
        kept = chosen[(chosen // 12) == grid] - 12 * grid
        assert len(kept) == 6
        assert set(kept.tolist()) == set(salient.topk(6).indices.tolist())


@pytest.mark.parametrize("at_once", [1, 2, 64])
def test_audio_is_ranked_window_by_window_given_its_kept_video(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(omnisift, "WINDOWS_AT_ONCE", at_once)
    tokens = timed_map(1.0, 5, 220, (3, 4))  # pairs of 2, 2 and 1 grids; 50, 50 and 120 audio tokens, since audio goes on
    view = input_view(tokens)
    plan = OmniSift(audio_keep=0.5, video_keep=0.4, selector="untrained").plan(PromptInfo(tokens, 28))
    assert plan.input_stage is not None
    chosen = plan.input_stage(view)
    selector = untrained_selector(DIM)
    start = 0
    for pair, (size, keep) in enumerate(zip((50, 50, 120), (25, 25, 60), strict=True)):
        with_it = view.video[chosen.video[chosen.video // 24 == pair]]
        with torch.no_grad():
            sound = selector.a_norm(selector.a_proj(view.audio[start : start + size]))[None]
            shown = selector.v_norm(selector.v_proj(with_it))[None]
            mixed = sound + selector.cross_attn(sound, shown, shown)[0]
            scores = selector.score_head(selector.post_attn_norm(mixed)).sigmoid().flatten()
        kept = chosen.audio[(chosen.audio >= start) & (chosen.audio < start + size)] - start
        assert set(kept.tolist()) == set(scores.topk(keep).indices.tolist())
        start += size


def test_without_trained_weights_planning_fails_unless_untrained_is_asked_for() -> None:
    for shape in ("both", "sound"):
        with pytest.raises(ValueError, match="selector=untrained"):
            OmniSift(keep=0.3).plan(PromptInfo(SHAPES[shape], 28))
    OmniSift(keep=0.3).plan(PromptInfo(SHAPES["picture"], 28))  # nothing to score
    OmniSift(keep=1.0).plan(PromptInfo(SHAPES["both"], 28))


def checkpoint(folder: Path, prefix: str = "thinker.compressor.") -> AudioSelector:
    torch.manual_seed(5)
    selector = AudioSelector(DIM)
    state = {prefix + name: tensor.clone() for name, tensor in selector.state_dict().items()}
    names = sorted(state)
    save_file({name: state[name] for name in names[:9]} | {"thinker.lm_head.weight": torch.zeros(3, 4)}, folder / "model-00001.safetensors")
    save_file({name: state[name] for name in names[9:]}, folder / "model-00002.safetensors")
    save_file(state, folder.parent / "selector.safetensors")
    torch.save({name.removeprefix(prefix): tensor for name, tensor in state.items()}, folder.parent / "selector.pt")
    return selector


@pytest.mark.parametrize("kind", ["directory", "selector.safetensors", "selector.pt"])
def test_a_published_checkpoint_is_read(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "OmniSIFT-7B"
    folder.mkdir()
    selector = checkpoint(folder)
    path = str(folder if kind == "directory" else tmp_path / kind)
    for name, tensor in load_selector(path).state_dict().items():
        assert torch.equal(tensor, selector.state_dict()[name])
    tokens, view = SHAPES["long"], input_view(SHAPES["long"])
    trained, untrained = (OmniSift(keep=0.3, selector=which).plan(PromptInfo(tokens, 28)) for which in (path, "untrained"))
    assert trained.input_stage is not None
    assert untrained.input_stage is not None
    assert not torch.equal(trained.input_stage(view).audio, untrained.input_stage(view).audio)
    assert trained.metadata is not None
    assert trained.metadata["selector"] == path


def test_a_checkpoint_without_a_selector_is_said(tmp_path: Path) -> None:
    save_file({"thinker.lm_head.weight": torch.zeros(3, 4)}, tmp_path / "model.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not a tensor")
    for path in (tmp_path / "model.safetensors", tmp_path / "missing.pt", tmp_path / "broken.safetensors"):
        with pytest.raises(ModelError, match=path.name):
            load_selector(str(path))


def test_a_selector_of_another_width_is_said(tmp_path: Path) -> None:
    save_file({f"compressor.{k}": v for k, v in AudioSelector(8).state_dict().items()}, tmp_path / "small.safetensors")
    plan = OmniSift(keep=0.3, selector=str(tmp_path / "small.safetensors")).plan(PromptInfo(SHAPES["both"], 28))
    assert plan.input_stage is not None
    with pytest.raises(UsageError, match="embeddings of 8, and this model has 16"):
        plan.input_stage(input_view(SHAPES["both"]))


def test_a_selector_first_used_in_a_run_can_be_trained_after(tmp_path: Path) -> None:
    """Both caches give one module to all: what a run under inference mode made must not stay an inference tensor."""
    path = tmp_path / "selector.safetensors"
    save_selector(AudioSelector(DIM), path)
    untrained_selector.cache_clear()
    with torch.inference_mode():
        selectors = untrained_selector(DIM), load_selector(str(path))
    for selector in selectors:
        assert not any(parameter.is_inference() for parameter in selector.parameters())
