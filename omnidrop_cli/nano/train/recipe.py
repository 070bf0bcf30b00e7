"""The recipe of the nano model: `python -m omnidrop_cli.nano.train all --work DIR --out DIR`.

Every stage can be stopped and resumed by the same command; the first two do not depend on each other and may run at the same time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli.errors import EXIT_INTERRUPTED, OmnidropError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2_5OmniThinkerForConditionalGeneration

    from omnidrop_cli.nano.train.loop import Stage
    from omnidrop_cli.prune.audio_selector import AudioSelector

STEPS = {"encoders": (15_500, 3e-3), "decoder": (9_400, 4e-3), "joint": (12_000, 1.5e-3), "selector": (200, 4e-3)}
"""Steps and peak rates, about those of the shipped weights (docs/results/nano.md)."""

STAGES = ("voices", *STEPS, "export")
ENGINE_WEIGHTS = {"espeak-ng": 1, "flite": 4, "festival": 10}
"""How often a voice speaks, by its program: the few recorded voices teach more than the many synthetic ones."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage or all. Returns an exit code; failures a user can mend are one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m omnidrop_cli.nano.train", description="Train the nano model.")
    parser.add_argument("stage", choices=(*STAGES, "all"))
    parser.add_argument("--work", type=Path, required=True, help="voices, states and learning curves")
    parser.add_argument("--out", type=Path, help="where export writes the checkpoint (default: WORK/checkpoint)")
    parser.add_argument("--steps", type=int, help="steps of the stage, instead of the recipe's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes that make the clips of joint and selector ahead of need")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: a GPU where there is one)")
    parser.add_argument("--replicas", type=int, default=1, help="processes that train a stage together, each on clips of its own")
    options = parser.parse_args(arguments)
    try:
        options.work.mkdir(parents=True, exist_ok=True)
        for stage in STAGES if options.stage == "all" else (options.stage,):
            if not _run(stage, options):
                return EXIT_INTERRUPTED
    except OSError as error:
        return _fail(OmnidropError(str(error), "check the --work directory"))
    except OmnidropError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


def _fail(error: OmnidropError) -> int:
    print(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)
    return error.exit_code


def _run(stage: str, options: argparse.Namespace) -> bool:
    from omnidrop_cli.nano.world.voices import synthesise, voices

    if stage == "voices":
        training = [number for number, voice in enumerate(voices()) if not voice.held_out]
        synthesise(options.work / "voices", training, lambda line: print(line, file=sys.stderr))
        return True

    import torch

    from omnidrop_cli.model.load import resolve_device
    from omnidrop_cli.nano.train import loop, replicas
    from omnidrop_cli.nano.train.model_shape import NanoShape, build_model
    from omnidrop_cli.nano.train.train_tokenizer import build
    from omnidrop_cli.nano.train.write_checkpoint import export

    torch.set_num_threads(options.threads)
    device = resolve_device(options.device)
    me = replicas.this_one(options.replicas, device)
    tokenizer, shape = build(), NanoShape()
    model = build_model(shape, tokenizer, options.seed).to(device, torch.bfloat16)
    if stage == "export":
        _take_up(model, tokenizer, options.work, shape)
        export(model, tokenizer, options.out or options.work / "checkpoint", _selector(model, tokenizer, options.work, shape))
        return True
    steps, rate = STEPS[stage]
    steps = options.steps or steps
    plan = loop.StagePlan(steps, rate, seed=me.seed(options.seed))
    # Before the others start: what is missing for the stage is then reported once.
    trained = _stage(stage, model, tokenizer, options, shape, plan.seed)
    same = [stage, "--work", options.work, "--steps", steps]
    same += [part for name in ("threads", "workers", "seed", "device", "replicas") for part in (f"--{name}", getattr(options, name))]
    with replicas.together(me, options.work, [str(part) for part in same]):
        return loop.run(trained, plan, options.work, replicas=me)


def _stage(stage: str, model: Any, tokenizer: PreTrainedTokenizerFast, options: argparse.Namespace, shape: Any, seed: int) -> Stage:
    from omnidrop_cli.nano.train.decoder_stage import DecoderStage
    from omnidrop_cli.nano.train.encoder_stage import EncoderStage
    from omnidrop_cli.nano.train.joint_stage import JointStage
    from omnidrop_cli.nano.train.prefetch import Stream
    from omnidrop_cli.nano.train.selector_stage import SelectorStage
    from omnidrop_cli.nano.world.voices import VoiceBank, voices

    if stage == "decoder":
        return DecoderStage(model, tokenizer, shape.media_layers)
    listed = voices()
    training = [number for number, voice in enumerate(listed) if not voice.held_out]
    bank = VoiceBank(options.work / "voices", training)
    often = tuple(number for number in training for _ in range(ENGINE_WEIGHTS[listed[number].engine]))
    if stage == "encoders":
        return EncoderStage(model, tokenizer, bank, often)
    _take_up(model, tokenizer, options.work, shape, joint=stage == "selector")
    clips = Stream.of(model, tokenizer, bank, often, seed=seed, workers=options.workers)
    if stage == "selector":
        return SelectorStage(model, tokenizer, clips, shape.media_layers, seed=seed)
    return JointStage(model, tokenizer, clips, shape.media_layers)


def _take_up(
    model: Qwen2_5OmniThinkerForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, work: Path, shape: Any, joint: bool = True
) -> None:
    """Put the newest trained weights into the model: the joint stage's, or those of the two stages before it."""
    from omnidrop_cli.nano.train import loop
    from omnidrop_cli.nano.train.decoder_stage import DecoderStage
    from omnidrop_cli.nano.train.encoder_stage import EncoderStage
    from omnidrop_cli.nano.train.joint_stage import JointStage
    from omnidrop_cli.nano.train.prefetch import Stream
    from omnidrop_cli.nano.world.voices import VoiceBank

    nobody = VoiceBank(work, ())
    stages: list[Stage] = [EncoderStage(model, tokenizer, nobody, (0,)), DecoderStage(model, tokenizer, shape.media_layers)]
    if joint and (work / "joint.pt").exists():
        stages[1] = JointStage(model, tokenizer, Stream.of(model, tokenizer, nobody, ()), shape.media_layers)
    for stage in stages:
        if not loop.settle(stage, work):
            raise OmnidropError(
                f"{work}: stage {stage.name} has not been trained yet", f"run `python -m omnidrop_cli.nano.train {stage.name}`"
            )


def _selector(model: Any, tokenizer: PreTrainedTokenizerFast, work: Path, shape: Any) -> AudioSelector | None:
    """The trained selector, None where its stage has not run."""
    from omnidrop_cli.nano.train import loop
    from omnidrop_cli.nano.train.prefetch import Stream
    from omnidrop_cli.nano.train.selector_stage import SelectorStage
    from omnidrop_cli.nano.world.voices import VoiceBank

    stage = SelectorStage(model, tokenizer, Stream.of(model, tokenizer, VoiceBank(work, ()), ()), shape.media_layers)
    return stage.selector if loop.settle(stage, work) else None
