"""The second question about a clip runs no encoder; anything doubtful in the cache counts as absent."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from omnidrop_cli import paths
from omnidrop_cli.config import GenerationConfig, MediaConfig, PruningConfig, Request
from omnidrop_cli.engine import feature_cache
from omnidrop_cli.engine.encode import MediaFeatures, encode_media
from omnidrop_cli.engine.encoded_prompt import PromptSource
from omnidrop_cli.engine.feature_cache import EncoderOutput, FeatureShape, FeatureStore
from omnidrop_cli.engine.session import Session
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.model.thinker import Thinker
from omnidrop_cli.outputs import Prompt
from tests.engine.test_encode import prompt_of

BOTH = frozenset({"audio_attention", "video_attention"})


@contextmanager
def encoder_runs(thinker: Thinker) -> Iterator[list[str]]:
    runs: list[str] = []
    handles = [
        thinker.adapter.vision_encoder.register_forward_pre_hook(lambda *_: runs.append("video")),
        thinker.adapter.audio_encoder.register_forward_pre_hook(lambda *_: runs.append("audio")),
    ]
    yield runs
    for handle in handles:
        handle.remove()


def same(one: MediaFeatures, other: MediaFeatures) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("audio", "video", "audio_attention", "video_attention")]
    return all(torch.equal(a, b) for a, b in pairs if a is not None)


@pytest.fixture(scope="module")
def thinker() -> Thinker:
    return tiny_thinker(2)


@pytest.fixture(scope="module")
def prompt(thinker: Thinker) -> Prompt:
    return prompt_of(thinker, 6, 500)


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_second_time_no_encoder_runs(thinker: Thinker, prompt: Prompt, tmp_path: Path, on_disk: bool) -> None:
    store = FeatureStore(tmp_path / "new" if on_disk else None)
    with encoder_runs(thinker) as runs:
        first = encode_media(thinker, prompt, BOTH, store=store)
        assert runs == ["audio", "video"]
        store.wait()
        if on_disk:
            store = FeatureStore(tmp_path / "new")  # another process
        for needs in (frozenset[str](), BOTH):
            again = encode_media(thinker, prompt, needs, store=store)
            assert again.reused
            assert same(first, again)
        assert runs == ["audio", "video"]
    assert not first.reused


def test_what_is_missing_is_made(thinker: Thinker, prompt: Prompt, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    with encoder_runs(thinker) as runs:
        encode_media(thinker, prompt, store=store)
        features = encode_media(thinker, prompt, frozenset({"audio_attention"}), store=store)
        assert runs == ["audio", "video", "audio"], "the pictures were there, attention to the sound was not"
        assert features.audio_attention is not None
        assert not features.reused
        store.wait()
        assert encode_media(thinker, prompt, frozenset({"audio_attention"}), store=FeatureStore(tmp_path)).reused


def test_attention_over_the_clip_is_stored_with_the_windowed_one(thinker: Thinker, prompt: Prompt, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    encode_media(thinker, prompt, frozenset({"audio_attention"}), store=store)
    made = encode_media(thinker, prompt, frozenset({"audio_attention_clip"}), store=store)
    assert not made.reused
    store.wait()
    needs = frozenset({"audio_attention", "audio_attention_clip"})
    again = encode_media(thinker, prompt, needs, store=FeatureStore(tmp_path))
    assert again.reused
    assert again.audio_attention_clip is not None
    assert made.audio_attention_clip is not None
    assert torch.equal(again.audio_attention_clip, made.audio_attention_clip)
    assert again.serve(prompt, needs)


def test_another_input_or_another_encoder_is_another_key(thinker: Thinker, prompt: Prompt) -> None:
    assert prompt.media[0].frames is not None
    assert prompt.media[0].mel is not None
    store = FeatureStore()
    encode_media(thinker, prompt, store=store)
    frames, mel = prompt.media[0].frames.copy(), prompt.media[0].mel.copy()
    frames[5, 2, 50, 80] ^= 1
    mel[100, 499] += 1e-3
    retrained = tiny_thinker(2)
    for encoder in (retrained.adapter.vision_encoder, retrained.adapter.audio_encoder):
        with torch.no_grad():
            next(encoder.parameters()).mul_(1.001)
    for model, other, expected in (
        (thinker, replace(prompt, media=(replace(prompt.media[0], frames=frames),)), ["video"]),
        (thinker, replace(prompt, media=(replace(prompt.media[0], mel=mel),)), ["audio"]),
        (retrained, prompt, ["audio", "video"]),
        (tiny_thinker(2), prompt, []),
    ):
        with encoder_runs(model) as runs:
            encode_media(model, other, store=store)
        assert runs == expected
    with encoder_runs(thinker) as runs:
        encode_media(thinker, prompt, store=store, same_within=2.0)
    assert runs == ["video"]


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "foreign", "folder"])
def test_damaged_files_are_made_again(thinker: Thinker, prompt: Prompt, tmp_path: Path, damage: str) -> None:
    store = FeatureStore(tmp_path)
    first = encode_media(thinker, prompt, BOTH, store=store)
    store.wait()
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        path.unlink()
        if damage == "folder":
            path.mkdir()
        elif damage == "foreign":
            save_file({"something": torch.zeros(3)}, path)
        else:
            path.write_bytes({"cut": content[:-7], "noise": os.urandom(len(content)), "empty": b""}[damage])
    with encoder_runs(thinker) as runs:
        store = FeatureStore(tmp_path)
        again = encode_media(thinker, prompt, BOTH, store=store)
        store.wait()
    assert runs == ["audio", "video"]
    assert same(first, again)
    if damage != "folder":
        assert encode_media(thinker, prompt, BOTH, store=FeatureStore(tmp_path)).reused


def stored(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Rewrite every file of a store with changed tensors."""
    for path in folder.iterdir():
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)


def put_value(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors["rows"].view(-1)[7:8].fill_(value)  # type: ignore[return-value]  # in place


WRONG: dict[str, Callable[[dict[str, torch.Tensor]], None]] = {
    "NaN": put_value(float("nan")),
    "infinity": put_value(float("-inf")),
    "NaN in the attention": lambda tensors: tensors["attention"].view(-1)[:1].fill_(float("nan")),  # type: ignore[dict-item,return-value]
    "width": lambda tensors: tensors.update(rows=tensors["rows"][:, :-1].contiguous()),
    "rows": lambda tensors: tensors.update(rows=tensors["rows"][:-1].contiguous()),
    "dtype": lambda tensors: tensors.update(rows=tensors["rows"].half()),
    "dimensions": lambda tensors: tensors.update(rows=tensors["rows"][None].contiguous()),
    "attention of other rows": lambda tensors: tensors.update(attention=tensors["attention"][1:].contiguous()),
    "attention of another type": lambda tensors: tensors.update(attention=tensors["attention"].int()),
}


@pytest.mark.parametrize("name", WRONG)
def test_features_no_encoder_would_give_are_made_again(thinker: Thinker, prompt: Prompt, tmp_path: Path, name: str) -> None:
    store = FeatureStore(tmp_path)
    first = encode_media(thinker, prompt, BOTH, store=store)
    store.wait()
    stored(tmp_path, WRONG[name])
    store = FeatureStore(tmp_path)
    with encoder_runs(thinker) as runs:
        again = encode_media(thinker, prompt, BOTH, store=store)
    assert runs == ["audio", "video"]
    assert same(first, again)
    store.wait()
    assert encode_media(thinker, prompt, BOTH, store=FeatureStore(tmp_path)).reused


def test_values_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.put("a", EncoderOutput(torch.full((250, 1), torch.nan)))
    store.wait()
    assert get(store, "a") is None
    assert not list(tmp_path.iterdir())


def test_the_answer_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    real = FeatureStore._write
    monkeypatch.setattr(FeatureStore, "_write", lambda *arguments: (gate.wait(10), real(*arguments))[1])
    store = FeatureStore(tmp_path)
    for key in "ab":  # one is being written, one waits
        store.put(key, EncoderOutput(torch.zeros(250, 1)))
    assert not list(tmp_path.iterdir())
    assert get(store, "b") is not None
    gate.set()
    store.wait()
    assert {path.stem for path in tmp_path.iterdir()} == {"a", "b"}


@pytest.mark.parametrize("ending", ["", "threading.Thread(target=time.sleep, args=(30,), daemon=True).start(); _exit._leave(0)"])
def test_a_process_ends_when_its_files_are_written(ending: str, tmp_path: Path) -> None:
    """Also one that a daemon thread makes end by `os._exit`, as the program does."""
    code = (
        "import sys, threading, time, torch; from pathlib import Path; from omnidrop_cli.commands import _exit\n"
        "from omnidrop_cli.engine.feature_cache import EncoderOutput, FeatureStore\n"
        "real = FeatureStore._write\n"
        "FeatureStore._write = lambda *arguments: (time.sleep(0.5), real(*arguments))\n"
        "FeatureStore(Path(sys.argv[1])).put('a', EncoderOutput(torch.zeros(250, 1)))\n"
    )
    subprocess.run([sys.executable, "-c", code + ending, str(tmp_path)], check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_folder_that_cannot_be_written(thinker: Thinker, prompt: Prompt, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = FeatureStore(tmp_path / "file" / "features")
    encode_media(thinker, prompt, store=store)
    assert encode_media(thinker, prompt, store=store).reused, "memory still serves"


def put(store: FeatureStore, key: str, floats: int = 250) -> None:
    store.put(key, EncoderOutput(torch.zeros(floats, 1)))
    store.wait()


def get(store: FeatureStore, key: str, rows: int = 250) -> EncoderOutput | None:
    return store.get(key, FeatureShape(rows, 1, torch.float32), torch.device("cpu"))


def test_memory_is_bounded_and_the_least_used_goes() -> None:
    store = FeatureStore(memory_bytes=3000)
    for key in "abc":
        put(store, key)
    assert get(store, "a") is not None
    put(store, "d")
    assert [get(store, key) is not None for key in "abcd"] == [True, False, True, True]
    put(store, "big", 1000)
    assert get(store, "big", 1000) is None


def test_disk_is_bounded_and_the_least_used_goes(tmp_path: Path) -> None:
    def store() -> FeatureStore:
        return FeatureStore(tmp_path, memory_bytes=0, disk_bytes=4000)

    for age, key in enumerate("abc"):
        put(store(), key)
        os.utime(tmp_path / f"{key}.safetensors", (1000 + age, 1000 + age))
    abandoned = tmp_path / ".part-x.safetensors"
    abandoned.write_bytes(b"1")
    os.utime(abandoned, (1000, 1000))
    assert get(store(), "a") is not None  # used: now the youngest
    put(store(), "d")
    assert {path.stem for path in tmp_path.iterdir()} == {"a", "c", "d"}
    put(store(), "big", 2000)
    assert {path.stem for path in tmp_path.iterdir()} == {"a", "c", "d"}, "what can never fit evicts nothing"


def test_session_reuses_across_questions_options_and_sessions(clips: Mapping[str, Path], thinker: Thinker) -> None:
    job = Request(str(clips["speech_video"]), "what is said?", generation=GenerationConfig(max_new_tokens=3))
    first = Session(thinker, FeatureStore(paths.features()))
    with encoder_runs(thinker) as runs:
        report = first.run(job)
        first.store.wait()
        assert not report.features_reused
        assert len(runs) == 2
        again = first.run(replace(job, question="what is shown?", method=PruningConfig("omnidrop", 0.2)))
        another = Session(thinker, FeatureStore(paths.features())).run(job)
        silent = first.run(replace(job, media_options=MediaConfig(use_audio=False)))
        assert len(runs) == 2
        assert first.run(replace(job, media_options=MediaConfig(end_s=1.5))).features_reused is False
    assert again.features_reused
    assert another.features_reused
    assert silent.features_reused
    assert another.answer == report.answer


def test_features_of_another_clip_are_not_taken(clips: Mapping[str, Path], thinker: Thinker) -> None:
    session = Session(thinker)
    job = Request(str(clips["speech_video"]), "what is said?", method=PruningConfig("none"))
    short = session.encode(PromptSource(replace(job, media_options=MediaConfig(end_s=1.0))))
    whole = session.encode(PromptSource(job, features=short.features))
    assert whole.features is not short.features
    pruned = session.encode(PromptSource(replace(job, method=PruningConfig("omnidrop")), features=whole.features))
    assert pruned.features.audio_attention is not None, "features made for another method lack what this one reads"


def test_a_process_that_ends_waits_for_its_files_and_can_go_on(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    for name in ("one", "two"):
        for number in range(3):
            store.put(f"{name}{number}", EncoderOutput(torch.zeros(50_000, 8)))
        feature_cache.wait_for_all()
        assert {path.stem for path in tmp_path.glob(f"{name}*.safetensors")} == {f"{name}{number}" for number in range(3)}
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("features")]
