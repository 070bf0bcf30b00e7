"""Records of prompt tokens: what each token stands for, and which layers it reaches.

Plain values and NumPy arrays; imports nothing of the package and neither torch nor transformers. `outputs` exports all names.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FRAMES_PER_GRID = 2
"""Sampled frames that one temporal grid of video tokens covers (`temporal_patch_size`)."""


class Modality(IntEnum):
    """What a prompt token stands for. The values are stored in `TokenMap.modality`."""

    TEXT = 0
    AUDIO = 1
    VIDEO = 2


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens alive, by modality."""

    text: int
    audio: int
    video: int

    @property
    def media(self) -> int:
        return self.audio + self.video

    @property
    def total(self) -> int:
        return self.text + self.audio + self.video


@dataclass(frozen=True, slots=True, eq=False)
class TokenMap:
    """What every prompt token is. All arrays are (n,); `chunk`, `grid`, `row`, `col`, `clip` are -1 and `time_s` is NaN for text.

    `modality` int8 (`Modality`), `chunk` int32 (two-second window, fixed at construction; a clip's numbers follow those of the clip
    before it), `time_s` float32 (seconds from the start of the token's clip), `grid` int32 (temporal grid of its clip, -1 for audio),
    `row`/`col` int16 (cell after the 2x2 merge, -1 for audio), `is_query` bool (tokens of the user's question, without markers), `clip`
    int16 (which of the question's clips, from 0). The tokens of a clip are those between its markers, so clips follow one another.
    """

    modality: NDArray[np.int8]
    chunk: NDArray[np.int32]
    time_s: NDArray[np.float32]
    grid: NDArray[np.int32]
    row: NDArray[np.int16]
    col: NDArray[np.int16]
    is_query: NDArray[np.bool_]
    clip: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.modality)

    def rows(self, modality: Modality) -> NDArray[np.int64]:
        """Prompt indices of one modality, ascending."""
        found: NDArray[np.int64] = (self.modality == modality).nonzero()[0]
        return found

    def counts(self) -> Counts:
        return Counts(
            text=int((self.modality == Modality.TEXT).sum()),
            audio=int((self.modality == Modality.AUDIO).sum()),
            video=int((self.modality == Modality.VIDEO).sum()),
        )

    @property
    def clips(self) -> int:
        """Number of clips in the prompt."""
        return int(self.clip.max(initial=-1)) + 1

    def alone(self, clip: int) -> TokenMap:
        """The map of the same prompt with one of its clips: without the others' audio and video, chunks from 0, `clip` 0."""
        kept = (self.clip == clip) | (self.modality == Modality.TEXT)
        one = TokenMap(*(getattr(self, field.name)[kept] for field in fields(self)))
        media = (one.modality != Modality.TEXT).astype(one.chunk.dtype)
        first = min(one.chunk[media > 0].tolist(), default=0)
        return replace(one, chunk=one.chunk - media * first, clip=(one.clip - media * clip).astype(one.clip.dtype))


@dataclass(frozen=True, slots=True, eq=False)
class KeptTokens:
    """The audio and video tokens that layers `first_layer` to `last_layer` see, in prompt order. All arrays are (m,).

    `index` is the place in the prompt, `modality` a `Modality`, `clip` which of the question's clips the token belongs to (from 0);
    `second` counts from that clip's start. `frame` is the first of the two sampled frames that a video token covers, `row` and `column`
    its cell; all three are -1 for audio.
    """

    first_layer: int
    last_layer: int
    index: NDArray[np.int64]
    modality: NDArray[np.int8]
    second: NDArray[np.float32]
    frame: NDArray[np.int32]
    row: NDArray[np.int16]
    column: NDArray[np.int16]
    clip: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, slots=True, eq=False)
class AttentionTrace:
    """Attention from text tokens of the prompt to its audio and video, in the k layers in which the method computed it.

    `queries` names the asking tokens of each layer: "query", "last" or "text" (`LayerView.attention`). `mass` float32 (k, 2, chunks) is the
    softmax mass on the audio [:, 0] and on the video [:, 1] of each two-second chunk, mean over heads and queries; text has the rest.
    `peak` (k,) are the prompt indices of the tokens that received most.
    """

    layers: tuple[int, ...]
    queries: tuple[str, ...]
    mass: NDArray[np.float32]
    peak: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Which tokens each layer saw. `kept[0]` are the prompt indices entering layer 0, `kept[l + 1]` those leaving layer l.

    `attention` is None where the method computed none.
    """

    method: str
    prompt: Counts
    entering: tuple[Counts, ...]
    leaving: tuple[Counts, ...]
    kept: tuple[NDArray[np.int64], ...]
    attention: AttentionTrace | None = None

    @property
    def num_layers(self) -> int:
        return len(self.entering)

    @property
    def kv_lengths(self) -> tuple[int, ...]:
        """Cache length of each layer after the prefill: a layer keeps the keys and values of what it saw."""
        return tuple(c.total for c in self.entering)

    @property
    def retention_entering(self) -> float:
        """Mean over layers of the share of audio and video tokens a layer receives."""
        return self._mean(self.entering)

    @property
    def retention_after(self) -> float:
        """The same, counted after each layer's own cut: the convention of the paper's 30 % and 20 % rows (docs/concepts/pruning.md)."""
        return self._mean(self.leaving)

    def layers_entered(self) -> NDArray[np.int64]:
        """(n,) how many layers each prompt token enters: survivors are nested, so those are layers 0 to that number minus one."""
        import numpy as np

        depth = np.zeros(self.prompt.total, np.int64)
        for indices in self.kept[: self.num_layers]:
            depth[indices] += 1
        return depth

    def equal_layers(self) -> tuple[tuple[int, int], ...]:
        """Runs of layers, first and last, that all see the same tokens."""
        runs: list[tuple[int, int]] = []
        for layer, counts in enumerate(self.entering):
            same = bool(runs) and self.entering[layer - 1].total == counts.total  # nested sets of one size are one set
            runs[-1:] = [(runs[-1][0], layer)] if same else [*runs[-1:], (layer, layer)]
        return tuple(runs)

    def kept_tokens(self, tokens: TokenMap) -> tuple[KeptTokens, ...]:
        """The surviving audio and video tokens of the prompt that `tokens` describes, one entry per run of `equal_layers`."""
        return tuple(self._kept_in(first, last, tokens) for first, last in self.equal_layers()) if self.kept else ()

    def _kept_in(self, first: int, last: int, tokens: TokenMap) -> KeptTokens:
        index = self.kept[first][tokens.modality[self.kept[first]] != Modality.TEXT]
        frame = tokens.grid[index] * FRAMES_PER_GRID
        frame[frame < 0] = -1
        place = (tokens.time_s[index], frame, tokens.row[index], tokens.col[index], tokens.clip[index])
        return KeptTokens(first, last, index, tokens.modality[index], *place)

    def _mean(self, counts: tuple[Counts, ...]) -> float:
        if not self.prompt.media or not counts:
            return 1.0
        return sum(c.media for c in counts) / (len(counts) * self.prompt.media)
