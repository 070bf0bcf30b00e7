"""The attention that a method computed during a prefill, summed per modality and two-second chunk for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from omnidrop_cli.outputs import AttentionTrace, Modality, TokenMap

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def summarise(scores: Mapping[int, tuple[str, Tensor]], kept: Sequence[NDArray[np.int64]], tokens: TokenMap) -> AttentionTrace | None:
    """Sum scores per chunk, on the host, where the order of additions does not vary.

    Args:
        scores: layer -> which queries, and (m,) the attention that each audio and video token entering the layer received.
        kept: prompt indices entering each layer, text included.
        tokens: the prompt's token map.

    Returns:
        The sums; None where no layer computed attention.
    """
    chunks = int(tokens.chunk.max()) + 1 if len(tokens) else 0
    layers, mass, peak = sorted(scores), [], []
    for layer in layers:
        media = kept[layer][tokens.modality[kept[layer]] != Modality.TEXT]
        received = scores[layer][1].cpu().numpy()
        place = (tokens.modality[media] == Modality.VIDEO) * chunks + tokens.chunk[media]
        mass.append(np.bincount(place, received, 2 * chunks).reshape(2, chunks).astype(np.float32))
        peak.append(int(media[received.argmax()]))
    if not layers:
        return None
    return AttentionTrace(tuple(layers), tuple(scores[layer][0] for layer in layers), np.stack(mass), tuple(peak))
