"""OmniPack's published rules as slow loops over floats: what its kept sets and merged embeddings are held against."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.prune.published import cosine


def scaled(values: list[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / (high - low + 1e-6) for value in values]


def apart(some: list[list[float]], others: list[list[float]]) -> list[list[float]]:
    """Euclidean distances of coordinates, each row scaled to [0, 1]."""
    return [scaled([math.dist(a, b) for b in others]) for a in some]


def event_bias(video: Tensor) -> list[float]:
    """Change to the neighbouring grids or spatial detail, and curvature, of every token of `video` (grids, size, d)."""
    grids, size, _ = video.shape
    evidence, curve = [], []
    for g in range(grids):
        mean = video[g].mean(0)
        for i in range(size):
            change = [1 - cosine(video[g, i], video[o, i]) for o in (g - 1, g + 1) if 0 <= o < grids]
            evidence.append(max(0.0, *change, 1 - cosine(video[g, i], mean)))
            inner = 0 < g < grids - 1
            curve.append(1 - cosine(video[g, i] - video[g - 1, i], video[g + 1, i] - video[g, i]) if inner else 0.0)
    return [e + 0.35 * c for e, c in zip(scaled(evidence), scaled(curve), strict=True)]


def video_salience(video: Tensor, attention: Tensor, ratio: float) -> list[float]:
    weight = 0.35 * (0.35 + 0.65 * min(1.0, max(0.0, (ratio - 0.14) / 0.28)))
    cues = zip(scaled(attention.tolist()), scaled(event_bias(video)), strict=True)
    return [a * (1 + weight * b) + 1e-6 for a, b in cues]


def audio_salience(audio: Tensor, attention: Tensor) -> list[float]:
    n = len(audio)
    novelty = [max(1 - cosine(audio[i], audio[o]) for o in (i - 1, i + 1) if 0 <= o < n) for i in range(n)]
    return [a + 0.25 * b for a, b in zip(scaled(attention.tolist()), scaled(novelty), strict=True)]


def pool(features: Tensor, places: list[list[float]], salience: list[float], keep: int, dominant: float) -> list[int]:
    """The most salient, then DPC-KNN centres (k = 7) of the rest."""
    order = sorted(range(len(features)), key=lambda i: -salience[i])
    kept = order[: max(1, min(keep, round(dominant * keep)))]
    rest = sorted(set(order) - set(kept))
    n = len(rest)
    far = apart([places[i] for i in rest], [places[i] for i in rest])
    distance = [[1 - cosine(features[a], features[b]) + 0.2 * far[i][j] for j, b in enumerate(rest)] for i, a in enumerate(rest)]
    bonus = scaled([salience[i] for i in rest])
    others = [[j for j in range(n) if j != i] for i in range(n)]
    k = min(7, n - 1)
    density = [
        math.exp(-sum(sorted(distance[i][j] for j in others[i])[m] ** 2 for m in range(k)) / k) * (1 + 0.35 * bonus[i]) for i in range(n)
    ]
    scores = []
    for i in range(n):
        denser = [distance[i][j] for j in range(n) if density[j] > density[i]]
        scores.append(density[i] * (min(denser) if denser else max(distance[i][j] for j in others[i])))
    centres = sorted(range(n), key=lambda i: -scores[i])[: keep - len(kept)]
    return sorted([*kept, *(rest[i] for i in centres)])


def merge(features: Tensor, places: list[list[float]], salience: list[float], kept: list[int], weight: float, centre: float) -> Tensor:
    """Every dropped token into the kept one with the highest affinity."""
    dropped = [i for i in range(len(features)) if i not in kept]
    far, bonus = apart([places[i] for i in dropped], [places[i] for i in kept]), scaled([salience[i] for i in kept])
    weights = [0.5 + 0.5 * value for value in scaled([salience[i] for i in dropped])]
    total, mass = features[kept].double(), [1.0] * len(kept)
    for row, (token, of_token) in enumerate(zip(dropped, weights, strict=True)):
        affinity = [cosine(features[token], features[k]) - weight * far[row][c] + 0.1 * bonus[c] for c, k in enumerate(kept)]
        best = max(range(len(kept)), key=lambda c: affinity[c])
        total[best] += of_token * features[token].double()
        mass[best] += of_token
    return (centre * features[kept].double() + (1 - centre) * total / torch.tensor(mass)[:, None]).float()


def cut(own: Tensor, other: Tensor, text: Tensor, keep: int) -> tuple[list[int], Tensor]:
    """Stage II of one modality: the kept tokens and their states."""
    n, mean_text, mean_other = len(own), text.mean(0), other.mean(0)
    asked = [max(cosine(x, mean_text), *(cosine(x, t) for t in text)) for x in own]
    cos = [[cosine(a, b) for b in own] for a in own]
    density = [math.exp(-sum(1 - c for c in row) / n) for row in cos]
    parts = (scaled(asked), scaled([cosine(x, mean_other) for x in own]), scaled(density))
    relevance = [sum(values) for values in zip(*parts, strict=True)]
    factor = scaled(relevance)
    picked = [max(range(n), key=lambda i: relevance[i])]
    while len(picked) < keep:
        left = [i for i in range(n) if i not in picked]
        picked.append(max(left, key=lambda i: min(1 - cos[p][i] for p in picked) * (1 + factor[i])))
    kept = sorted(picked)
    dropped = [i for i in range(n) if i not in kept]
    total, mass = own[kept].double(), [1.0] * keep
    for token, value in zip(dropped, scaled([relevance[i] for i in dropped]), strict=True):
        best = max(range(keep), key=lambda c: cos[token][kept[c]])
        weight = ((1 + cos[token][kept[best]]) / 2) ** 2 * (0.5 + 0.5 * value)
        total[best] += weight * own[token].double()
        mass[best] += weight
    return kept, (total / torch.tensor(mass)[:, None]).float()
