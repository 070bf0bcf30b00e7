"""A loaded model that answers many questions: build the prompt, encode the media, prefill, generate, report.

>>> session = omnidrop_cli.load("nano")
>>> session.ask("clip.mp4", "what is said?", keep=0.2).answer.text
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from omnidrop_cli import paths
from omnidrop_cli.config import ModelConfig, PruningConfig, Request
from omnidrop_cli.engine import metrics, oom
from omnidrop_cli.engine.agreement import agreement, first_token_kl
from omnidrop_cli.engine.build_report import build_report, timings_of
from omnidrop_cli.engine.cuda_graph import CudaGraphRunner
from omnidrop_cli.engine.encode import embed, encode_media
from omnidrop_cli.engine.encoded_prompt import EncodedPrompt, PromptSource
from omnidrop_cli.engine.feature_cache import FeatureStore
from omnidrop_cli.engine.finite import check_finite
from omnidrop_cli.engine.generate import generate
from omnidrop_cli.engine.prefill import Prefilled, prefill
from omnidrop_cli.engine.stream import AnswerStream
from omnidrop_cli.errors import OmnidropError, OutOfMemory, UsageError
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.json_schema import check_schema
from omnidrop_cli.media.open import decode_fetched, open_clips
from omnidrop_cli.model.load import load
from omnidrop_cli.outputs import Clip, Comparison, LoadedModel, Prompt, Report, Timings
from omnidrop_cli.prompt.build import build
from omnidrop_cli.prune.base import PromptInfo
from omnidrop_cli.prune.clips import plan_clips
from omnidrop_cli.prune.methods import get_method
from omnidrop_cli.request import Media, make_request

if TYPE_CHECKING:
    from torch import Tensor

    from omnidrop_cli.engine.chat import Conversation
    from omnidrop_cli.media.open import Decode
    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.prune.base import Method

T = TypeVar("T")

NO_PRUNING = PruningConfig(name="none")


class Session:
    """A loaded model. Threads take turns: one question at a time.

    Where the device runs out of memory before the first token, the question is tried again with less, in the order of `oom.py`.
    `limits` stay as low as they had to become.
    """

    def __init__(
        self,
        thinker: Thinker,
        store: FeatureStore | None = None,
        runner: CudaGraphRunner | None = None,
        config: ModelConfig | None = None,
    ) -> None:
        """Wrap a loaded thinker.

        Args:
            store: keeps encoder outputs; the default keeps them in memory.
            runner: captures CUDA graphs; the default does on CUDA.
            config: what the thinker was loaded from. Requests then carry it, whatever model they name.
        """
        self.thinker = thinker
        self.config = config
        self.store = store or FeatureStore()
        self.runner = runner or CudaGraphRunner.of(thinker)
        self.limits = oom.Limits.of(thinker.device)
        if thinker.device.type == "cuda":
            thinker.adapter.speed_up_encoders()
        self.decode: Decode = decode_fetched
        """Decodes clips: here, since a child would import the user's script again. For the commands, `engine/pipeline.py` sets a child."""
        self._turn = threading.RLock()
        self._process = os.getpid()

    @classmethod
    def load(cls, config: ModelConfig | None = None, progress: ProgressCallback = SILENT) -> Session:
        """Load a checkpoint. Raises `ModelError` with what to do."""
        config = config or ModelConfig()
        thinker = load(config, progress)
        store = FeatureStore(paths.features() if config.feature_cache else None)
        return cls(thinker, store, CudaGraphRunner.of(thinker, config.graph), config)

    @property
    def loaded(self) -> LoadedModel:
        """What runs, after every `auto` was resolved."""
        return self.thinker.loaded

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A block in which no other thread uses the session. Raises `OmnidropError` in a fork of the process that loaded it."""
        if os.getpid() != self._process:
            raise OmnidropError(
                "this session was loaded before this process was forked, and PyTorch's threads are not in a fork",
                'load a session in each process, or start them by multiprocessing.get_context("spawn")',
            )
        with self._turn:
            yield

    # ------------------------------------------------------------ for library users

    def ask(self, media: Media, question: str, *, progress: ProgressCallback = SILENT, **options: Any) -> Report:
        """Answer a question about a clip, or about several.

        Args:
            media: path or URL of a video, audio or picture file ("demo" is a bundled one), or a list of them for one question.
            progress: receives stages, warnings and pieces of the answer.
            options: fields of `MediaConfig`, `PruningConfig` (its name as `method`, its options as `method_options`) and
                `GenerationConfig`, and `system`: for example `keep=0.2, start_s=60, max_new_tokens=64`.

        Raises:
            OmnidropError: with one line and a hint.
        """
        return self.run(self.request(media, question, options), progress)

    def compare(self, media: Media, question: str, *, rounds: int = 1, progress: ProgressCallback = SILENT, **options: Any) -> Comparison:
        """Answer unpruned and pruned from the same prompt; the prefills are timed in `rounds` alternating rounds. See `ask`."""
        source = PromptSource(self.request(media, question, options))
        return self.compare_encoded(self.encode(source, progress), progress, rounds=rounds)

    def stream(self, media: Media, question: str, **options: Any) -> AnswerStream:
        """Iterate over pieces of the answer; its `report` is set at the end. See `ask`."""
        request = self.request(media, question, options)
        return AnswerStream(lambda progress: self.run(request, progress))

    def chat(self, media: Media, *, progress: ProgressCallback = SILENT, **options: Any) -> Conversation:
        """A conversation about one or several clips, which are decoded and encoded once. See `ask` for `options`."""
        from omnidrop_cli.engine.chat import Conversation

        template = self.request(media, "?", options)
        seconds: dict[str, float] = {}
        clips = open_clips(template, self.thinker.frame_bounds, progress, seconds, self.decode)
        return Conversation(self, template, clips, seconds)

    def request(self, media: Media, question: str, options: Mapping[str, Any]) -> Request:
        """The request that `ask` makes of its arguments. Raises `UsageError` for an option that does not exist."""
        return make_request(media, question, self.config or ModelConfig(), options)

    # ------------------------------------------------------------ requests

    def run(
        self,
        request: Request,
        progress: ProgressCallback = SILENT,
        clips: tuple[Clip, ...] | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> Report:
        """Answer a request with this model. Raises `OmnidropError`.

        Args:
            clips: the request's media, if they are decoded already.
            seconds: stages that ran already, for the report.
        """
        return self.answer(self.encode(PromptSource(request, clips, seconds=seconds or {}), progress), progress)

    def run_comparison(
        self,
        request: Request,
        progress: ProgressCallback = SILENT,
        clips: tuple[Clip, ...] | None = None,
        seconds: Mapping[str, float] | None = None,
        *,
        rounds: int = 1,
    ) -> Comparison:
        """Answer a request unpruned and pruned from the same prompt; the media are decoded and encoded once."""
        encoded = self.encode(PromptSource(request, clips, seconds=seconds or {}), progress)
        return self.compare_encoded(encoded, progress, rounds=rounds)

    def encode(self, source: PromptSource, progress: ProgressCallback = SILENT) -> EncodedPrompt:
        """Build a prompt and run the encoders, unless `source.features` serve or the session has their outputs.

        Raises:
            UsageError: the pruning method cannot work with the prompt, or answers cannot follow the schema; found before the encoders run.
            OmnidropError: the media cannot be decoded, or the memory does not suffice.
        """
        if self.config is not None:
            source = replace(source, request=replace(source.request, model=self.config))
        if source.request.generation.schema is not None:
            check_schema(source.request.generation.schema)
        with self._alone():
            return self._fit(source, None, lambda encoded: None, progress)[0]

    def with_method(self, encoded: EncodedPrompt, pruning: PruningConfig) -> EncodedPrompt:
        """The same prompt and encoder outputs under another method, whose needs the outputs must meet."""
        method = get_method(pruning)
        self._check(method, encoded.prompt)
        request = replace(encoded.request, method=pruning)
        return replace(encoded, source=replace(encoded.source, request=request), method=method)

    def answer(self, encoded: EncodedPrompt, progress: ProgressCallback = SILENT) -> Report:
        """Prefill, generate and report. May be called again, also with other methods (`with_method`)."""
        with self._alone():
            return self._answer(encoded, progress)[0]

    def compare_encoded(self, encoded: EncodedPrompt, progress: ProgressCallback = SILENT, *, rounds: int = 1) -> Comparison:
        """Answer unpruned and pruned. The prefill of each is timed in `rounds` alternating rounds."""
        with self._alone():
            encoded, plain = self._fit(encoded.source, encoded, self._warm_up, progress)
            full_report, full_logits = self._answer(replace(plain, warnings=encoded.warnings), SILENT)
            pruned_report, pruned_logits = self._answer(encoded, progress)
            shared, difference = agreement(full_report.answer.token_ids, pruned_report.answer.token_ids)
            repeats = [(self._timed_prefill(plain), self._timed_prefill(encoded)) for _ in range(rounds - 1)]
        return Comparison(
            full_report,
            pruned_report,
            shared,
            difference,
            first_token_kl(full_logits, pruned_logits),
            full_repeats=(full_report.timings, *(full for full, _ in repeats)) if repeats else (),
            pruned_repeats=(pruned_report.timings, *(pruned for _, pruned in repeats)) if repeats else (),
        )

    # ------------------------------------------------------------ steps

    def _fit(
        self, source: PromptSource, encoded: EncodedPrompt | None, work: Callable[[EncodedPrompt], T], progress: ProgressCallback
    ) -> tuple[EncodedPrompt, T]:
        """Encode, unless `encoded` is given, and `work`; with less and less while the memory does not suffice."""
        warnings: list[str] = []
        while True:
            stage = "encode" if encoded is None else "prefill"
            try:
                if encoded is None:
                    source = self._opened(source, progress)
                    encoded = self._encoded(source, progress)
                    stage = "prefill"
                result = work(encoded)
                return replace(encoded, warnings=(*encoded.warnings, *warnings)), result
            except OutOfMemory:
                given = oom.next_step(stage, self.limits, source.request.media_options, source.clips or ())
                if given is None:
                    raise
            self.limits = given.limits
            self._place_encoders()
            if given.media_options != source.request.media_options:
                seconds = source.seconds if encoded is None else encoded.seconds
                request = replace(source.request, media_options=given.media_options)
                source, encoded = replace(source, request=request, clips=None, features=None, seconds=seconds), None
            oom.free_memory()
            warnings.append(given.message)
            progress.warn(given.message)

    def _opened(self, source: PromptSource, progress: ProgressCallback) -> PromptSource:
        """`source` with its clips decoded."""
        if source.clips is not None:
            return source
        seconds = dict(source.seconds)
        clips = open_clips(source.request, self.thinker.frame_bounds, progress, seconds, self.decode)
        return replace(source, clips=clips, seconds=seconds)

    def _encoded(self, source: PromptSource, progress: ProgressCallback) -> EncodedPrompt:
        """Build the prompt of decoded clips and run the encoders."""
        request, thinker, clips = source.request, self.thinker, source.clips
        if clips is None:
            raise ValueError("a prompt is built from decoded clips")
        watch = metrics.Stopwatch(thinker.device, source.seconds)
        method = get_method(request.method)
        progress.stage("build")
        with watch.stage("build"):
            prompt = build(
                clips,
                request.question,
                thinker.tokenizer,
                thinker.spec,
                system=request.system,
                media_first=source.media_first,
                history=source.history,
            )
        for warning in prompt.warnings:
            progress.warn(warning)
        self._check(method, prompt)
        features, needs, peak_mb = source.features, method.needs | source.needs, 0.0
        if features is None or not features.serve(prompt, needs):
            progress.stage("encode")
            metrics.reset_peak(thinker.device)
            within = request.media_options.dedup_threshold
            with watch.stage("encode"), self._memory_guard(prompt, "encode"):
                features = encode_media(thinker, prompt, needs, progress, limits=self.limits, same_within=within, store=self.store)
            self._place_encoders()
            peak_mb = metrics.peak_mb(thinker.device)
        return EncodedPrompt(source, clips, prompt, features, method, watch.seconds, peak_mb)

    def _place_encoders(self) -> None:
        """The encoders to where they wait while the decoder runs; `encode_media` fetches them when they are to run."""
        if self.limits.encoders_on_host:
            self.thinker.adapter.place_encoders(torch.device("cpu"))

    def _check(self, method: Method, prompt: Prompt) -> None:
        try:
            plan_clips(method, PromptInfo(prompt.token_map, self.thinker.sizes.num_layers, self.thinker.directory))
        except ValueError as error:
            raise UsageError(f"{method.name}: {error}", "`omnidrop methods` lists every option") from error

    def _warm_up(self, encoded: EncodedPrompt) -> EncodedPrompt:
        """`encoded` unpruned, after one unmeasured prefill of both: neither then pays for a first use, and both fit into memory."""
        plain = self.with_method(encoded, NO_PRUNING)
        for one in (plain, encoded):
            self._prefill(one)
        return plain

    def _prefill(self, encoded: EncodedPrompt) -> Prefilled:
        with self._memory_guard(encoded.prompt, "prefill"):
            thinker, prompt, features = self.thinker, encoded.prompt, encoded.features
            # Embeddings are not named here, so that the prefill alone holds them.
            return prefill(thinker, prompt, embed(thinker, prompt, features), features, encoded.method, limits=self.limits)

    def _clocked_prefill(self, encoded: EncodedPrompt, progress: ProgressCallback) -> tuple[metrics.Stopwatch, Prefilled]:
        watch = metrics.Stopwatch(self.thinker.device, encoded.seconds)
        metrics.reset_peak(self.thinker.device)  # a run must not report the peak of the run before it
        progress.stage("prefill", f"{len(encoded.prompt)} tokens")
        with watch.stage("prefill"):
            return watch, self._prefill(encoded)

    def _timed_prefill(self, encoded: EncodedPrompt) -> Timings:
        watch, _ = self._clocked_prefill(replace(encoded, seconds={}), SILENT)
        return timings_of(watch.seconds)

    def _answer(self, encoded: EncodedPrompt, progress: ProgressCallback) -> tuple[Report, Tensor]:
        """The report, and the first token's logits."""
        encoded, (watch, prefilled) = self._fit(encoded.source, encoded, lambda fitted: self._clocked_prefill(fitted, progress), progress)
        check_finite(prefilled.logits, self.thinker.model, self.thinker.dtype)
        kv_bytes = prefilled.cache.nbytes
        progress.stage("generate")
        warnings: list[str] = []

        def warn(message: str) -> None:
            warnings.append(message)
            progress.warn(message)

        with self._memory_guard(encoded.prompt, "generate"), watch.stage("generate"):
            ids = torch.from_numpy(encoded.prompt.input_ids).to(self.thinker.device)
            generation = encoded.request.generation
            earlier = encoded.source.earlier
            answer = generate(self.thinker, prefilled, ids, generation, progress.text, runner=self.runner, warn=warn, earlier=earlier)
        encoded = replace(encoded, seconds=watch.seconds, warnings=(*encoded.warnings, *warnings))
        return build_report(self.thinker, encoded, prefilled, answer, kv_bytes), prefilled.logits

    @contextmanager
    def _memory_guard(self, prompt: Prompt, stage: str) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as error:  # torch's out-of-memory error is a RuntimeError
            if not oom.out_of_memory(error):
                raise
            counts = prompt.token_map.counts()
            raise OutOfMemory(
                f"{self.thinker.device} has too little memory for {counts.total} tokens ({counts.video} video, {counts.audio} audio)",
                oom.advice(counts, stage),
            ) from error
