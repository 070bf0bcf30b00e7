"""Run omnidrop's methods as a model of lmms-eval (tried with 0.7.3).

pip install --no-deps lmms_eval  # it asks for av<16, omnidrop for a newer one; its other requirements are its own
python docs/examples/lmms_eval_model.py --model omnidrop --model_args model=7b,method=omnidrop,keep=0.3 --tasks worldsense --batch_size 1
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmms_eval.api.model import lmms

import omnidrop_cli as omnidrop
from omnidrop_cli.config import Timing
from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.evaluate.evaluation import with_timing


class OmnidropModel(lmms):  # type: ignore[misc]  # lmms-eval has no types
    """Answers lmms-eval's video questions; one process, one clip at a time.

    Args:
        model: auto, nano, 3b, 7b, a hub repository or a directory.
        timing: published takes one second per pair of frames, as lmms-eval's own Qwen2.5-Omni does; true takes the clip's time.
        batch_size: lmms-eval passes it; only 1 makes sense here.
        device: cpu, cuda or cuda:N; lmms-eval passes it where it was given.
        options: fields of the configs as `Session.ask` takes them: method, keep, preset, max_frames, system, …
    """

    is_simple = True

    def __init__(
        self,
        model: str = "auto",
        timing: Timing = "published",
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.session = with_timing(omnidrop.load(model, device=device or "auto"), timing)
        self.options = options
        self.failed = 0

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answer to each request; empty where the clip cannot be read, which lmms-eval counts as wrong."""
        return [self._answer(*request.args) for request in requests]

    def _answer(self, question: str, generation: dict[str, Any], to_media: Any, number: int, task: str, split: str) -> str:
        clip, *others = to_media(self.task_dict[task][split][number])
        if others or not isinstance(clip, str | Path):
            raise ValueError(f"{task} gives {1 + len(others)} inputs, the first a {type(clip).__name__}; omnidrop takes one video file")
        try:
            report = self.session.ask(clip, question, max_new_tokens=generation.get("max_new_tokens", 128), **self.options)
        except OmnidropError as error:
            self.failed += 1
            print(error.message, file=sys.stderr)
            return ""
        text = report.answer.text
        for stop in generation.get("until") or ():
            text = text.partition(stop)[0] if stop else text
        return text.strip()

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        raise NotImplementedError("omnidrop generates; tasks that score given answers are not supported")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise NotImplementedError("tasks of several rounds are not supported")


def main() -> None:
    """lmms-eval's command line, with the model `omnidrop`."""
    from lmms_eval.cli.dispatch import main as command
    from lmms_eval.models import MODEL_REGISTRY_V2
    from lmms_eval.models.registry_v2 import ModelManifest

    MODEL_REGISTRY_V2.register_manifest(ModelManifest("omnidrop", simple_class_path="lmms_eval_model.OmnidropModel"))
    command()


if __name__ == "__main__":
    main()
