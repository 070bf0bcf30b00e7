"""A loaded model that answers many questions.

Knows: the order of the steps behind a decoded clip and which clock each runs under. Does not know: how any step works, where the
clip came from (`road.py`), or who is watching.

>>> session = Session.load(ModelChoice("7b"))
>>> session.ask(Job("clip.mp4", "what is said?")).answer.text
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from omnidrop_cli.engine import meter
from omnidrop_cli.engine.compare import agreement, first_token_kl
from omnidrop_cli.engine.decode import generate
from omnidrop_cli.engine.encode import MediaFeatures, embed, encode_media
from omnidrop_cli.engine.features import FeatureStore, default_folder
from omnidrop_cli.engine.prefill import Prefilled, prefill
from omnidrop_cli.engine.road import open_clip
from omnidrop_cli.errors import OutOfMemory, UsageError
from omnidrop_cli.model.load import load
from omnidrop_cli.observer import SILENT, Observer
from omnidrop_cli.prompt.build import build
from omnidrop_cli.prune.contract import PromptFacts
from omnidrop_cli.prune.methods import create
from omnidrop_cli.records import (
    SAMPLE_RATE_HZ,
    Clip,
    Comparison,
    Flops,
    Job,
    LoadedModel,
    Memory,
    MethodChoice,
    ModelChoice,
    Prompt,
    Report,
    Timings,
)

if TYPE_CHECKING:
    from torch import Tensor

    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.prune.contract import Method

NO_PRUNING = MethodChoice(name="none")


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """A job whose clip has passed the towers; what both arms of a comparison start from. `peak_mb` is the towers' memory peak."""

    job: Job
    clip: Clip
    prompt: Prompt
    features: MediaFeatures
    method: Method
    seconds: dict[str, float]
    peak_mb: float


class Session:
    """A loaded model. Not thread-safe: one job at a time."""

    def __init__(self, thinker: Thinker, store: FeatureStore | None = None) -> None:
        """`store` keeps what the towers make of clips; without one it is kept in memory, for this session."""
        self.thinker = thinker
        self.store = store or FeatureStore()

    @classmethod
    def load(cls, choice: ModelChoice | None = None, observer: Observer = SILENT) -> Session:
        """Load a checkpoint once. Raises `ModelError` with what to do."""
        choice = choice or ModelChoice()
        return cls(load(choice, observer), FeatureStore(default_folder() if choice.feature_cache else None))

    @property
    def loaded(self) -> LoadedModel:
        return self.thinker.loaded

    def ask(self, job: Job, observer: Observer = SILENT, clip: Clip | None = None, seconds: Mapping[str, float] | None = None) -> Report:
        """Answer one question. `clip` saves decoding the same media again; `seconds` are stages that ran before (for the report).

        Raises `OmnidropError`.
        """
        return self.answer(self.read(job, observer, clip, seconds), observer)

    def compare(
        self, job: Job, observer: Observer = SILENT, clip: Clip | None = None, seconds: Mapping[str, float] | None = None
    ) -> Comparison:
        """Answer one question unpruned and pruned from the same prompt; decoding and both towers run once."""
        return self.contrast(self.read(job, observer, clip, seconds), observer)

    def contrast(self, read: Read, observer: Observer = SILENT) -> Comparison:
        """`compare` for a clip that was read already: neither decoding nor the towers run."""
        plain = self.with_method(read, NO_PRUNING)
        # One unmeasured prefill of each arm: neither then pays for warming kernels and the allocator.
        for arm in (plain, read):
            self._prefill(arm)
        full, full_logits = self._run(plain, SILENT)
        pruned, pruned_logits = self._run(read, observer)
        shared, difference = agreement(full.answer.token_ids, pruned.answer.token_ids)
        return Comparison(full, pruned, shared, difference, first_token_kl(full_logits, pruned_logits))

    def read(
        self,
        job: Job,
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
        watch = meter.Stopwatch(self.thinker.device, seconds)
        method = create(job.method)
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
        peak_mb = 0.0
        needs = method.needs | needs
        if features is None or not features.serve(prompt, needs):
            observer.stage("encode")
            meter.reset_peak(self.thinker.device)
            with self._memory_guard(prompt), watch.stage("encode"):
                same_within = job.media_options.same_within
                features = encode_media(self.thinker, prompt, needs, observer, same_within=same_within, store=self.store)
            peak_mb = meter.peak_mb(self.thinker.device)
        return Read(job, clip, prompt, features, method, watch.seconds, peak_mb)

    def with_method(self, read: Read, choice: MethodChoice) -> Read:
        """The same prompt and features under another method, whose needs the features must have met."""
        method = create(choice)
        self._check(method, read.prompt)
        return replace(read, job=replace(read.job, method=choice), method=method)

    def answer(self, read: Read, observer: Observer = SILENT) -> Report:
        """Prefill and decode what was read. May be called again, also with other methods (`with_method`)."""
        return self._run(read, observer)[0]

    def _check(self, method: Method, prompt: Prompt) -> None:
        try:
            method.plan(PromptFacts(tokens=prompt.token_map, num_layers=self.thinker.geometry.num_layers))
        except ValueError as error:
            raise UsageError(f"{method.name}: {error}", "`omnidrop methods` lists every option") from error

    def _prefill(self, read: Read) -> Prefilled:
        with self._memory_guard(read.prompt):
            embeds = embed(self.thinker, read.prompt, read.features)
            return prefill(self.thinker, read.prompt, embeds, read.features, read.method)

    def _run(self, read: Read, observer: Observer) -> tuple[Report, Tensor]:
        """Prefill, decode and report; also the first token's logits."""
        thinker, prompt, job = self.thinker, read.prompt, read.job
        watch = meter.Stopwatch(thinker.device, read.seconds)
        # A peak of its own: an arm that runs after another must not report the other's.
        meter.reset_peak(thinker.device)
        observer.stage("prefill", f"{len(prompt)} tokens")
        with watch.stage("prefill"):
            prefilled = self._prefill(read)
        kv_bytes = prefilled.cache.nbytes
        observer.stage("generate")
        with self._memory_guard(prompt), watch.stage("generate"):
            ids = torch.from_numpy(prompt.input_ids).to(thinker.device)
            answer = generate(thinker, prefilled, ids, job.generation, observer.text)
        trace, clip = prefilled.trace, read.clip
        report = Report(
            job=job,
            model=thinker.loaded,
            source=clip.source,
            clip_start_s=clip.start_s,
            clip_duration_s=clip.duration_s,
            frames=0 if clip.frames is None else len(clip.frames),
            frame_size=None if clip.frames is None else (clip.frames.shape[2], clip.frames.shape[3]),
            fps=clip.fps,
            audio_s=0.0 if clip.waveform is None else len(clip.waveform) / SAMPLE_RATE_HZ,
            prompt=prompt.token_map.counts(),
            method=read.method.name,
            method_options={**read.method.describe(), **prefilled.notes},
            trace=trace,
            answer=answer,
            timings=_timings(watch.seconds),
            memory=self._memory(read.peak_mb, kv_bytes, len(prompt), sum(trace.kv_lengths)),
            flops=self._flops(len(prompt), trace.kv_lengths),
            warnings=(*clip.warnings, *prompt.warnings),
            features_reused=read.features.reused,
        )
        return report, prefilled.logits

    def _memory(self, towers_peak_mb: float, kv_bytes: int, tokens: int, rows: int) -> Memory:
        device = self.thinker.device
        return Memory(
            weights_mb=sum(p.numel() * p.element_size() for p in self.thinker.model.parameters()) / 1e6,
            kv_mb=kv_bytes / 1e6,
            kv_full_mb=kv_bytes / rows * tokens * self.thinker.geometry.num_layers / 1e6,
            peak_mb=max(towers_peak_mb, meter.peak_mb(device)),
            kind=meter.memory_kind(device),
        )

    def _flops(self, tokens: int, entering: tuple[int, ...]) -> Flops:
        g = self.thinker.geometry

        def of(lengths: Sequence[int]) -> int:
            return meter.prefill_flops(
                lengths, hidden=g.hidden, heads=g.heads, kv_heads=g.kv_heads, head_dim=g.head_dim, mlp=g.mlp, vocab=g.vocab
            )

        return Flops(full=of([tokens] * g.num_layers), pruned=of(entering))

    @contextmanager
    def _memory_guard(self, prompt: Prompt) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            counts = prompt.token_map.counts()
            raise OutOfMemory(
                f"the GPU ran out of memory on a prompt of {counts.total} tokens ({counts.video} video, {counts.audio} audio)",
                "lower --keep, --max-frames or --max-pixels, or ask about a part with --start and --end",
            ) from error


def _timings(seconds: dict[str, float]) -> Timings:
    """Stages as clocked. Where the clip decoded while the model loaded, "open" is what both took together on the wall."""
    overlapped = {"decode", "load"} if "open" in seconds else set()
    total = sum(value for name, value in seconds.items() if name not in overlapped)
    return Timings(
        **{f"{name}_s": value for name, value in seconds.items() if name != "open"},
        first_token_s=total - seconds["generate"],
        total_s=total,
    )
