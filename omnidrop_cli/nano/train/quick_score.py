"""A quick score of weights in training: the nano benchmark without files, generation or engine.

It does not replace `omnidrop evaluate nano`, which reads real files and generates; answers count here when greedy decoding would write them
exactly (the order of a list included).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from omnidrop_cli.nano.train.answer_loss import loss_and_hits
from omnidrop_cli.nano.train.decoder_stage import forward
from omnidrop_cli.nano.train.labels import MediaLabels, label
from omnidrop_cli.nano.train.perceive import perceive
from omnidrop_cli.nano.train.samples import Packer, TrainingSample
from omnidrop_cli.nano.world import benchmark
from omnidrop_cli.nano.world.questions import WorldQuestion
from omnidrop_cli.prompt.spec import PromptSpec

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast, Qwen2_5OmniThinkerForConditionalGeneration

    from omnidrop_cli.nano.world.voices import VoiceBank

Answered = list[tuple[benchmark.BenchQuestion, str]]


@torch.no_grad()
def score(
    model: Qwen2_5OmniThinkerForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    bank: VoiceBank,
    keep: Callable[[], Tensor] | None = None,
    every: int = 1,
    sifting: Callable[[MediaLabels, Tensor], Tensor] | None = None,
) -> Answered:
    """Questions with the right answer where the model would give it, else with none; of every `every`-th clip.

    `keep` gives (layers, 1) shares of media tokens per layer; None keeps all. `sifting` gets a clip's labels and embeddings (n, d) and
    tells (n,) which tokens enter the decoder.
    """
    spec, packer = PromptSpec.from_config(model.config, tokenizer), Packer(tokenizer)
    asked: dict[str, list[benchmark.BenchQuestion]] = {}
    for question in benchmark.questions():
        asked.setdefault(question.clip, []).append(question)
    answered: Answered = []
    for clip in list(asked)[::every]:
        timeline = benchmark.clip_timeline(clip)
        labels = label(timeline, spec)
        packed = tuple(WorldQuestion(q.kind, q.category, q.question, q.answer, style=q.style) for q in asked[clip])
        (media,) = perceive(model, [timeline], [labels], bank, spec)
        stays = torch.ones(len(labels), dtype=torch.bool) if sifting is None else sifting(labels, media)
        one = [TrainingSample(timeline, labels, stays.numpy().nonzero()[0], packed)]
        batch = packer.collate(one)
        hidden = forward(model, batch, media[stays], keep() if keep else None)
        _, hits = loss_and_hits(hidden, model.lm_head, batch, one)
        answered += [(q, q.answer if right else "") for q, (_, right) in zip(asked[clip], hits, strict=True)]
    return answered
