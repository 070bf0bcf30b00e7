"""The surviving tokens of a report as JSON, both ways: compact, versioned, described in docs/user/json.md.

Every audio and video token has a place (second; for video also frame, row, column) in its clip and a depth, the number of layer runs that
see it. Survivors are nested, so the depth says everything. Depths and seconds are stored as run lengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omnidrop_cli.tokens import FRAMES_PER_GRID, AttentionTrace, Modality, TokenMap, Trace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = 1

NAMES = {Modality.TEXT: "text", Modality.AUDIO: "audio", Modality.VIDEO: "video"}


def kept_to_dict(trace: Trace, tokens: TokenMap) -> dict[str, Any]:
    """Places and depths of a prompt's tokens as plain values."""
    import numpy as np

    runs = trace.equal_layers()
    depth = np.searchsorted([first for first, _ in runs], trace.layers_entered(), side="left")  # layers -> runs
    found: dict[str, Any] = {"version": VERSION, "layer_runs": [list(run) for run in runs], "order": _order(tokens)}
    found["question"] = [index for index, is_query in enumerate(tokens.is_query.tolist()) if is_query]
    first, *more = (_clip_to_dict(tokens, depth, clip) for clip in range(max(1, tokens.clips)))
    return {**found, **first, "more_clips": more}


def _clip_to_dict(tokens: TokenMap, depth: NDArray[np.int64], clip: int) -> dict[str, Any]:
    """Places and depths of a clip's audio and video tokens. `depth` (n,) counts layer runs."""
    import numpy as np

    found = dict[str, Any]()
    for modality in (Modality.AUDIO, Modality.VIDEO):
        rows = np.flatnonzero((tokens.modality == modality) & (tokens.clip == clip))
        unit = tokens.grid[rows] if modality == Modality.VIDEO else np.arange(len(rows))
        firsts = rows[np.flatnonzero(np.diff(unit, prepend=-1))]  # one token of each moment
        place: dict[str, Any] = {"seconds": _progressions(tokens.time_s[firsts]), "chunks": _run_lengths(tokens.chunk[firsts])}
        if modality == Modality.VIDEO:
            shape = (int(tokens.row[rows].max()) + 1, int(tokens.col[rows].max()) + 1) if len(rows) else (0, 0)
            place |= {"frames_per_grid": FRAMES_PER_GRID, "rows": shape[0], "columns": shape[1]}
        found[NAMES[modality]] = {**place, "depth": _run_lengths(depth[rows])}
    return found


def token_map_from_dict(value: Mapping[str, Any]) -> TokenMap:
    """The token map back. Raises `ValueError` for another version."""
    import numpy as np

    if value.get("version") != VERSION:
        raise ValueError(f"the kept tokens have version {value.get('version')}; this version reads {VERSION}")
    names = {name: modality for modality, name in NAMES.items()}
    modality = np.repeat(
        np.array([names[name] for name, _ in value["order"]], np.int8), np.array([count for _, count in value["order"]], np.int64)
    )
    n = len(modality)
    is_query = np.zeros(n, np.bool_)
    is_query[value["question"]] = True
    minus_one = np.full(n, -1)
    tokens = TokenMap(
        modality=modality,
        chunk=minus_one.astype(np.int32),
        time_s=np.full(n, np.nan, np.float32),
        grid=minus_one.astype(np.int32),
        row=minus_one.astype(np.int16),
        col=minus_one.astype(np.int16),
        is_query=is_query,
        clip=minus_one.astype(np.int16),
    )
    clips = [value, *value.get("more_clips", ())]  # earlier reports have one clip
    for kind in (Modality.AUDIO, Modality.VIDEO):
        places = [_places(clip[NAMES[kind]], number) for number, clip in enumerate(clips)]
        for name in places[0]:
            getattr(tokens, name)[modality == kind] = np.concatenate([place[name] for place in places])
    return tokens


def _places(track: Mapping[str, Any], clip: int) -> dict[str, NDArray[Any]]:
    """Columns of the token map for the audio or the video of a clip; row and column are -1 for audio, as is the grid."""
    import numpy as np

    is_video = "rows" in track
    rows, columns = (track["rows"], track["columns"]) if is_video else (1, 1)
    moments = np.repeat(_progressed(track["seconds"]), rows * columns)
    grids, cells = len(moments) // max(1, rows * columns), np.arange(rows * columns)
    cell = np.tile(cells, grids) if is_video else np.full(len(moments), -1)
    return {
        "time_s": moments,
        "chunk": np.repeat(_repeated(track["chunks"]), rows * columns),
        "grid": np.repeat(np.arange(grids), rows * columns) if is_video else cell,
        "row": cell // max(1, columns),
        "col": cell % columns if is_video and columns else cell,
        "clip": np.full(len(moments), clip),
    }


def attention_to_dict(attention: AttentionTrace) -> dict[str, Any]:
    """Attention per layer, modality and chunk as plain values of five significant digits."""
    audio, video = ([[float(f"{mass:.5g}") for mass in row] for row in attention.mass[:, index].tolist()] for index in (0, 1))
    return {
        "layers": list(attention.layers),
        "queries": list(attention.queries),
        "audio": audio,
        "video": video,
        "peak": list(attention.peak),
    }


def attention_from_dict(value: Mapping[str, Any]) -> AttentionTrace:
    """The attention back, to five significant digits."""
    import numpy as np

    mass = np.stack([np.array(value[name], np.float32).reshape(len(value["layers"]), -1) for name in ("audio", "video")], axis=1)
    return AttentionTrace(tuple(value["layers"]), tuple(value["queries"]), mass, tuple(value["peak"]))


def _order(tokens: TokenMap) -> list[list[Any]]:
    """[modality, tokens] pairs in prompt order."""
    return [[NAMES[Modality(modality)], count] for modality, count in _run_lengths(tokens.modality)]


def _run_lengths(values: NDArray[Any]) -> list[list[int]]:
    """[value, count] pairs."""
    import numpy as np

    starts = np.flatnonzero(np.diff(values.astype(np.int64), prepend=np.int64(-2)))
    return [[int(values[start]), int(count)] for start, count in zip(starts, np.diff(starts, append=len(values)), strict=True)]


def _repeated(pairs: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    import numpy as np

    values, counts = np.array(pairs, np.int64).reshape(-1, 2).T
    return np.repeat(values, counts)


def _progressions(seconds: NDArray[np.float32]) -> list[list[float]]:
    """[start, step, count] triples: seconds at equal distances, which is one triple for a whole track."""
    found: list[list[float]] = []
    values = [round(float(second), 4) for second in seconds]
    for number, second in enumerate(values):
        if found:
            start, step, count = found[-1]
            if count == 1:
                found[-1] = [start, _step(values, number), 2]
                continue
            if abs(start + step * count - second) < 1e-3:
                found[-1][2] += 1
                continue
        found.append([second, 0.0, 1])
    return found


def _step(values: Sequence[float], number: int) -> float:
    """The distance from value `number` - 1 to the next, taken over as long a stretch as keeps it, since seconds are rounded."""
    first, step = values[number - 1], values[number] - values[number - 1]
    last = number
    while last + 1 < len(values) and abs(values[last + 1] - values[last] - step) < 1e-3:
        last += 1
    return round((values[last] - first) / (last - number + 1), 9)


def _progressed(triples: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    import numpy as np

    parts = [start + step * np.arange(int(count)) for start, step, count in triples]
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)
