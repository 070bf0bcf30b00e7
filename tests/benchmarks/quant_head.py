"""What a quantised output matrix costs in exactness: `python -m tests.benchmarks.quant_head [CLIPS]`.

On nano: logits of every step of its answers about the first CLIPS clips of its benchmark, and the answers themselves. On random weights of
the 7B's width in bfloat16: logits of random normed rows. Errors are against the matrix as it was, from the same hidden states.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from omnidrop_cli import paths
from omnidrop_cli.config import ModelConfig
from omnidrop_cli.engine.session import Session
from omnidrop_cli.model.load import load
from omnidrop_cli.model.quantize import quantized_linear
from omnidrop_cli.nano.world.benchmark import is_right, make_clip, questions

HEADS = ("int8", "nf4")
WIDTH, VOCAB, ROWS = 3584, 152_064, 256


def main(clips: int) -> None:
    """Measure and print."""
    _nano(clips)
    noise = torch.Generator().manual_seed(0)
    head = nn.Linear(WIDTH, VOCAB, bias=False, dtype=torch.bfloat16)
    head.weight.data.copy_(torch.randn(VOCAB, WIDTH, generator=noise) * WIDTH**-0.5)
    _errors("random, 7B's width", head, torch.randn(ROWS, WIDTH, generator=noise).bfloat16())


def _nano(clips: int) -> None:
    folder = paths.benchmarks() / "nano"
    folder.mkdir(parents=True, exist_ok=True)
    first = list(dict.fromkeys(one.clip for one in questions()))[:clips]
    asked = [one for one in questions() if one.clip in first]
    sessions = {head: Session(load(ModelConfig("nano", quant_head=head))) for head in ("none", *HEADS)}
    rows: list[Tensor] = []
    plain = sessions["none"].thinker.adapter.lm_head
    plain.register_forward_pre_hook(lambda _, args: rows.append(args[0].detach().reshape(-1, plain.in_features).clone()))
    answers = {head: [session.ask(make_clip(one, folder), one.question) for one in asked] for head, session in sessions.items()}
    for head, reports in answers.items():
        right = sum(is_right(one, report.answer.text) for one, report in zip(asked, reports, strict=True))
        same = sum(a.answer.token_ids == b.answer.token_ids for a, b in zip(reports, answers["none"], strict=True))
        print(f"nano, {head}: {right} of {len(asked)} right, {same} answers as with none")
    _errors("nano", plain, torch.cat(rows))


@torch.inference_mode()
def _errors(name: str, plain: nn.Linear, rows: Tensor) -> None:
    exact = plain(rows).float()
    for head in HEADS:
        linear = quantized_linear(plain, head, "cpu", plain.weight.dtype)
        held = sum(value.nbytes for value in linear.state_dict().values() if isinstance(value, Tensor))
        near = linear(rows).float()
        error = (near - exact).abs()
        log_p, log_q = exact.log_softmax(-1), near.log_softmax(-1)
        kl = (log_p.exp() * (log_p - log_q)).sum(-1)
        print(
            f"{name}, {head}: {len(rows)} rows, standard deviation {exact.std():.3g}, error mean {error.mean():.3g} max {error.max():.3g}, "
            f"top-1 {(near.argmax(-1) == exact.argmax(-1)).float().mean():.2%}, KL mean {kl.mean():.3g} max {kl.max():.3g} nats, "
            f"{held / 1e6:.1f} of {plain.weight.nbytes / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
