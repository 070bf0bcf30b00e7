"""A loaded model that answers many questions.

Knows: the order of the steps behind a decoded clip and which clock each runs under. Does not know: how any step works, where the
clip came from (`pipeline.py`), or who is watching.

>>> session = Session.load(ModelConfig("7b"))
>>> session.ask(Request("clip.mp4", "what is said?")).answer.text
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import torch

from omnidrop_cli import paths
from omnidrop_cli.config import ModelConfig, PruningConfig, Request
from omnidrop_cli.engine import metrics
from omnidrop_cli.engine.agreement import agreement, first_token_kl
from omnidrop_cli.engine.build_report import report_of
from omnidrop_cli.engine.cuda_graph import CudaGraphRunner
from omnidrop_cli.engine.encode import MediaFeatures, embed, encode_media
from omnidrop_cli.engine.feature_cache import FeatureStore
from omnidrop_cli.engine.finite import check_finite
from omnidrop_cli.engine.generate import generate
from omnidrop_cli.engine.oom import Limits, less_detail, out_of_memory, until_it_fits
from omnidrop_cli.engine.pipeline import open_clip
from omnidrop_cli.engine.prefill import Prefilled, prefill
from omnidrop_cli.errors import OutOfMemory, UsageError
from omnidrop_cli.events import SILENT, Observer
from omnidrop_cli.model.load import load
from omnidrop_cli.outputs import Clip, Comparison, LoadedModel, Prompt, Report
from omnidrop_cli.prompt.build import build
from omnidrop_cli.prune.base import PromptInfo
from omnidrop_cli.prune.methods import create

if TYPE_CHECKING:
    from torch import Tensor

    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.prune.base import Method

T = TypeVar("T")

NO_PRUNING = PruningConfig(name="none")


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """A job whose clip has passed the towers; what both arms of a comparison start from.

    `peak_mb` is the towers' memory peak. `needs`, `history` and `media_first` are as `Session.read` got them; `warnings` tell what
    was given up for want of memory, and `job` and `clip` are then what was read in the end.
    """

    job: Request
    clip: Clip
    prompt: Prompt
    features: MediaFeatures
    method: Method
    seconds: dict[str, float]
    peak_mb: float
    needs: frozenset[str] = frozenset()
    history: Sequence[tuple[str, str]] = ()
    media_first: bool = True
    warnings: tuple[str, ...] = ()


class Session:
    """A loaded model. Not thread-safe: one job at a time.

    Where the device runs out of memory before the first token, the job is tried again with less, in the order `oom.py` gives.
    `limits` stay as low as they had to become.
    """

    def __init__(self, thinker: Thinker, store: FeatureStore | None = None, runner: CudaGraphRunner | None = None) -> None:
        """`store` keeps what the towers make of clips; without one it is kept in memory, for this session. `runner` says whether
        answers are decoded by a captured graph; by themselves, on CUDA."""
        self.thinker = thinker
        self.store = store or FeatureStore()
        self.runner = runner or CudaGraphRunner.of(thinker)
        self.limits = Limits()

    @classmethod
    def load(cls, choice: ModelConfig | None = None, observer: Observer = SILENT) -> Session:
        """Load a checkpoint once. Raises `ModelError` with what to do."""
        choice = choice or ModelConfig()
        thinker = load(choice, observer)
        return cls(thinker, FeatureStore(paths.features() if choice.feature_cache else None), CudaGraphRunner.of(thinker, choice.graph))

    @property
    def loaded(self) -> LoadedModel:
        return self.thinker.loaded

    def ask(
        self, job: Request, observer: Observer = SILENT, clip: Clip | None = None, seconds: Mapping[str, float] | None = None
    ) -> Report:
        """Answer one question. `clip` saves decoding the same media again; `seconds` are stages that ran before (for the report).

        Raises `OmnidropError`.
        """
        return self.answer(self.read(job, observer, clip, seconds), observer)

    def compare(
        self, job: Request, observer: Observer = SILENT, clip: Clip | None = None, seconds: Mapping[str, float] | None = None
    ) -> Comparison:
        """Answer one question unpruned and pruned from the same prompt; decoding and both towers run once."""
        return self.contrast(self.read(job, observer, clip, seconds), observer)

    def contrast(self, read: Read, observer: Observer = SILENT) -> Comparison:
        """`compare` for a clip that was read already: neither decoding nor the towers run."""
        # One unmeasured prefill of each arm: neither then pays for warming kernels and the allocator, and both fit into memory.
        read, _ = self._fitted(read, observer, lambda read: [self._prefill(arm).next_position for arm in self._arms(read)])
        plain, pruned_arm = self._arms(read)
        full, full_logits = self._run(plain, SILENT)
        pruned, pruned_logits = self._run(pruned_arm, observer)
        shared, difference = agreement(full.answer.token_ids, pruned.answer.token_ids)
        return Comparison(full, pruned, shared, difference, first_token_kl(full_logits, pruned_logits))

    def read(
        self,
        job: Request,
        observer: Observer = SILENT,
        clip: Clip | None = None,
        seconds: Mapping[str, float] | None = None,
        *,
        features: MediaFeatures | None = None,
        needs: frozenset[str] = frozenset(),
        history: Sequence[tuple[str, str]] = (),
        media_first: bool = True,
    ) -> Read:
        """Decode the clip unless given, build the prompt, run the towers unless `features` serve or the session kept what they gave.

        `needs` asks the towers for what other methods will read from the same features (`Method.needs`); `history` are earlier
        questions and answers about the clip; `media_first=False` puts the words before the clip (`prompt.build`). The pruning method
        is checked before the towers run.
        """
        watch = metrics.Stopwatch(self.thinker.device, seconds)
        method = create(job.method)
        told: list[str] = []

        def attempt() -> Read:
            nonlocal clip
            if clip is None:
                clip = open_clip(job, self.thinker.frame_bounds, observer, watch.seconds)
            observer.stage("build")
            with watch.stage("build"):
                prompt = build(
                    clip,
                    job.question,
                    self.thinker.tokenizer,
                    self.thinker.spec,
                    system=job.system,
                    media_first=media_first,
                    history=history,
                )
            for warning in prompt.warnings:
                observer.warn(warning)
            self._check(method, prompt)
            made, peak_mb = features, 0.0
            if made is None or not made.serve(prompt, method.needs | needs):
                observer.stage("encode")
                metrics.reset_peak(self.thinker.device)
                with watch.stage("encode"):
                    made = self._encode(prompt, method.needs | needs, job, observer)
                peak_mb = metrics.peak_mb(self.thinker.device)
            return Read(job, clip, prompt, made, method, watch.seconds, peak_mb, needs, history, media_first, tuple(told))

        def give_way() -> str | None:
            nonlocal job, clip
            if lower := self.limits.smaller_pieces():
                self.limits = lower
                return "the memory does not suffice: the clip passes the towers in smaller pieces"
            if clip is None or (options := less_detail(job.media_options, clip)) is None:
                return None
            job, clip = replace(job, media_options=options), None
            return _less(job)

        return until_it_fits(attempt, give_way, _telling(told, observer))

    def with_method(self, read: Read, choice: PruningConfig) -> Read:
        """The same prompt and features under another method, whose needs the features must have met."""
        method = create(choice)
        self._check(method, read.prompt)
        return replace(read, job=replace(read.job, method=choice), method=method)

    def answer(self, read: Read, observer: Observer = SILENT) -> Report:
        """Prefill and decode what was read. May be called again, also with other methods (`with_method`)."""
        return self._run(read, observer)[0]

    def _check(self, method: Method, prompt: Prompt) -> None:
        try:
            method.plan(PromptInfo(prompt.token_map, self.thinker.sizes.num_layers, self.thinker.directory))
        except ValueError as error:
            raise UsageError(f"{method.name}: {error}", "`omnidrop methods` lists every option") from error

    def _arms(self, read: Read) -> tuple[Read, Read]:
        return self.with_method(read, NO_PRUNING), read

    def _encode(self, prompt: Prompt, needs: frozenset[str], job: Request, observer: Observer) -> MediaFeatures:
        with self._memory_guard(prompt):
            same_within = job.media_options.same_within
            return encode_media(self.thinker, prompt, needs, observer, limits=self.limits, same_within=same_within, store=self.store)

    def _prefill(self, read: Read) -> Prefilled:
        with self._memory_guard(read.prompt):
            embeds = embed(self.thinker, read.prompt, read.features)
            return prefill(self.thinker, read.prompt, embeds, read.features, read.method, limits=self.limits)

    def _fitted(self, read: Read, observer: Observer, attempt: Callable[[Read], T]) -> tuple[Read, T]:
        """`attempt(read)`, and the read it was made of in the end: the given one, or one with as much less detail as memory asked for."""
        smaller: Request | None = None
        told: list[str] = []

        def attempt_it() -> T:
            nonlocal read, smaller
            if smaller is not None:
                earlier = read
                read = self.read(
                    smaller, observer, seconds=read.seconds, needs=read.needs, history=read.history, media_first=read.media_first
                )
                read = replace(read, warnings=(*earlier.warnings, *read.warnings))
                smaller = None
            return attempt(read)

        def give_way() -> str | None:
            nonlocal smaller
            if smaller is not None:  # reading it again failed, and has given way itself as far as it could
                return None
            if lower := self.limits.fewer_rows():
                self.limits = lower
                return f"the memory does not suffice: the decoder takes {lower.rows} tokens at a time"
            options = less_detail(read.job.media_options, read.clip)
            if options is None:
                return None
            smaller = replace(read.job, media_options=options)
            return _less(smaller)

        result = until_it_fits(attempt_it, give_way, _telling(told, observer))
        return replace(read, warnings=(*read.warnings, *told)), result

    def _run(self, read: Read, observer: Observer) -> tuple[Report, Tensor]:
        """Prefill, decode and report; also the first token's logits."""

        def attempt(read: Read) -> tuple[metrics.Stopwatch, Prefilled]:
            watch = metrics.Stopwatch(self.thinker.device, read.seconds)
            # A peak of its own: an arm that runs after another must not report the other's.
            metrics.reset_peak(self.thinker.device)
            observer.stage("prefill", f"{len(read.prompt)} tokens")
            with watch.stage("prefill"):
                return watch, self._prefill(read)

        read, (watch, prefilled) = self._fitted(read, observer, attempt)
        check_finite(prefilled.logits, self.thinker.model, self.thinker.dtype)
        kv_bytes = prefilled.cache.nbytes
        observer.stage("generate")
        told: list[str] = []
        with self._memory_guard(read.prompt), watch.stage("generate"):
            ids = torch.from_numpy(read.prompt.input_ids).to(self.thinker.device)
            tell = _telling(told, observer)
            answer = generate(self.thinker, prefilled, ids, read.job.generation, observer.text, runner=self.runner, warn=tell)
        read = replace(read, warnings=(*read.warnings, *told))
        return report_of(self.thinker, read, prefilled, answer, watch.seconds, kv_bytes), prefilled.logits

    @contextmanager
    def _memory_guard(self, prompt: Prompt) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as error:  # torch's out-of-memory error is a RuntimeError
            if not out_of_memory(error):
                raise
            counts = prompt.token_map.counts()
            raise OutOfMemory(
                f"{self.thinker.device} has too little memory for {counts.total} tokens ({counts.video} video, {counts.audio} audio)",
                "lower --keep, --max-frames or --max-pixels, or ask about a part with --start and --end",
            ) from error


def _less(job: Request) -> str:
    options = job.media_options
    size = f" of at most {options.max_pixels} pixels" if options.max_pixels else ""
    return f"the memory does not suffice: the clip is read again with at most {options.max_frames} frames{size}"


def _telling(told: list[str], observer: Observer) -> Callable[[str], None]:
    def tell(message: str) -> None:
        told.append(message)
        observer.warn(message)

    return tell
