"""Published selection rules, written as slow loops from the papers' formulas: the reference that kept sets are held against.

Features are `video` (grids, size, d) and `audio` (n, d). A window is a pair (grids, audio tokens). Kept sets hold flat indices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from omnidrop_cli.outputs import TokenMap
from omnidrop_cli.prompt.layout import assemble, lay_out
from omnidrop_cli.prompt.spec import PromptSpec

Window = tuple[list[int], list[int]]

SPEC = PromptSpec(im_start=1, im_end=2, endoftext=3, vision_bos=4, vision_eos=5, video=6, audio_bos=7, audio_eos=8, audio=9)
SECONDS_PER_GRID = (0.4, 1.0, 1.033, 1.5, 2.19)


def timed_map(seconds_per_grid: float, grids: int, audio: int, cells: tuple[int, int] = (4, 5)) -> TokenMap:
    """The token map of a real prompt: `grids` temporal grids of `cells` tokens, `audio` audio tokens, ten tokens of question."""
    import numpy as np

    block = lay_out(SPEC, grid_thw=(grids, 2 * cells[0], 2 * cells[1]), seconds_per_grid=seconds_per_grid, audio_tokens=audio)
    ids = np.arange(20) + 100
    return assemble(ids, (ids >= 108) & (ids < 118), 5, [block]).tokens


def scenes(grids: int, size: int, audio: int, dim: int = 24, seed: int = 0, noise: float = 0.4) -> tuple[Tensor, Tensor]:
    """Structured embeddings: scenes of several grids with a layout of their own, and sounds of about a second."""
    generator = torch.Generator().manual_seed(seed)

    def held(length: int, mean: int, *shape: int) -> Tensor:
        """`length` entries that keep a random value for about `mean` entries."""
        changes = torch.rand(length, generator=generator) < 1 / mean
        return torch.randn(length, *shape, generator=generator)[changes.cumsum(0)]

    video = held(grids, 4, size, dim) + held(grids, 4, 1, dim) + noise * torch.randn(grids, size, dim, generator=generator)
    return video, held(audio, 25, dim) + noise * torch.randn(audio, dim, generator=generator)


def noise(grids: int, size: int, audio: int, dim: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random embeddings."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(grids, size, dim, generator=generator), torch.randn(audio, dim, generator=generator)


def index_windows(grids: int, audio: int) -> list[Window]:
    """The published layout: two grids and 50 audio tokens each, by index. Audio after the last pair belongs to none."""
    pairs = range(-(-grids // 2))
    return [([g for g in (2 * p, 2 * p + 1) if g < grids], [a for a in range(50 * p, 50 * p + 50) if a < audio]) for p in pairs]


def timed_windows(seconds_per_grid: float, grids: int, audio: int) -> list[Window]:
    """Two grids each, and the audio tokens (25 a second) that begin during them."""
    span = 2 * seconds_per_grid
    windows: list[Window] = []
    for p in range(-(-grids // 2)):
        heard = [a for a in range(audio) if p * span <= a / 25 + 1e-9 < (p + 1) * span]
        windows.append(([g for g in (2 * p, 2 * p + 1) if g < grids], heard))
    return windows


def cosine(a: Tensor, b: Tensor) -> float:
    return float((a.double() @ b.double()) / (a.double().norm() * b.double().norm()))


def lowest(scores: Sequence[float], count: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda i: scores[i])[:count]


def jaccard(one: Sequence[int] | set[int], other: Sequence[int] | set[int]) -> float:
    one, other = set(one), set(other)
    return len(one & other) / len(one | other)


# ---------------------------------------------------------------- omnisift


def omnisift_video(video: Tensor, windows: Sequence[Window], rate: float) -> set[int]:
    """STVP: int(size * rate) tokens of each grid go, the most similar to the grid's mean (first) or to the first grid (second)."""
    size = video.shape[1]
    kept: set[int] = set()
    for grids, _ in windows:
        first = video[grids[0]]
        for grid in grids:
            other = [first.mean(0)] * size if grid == grids[0] else list(first)
            similar = [cosine(video[grid, i], other[i]) for i in range(size)]
            kept |= {grid * size + i for i in lowest(similar, size - int(size * rate))}
    return kept


# ---------------------------------------------------------------- omnizip


def omnizip_audio(attention: Tensor, keep: int, contextual: int) -> set[int]:
    """The most attended, and tokens at an even stride through the rest."""
    order = sorted(range(len(attention)), key=lambda i: -float(attention[i]))
    selected = set(order[: keep - contextual])
    rest = [i for i in range(len(attention)) if i not in selected]
    return selected | {rest[i * (len(rest) // contextual)] for i in range(contextual)}


def omnizip_rates(retained: list[float], sizes: list[int], guided: list[bool], mean: float) -> list[float]:
    """Eq. 5 and the normalisation of the second published code, with its constant bounds."""
    low, high = 0.35, 0.75
    rate = {i: max(low, min(high, high + (low - high) * retained[i])) for i in range(len(sizes)) if guided[i]}
    if len(rate) > 2:
        least = min(rate, key=lambda i: (rate[i], i))
        most = max(rate, key=lambda i: (rate[i], -i))
        others = [i for i in rate if i not in (least, most)]
        target = mean * sum(sizes[i] for i in rate)
        scale = (target - sum(rate[i] * sizes[i] for i in {least, most})) / sum(rate[i] * sizes[i] for i in others)
        for i in others:
            rate[i] = max(low, min(high, rate[i] * scale))
        left = (target - sum(rate[i] * sizes[i] for i in rate)) / sum(sizes[i] for i in others)
        for i in others:
            rate[i] = max(low, min(high, rate[i] + left))
    return [rate.get(i, mean) for i in range(len(sizes))]


def spatial_scores(frame: Tensor, rule: str) -> list[float]:
    """DPC-KNN of one frame token by token, k = 5; "v1": minus the mean of the five highest cosines."""
    n = len(frame)
    cos = [[cosine(frame[i], frame[j]) for j in range(n)] for i in range(n)]
    k = min(5, n - 1)
    others = [[j for j in range(n) if j != i] for i in range(n)]
    if rule == "v1":
        return [-sum(sorted((cos[i][j] for j in others[i]), reverse=True)[:k]) / k for i in range(n)]
    distance = [[math.sqrt(max(0.0, 2 - 2 * c)) if rule == "paper" else 1 - c for c in row] for row in cos]
    power = 2 if rule == "paper" else 1
    density = [math.exp(-sum(sorted(distance[i][j] ** power for j in others[i])[:k]) / k) for i in range(n)]
    scores = []
    for i in range(n):
        denser = [distance[i][j] for j in others[i] if density[j] > density[i]]
        scores.append(density[i] * (min(denser) if denser else max(distance[i][j] for j in others[i])))
    return scores


def interleaved(video: Tensor, frames: Sequence[int], keep: Sequence[int], rule: str) -> set[int]:
    """Frames of one segment, alternately by space and by change since the frame before; `keep[i]` tokens of frame i."""
    size = video.shape[1]
    kept: set[int] = set()
    for place, (frame, count) in enumerate(zip(frames, keep, strict=True)):
        if place % 2 == 0:
            scores = [-score for score in spatial_scores(video[frame], rule)]
        else:
            scores = [cosine(video[frame, i], video[frame - 1, i]) for i in range(size)]
        kept |= {frame * size + i for i in lowest(scores, count)}
    return kept


def omnizip_video(video: Tensor, audio_kept: set[int], windows: Sequence[Window], rate: float, *, rule: str, halves: bool) -> set[int]:
    """Video kept by OmniZip: the window's rate from its retained audio, int(size * (1 - rate)) tokens of every frame."""
    size = video.shape[1]
    retained = [len(audio_kept & set(heard)) / len(heard) if heard else 0.0 for _, heard in windows]
    rates = omnizip_rates(retained, [len(grids) * size for grids, _ in windows], [bool(heard) for _, heard in windows], rate)
    cut = video.reshape(video.shape[0] * 2, size // 2, -1) if halves else video
    kept: set[int] = set()
    for (grids, _), drop in zip(windows, rates, strict=True):
        frames = [f for grid in grids for f in (2 * grid, 2 * grid + 1)] if halves else grids
        kept |= interleaved(cut, frames, [int(cut.shape[1] * (1 - drop) + 1e-9)] * len(frames), rule)
    return kept


# ---------------------------------------------------------------- dash


def dash_audio(audio: Tensor, attention: Tensor, keep: int, contextual: int) -> set[int]:
    """0.4 boundary probability, 0.3 uniqueness and 0.3 attention rank the audio; contextual tokens as OmniZip's."""
    n, dim = audio.shape
    boundary = [1.0, *(min(1.0, max(0.0, (1 - cosine(audio[i - 1], audio[i])) / 2)) for i in range(1, n))]
    columns = sorted(sorted(range(dim), key=lambda c: float(audio[:, c].var(unbiased=False)))[: dim // 2]) if dim > 10 else range(dim)
    unit = [row / row.norm() for row in audio[:, list(columns)]]
    mean = torch.stack(unit).mean(0)
    similar = [sum(math.exp(-float((row - mean).square().sum()) / (2 * a)) for a in (0.125, 0.25, 0.5, 1, 2)) for row in unit]
    values = zip(boundary, similar, attention.tolist(), strict=True)
    fused = [0.4 * b + 0.3 * (1 - s / max(similar)) + 0.3 * a / float(attention.max()) for b, s, a in values]
    return omnizip_audio(torch.tensor(fused), keep, contextual)


def dash_cuts(audio: Tensor, threshold: float = 0.4, shortest: int = 30) -> list[int]:
    """First tokens of the audio segments, and the number of tokens."""
    cuts = [0]
    for i in range(1, len(audio)):
        if cosine(audio[i - 1], audio[i]) < threshold and i - cuts[-1] >= shortest:
            cuts.append(i)
    return [*cuts, len(audio)]


def dash_video(video: Tensor, audio: Tensor, audio_kept: set[int], rate: float, *, halves: bool) -> set[int]:
    """Video kept by DASH. `halves` is the published code: frames of half a grid, segments from any token on.

    Without `halves` a frame is a grid and segments begin at the nearest one. Without audio the rate is 15 points lower.
    """
    flat, size = video.flatten(0, 1), video.shape[1] // (2 if halves else 1)
    if not len(audio):
        segments = [(0, len(flat), max(0.35, rate - 0.15))]
    else:
        cuts, scale = dash_cuts(audio), len(flat) / len(audio)
        starts = [int(cut * scale + 1e-9) if halves else size * math.floor(cut * scale / size + 0.5 + 1e-9) for cut in cuts]
        retained = [len(audio_kept & set(range(a, b))) / (b - a) for a, b in pairwise(cuts)]
        rates = [max(0.1, min(0.95, rate + 0.1 * (0.5 - share))) for share in retained]
        segments = [(a, b, r) for (a, b), r in zip(pairwise(starts), rates, strict=True) if b > a]
    kept: set[int] = set()
    for start, end, drop in segments:
        if halves and end - start < 2 * size:
            kept |= set(range(start, end))
            continue
        frames = (end - start) // size
        cut = flat[start : start + frames * size].reshape(frames, size, -1)
        count = int(size * (1 - drop) + 1e-9)
        kept |= {start + i for i in interleaved(cut, range(frames), [count] * frames, "v1")}
    return kept


# ---------------------------------------------------------------- seats


def diverse(features: Tensor, attention: Tensor, count: int) -> list[int]:
    """winDivPrune: greedy max-min on (1 - cos) times the attention of the farther token."""
    n = len(features)
    distance = [[(1 - cosine(features[i], features[j])) * float(attention[j]) for j in range(n)] for i in range(n)]
    nearest = [min((distance[i][j] for i in range(n) if i != j), default=0.0) for j in range(n)]
    picked = [max(range(n), key=lambda j: (nearest[j], -j))]
    while len(picked) < count:
        left = [j for j in range(n) if j not in picked]
        picked.append(max(left, key=lambda j: (min(distance[i][j] for i in picked), -j)))
    return picked


def seats_input(features: Tensor, attention: Tensor, window: int, ratio: float) -> set[int]:
    """Stage I on (n, d): max(1, round(ratio * length)) tokens of every window of consecutive tokens."""
    kept: set[int] = set()
    for start in range(0, len(features), window):
        some = features[start : start + window]
        count = max(1, round(ratio * len(some)))
        kept |= {start + i for i in diverse(some, attention[start : start + window], count)}
    return kept


def seats_budgets(
    sizes: list[tuple[int, int]], means: list[tuple[float, float]], audio: int, video: int, temperature: float
) -> list[tuple[int, int]]:
    """Stage II: (audio, video) tokens kept of every window of `sizes`, by their mean scores (Sec. 3.3)."""
    total = audio + video

    def softmax(values: list[float]) -> list[float]:
        powers = [math.exp(value / temperature) for value in values]
        return [power / sum(powers) for power in powers]

    weight_a, weight_v = (softmax([mean[m] for mean in means]) for m in (0, 1))
    budget = [min(sum(size), max(1, round((a + v) / 2 * total))) for size, a, v in zip(sizes, weight_a, weight_v, strict=True)]
    while sum(budget) != total:
        if sum(budget) > total:
            budget[max(range(len(budget)), key=lambda i: budget[i])] -= 1
        else:
            budget[min((i for i in range(len(budget)) if budget[i] < sum(sizes[i])), key=lambda i: budget[i])] += 1
    split = []
    for (size_a, size_v), whole, a, v in zip(sizes, budget, weight_a, weight_v, strict=True):
        of_video = min(size_v, round(whole * v * video / (v * video + a * audio)))
        of_audio = min(size_a, whole - of_video)
        of_video = min(size_v, whole - of_audio)
        split.append((of_audio, of_video))
    return split


# ---------------------------------------------------------------- omnifocus


def omnifocus(tokens: Tensor, others: Tensor, windows: Sequence[tuple[list[int], list[int]]], query: Tensor, keep: int) -> set[int]:
    """Tokens (n, d) kept of one modality; a window is (own tokens, other modality's tokens)."""
    unit, foreign = ([row / row.norm() for row in rows.double()] for rows in (tokens, others))
    asked = query.double().mean(0) / query.double().mean(0).norm()
    relevance = {w: max(float(unit[i] @ asked) for i in own) for w, (own, _) in enumerate(windows) if own}
    total = sum(math.exp(value) for value in relevance.values())
    far = {w: 1 - math.exp(value) / total for w, value in relevance.items()}
    low, high = min(far.values()), max(far.values())
    rate = {w: 0.35 + 0.4 * ((value - low) / (high - low) if high > low else 0.0) for w, value in far.items()}

    def due(offset: float) -> dict[int, float]:
        return {w: len(windows[w][0]) * (1 - min(1.0, max(0.0, value + offset))) for w, value in rate.items()}

    below, above = -1.0, 1.0
    for _ in range(60):
        middle = (below + above) / 2
        below, above = (middle, above) if sum(due(middle).values()) > keep else (below, middle)
    shares = due(above)
    count = dict.fromkeys(rate, 0)
    for _ in range(keep):  # Sainte-Lague: the next token goes to the window with the highest share per half-counted token
        open_windows = [w for w in rate if count[w] < len(windows[w][0])]
        best = min(open_windows, key=lambda w: (count[w] + 0.5) / max(shares[w], 1e-300))
        count[best] += 1
    kept: set[int] = set()
    for w, number in count.items():
        own, other = windows[w]
        mean = torch.stack([unit[i] for i in own]).mean(0)
        agreeing: list[int] = []
        if other:
            foreign_mean = torch.stack([foreign[i] for i in other]).mean(0)
            agreeing = sorted(own, key=lambda i: -cosine(unit[i], foreign_mean))[: number // 2]
        rest = sorted((i for i in own if i not in agreeing), key=lambda i: cosine(unit[i], mean))
        kept |= {*agreeing, *rest[: number - len(agreeing)]}
    return kept
