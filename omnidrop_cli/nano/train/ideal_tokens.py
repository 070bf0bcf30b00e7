"""Media tokens as perfect encoders would make them, plus noise: what the decoder trains on before encoders exist."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from omnidrop_cli.nano.train.samples import TrainingSample


def mixture(classes: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
    """Unit vectors (n, d) of the labels' rows: `classes` (n, k), `weights` (n, k), `rows` (c, d)."""
    return F.normalize((rows[classes] * weights[..., None]).sum(-2), dim=-1)


def embed(samples: Sequence[TrainingSample], rows: Tensor, rng: np.random.Generator) -> Tensor:
    """(n, d) embeddings of all samples' chosen tokens, where `rows` are. A clip's noise has a level of its own; single tokens are
    misread now and then.
    """
    classes = torch.from_numpy(np.concatenate([s.labels.classes[s.chosen] for s in samples]))
    weights = torch.from_numpy(np.concatenate([s.labels.weights[s.chosen] for s in samples]))
    counts = [len(s.chosen) for s in samples]
    level = torch.from_numpy(np.repeat(rng.uniform(0.1, 0.9, len(samples)), counts).astype(np.float32))[:, None]
    clean = mixture(classes.to(rows.device), weights.to(rows.device), rows)
    noise = torch.from_numpy(rng.standard_normal(clean.shape).astype(np.float32)) / clean.shape[1] ** 0.5
    noisy = clean + (level * noise).to(rows.device)
    wrong = torch.from_numpy(rng.random(len(clean)) < 0.04 * np.repeat(rng.random(len(samples)), counts))
    noisy[wrong] = 0.5 * noisy[wrong] + 0.5 * rows[torch.from_numpy(rng.integers(len(rows), size=int(wrong.sum())))]
    return F.normalize(noisy, dim=-1)
