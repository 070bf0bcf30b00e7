"""The fixed parts of the page that need no script: answers with their difference marked, and every number as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from omnidrop_cli.explain.record import Explanation
from omnidrop_cli.outputs import Report, Timings
from omnidrop_cli.report.alignment import AlignedPiece, align
from omnidrop_cli.report.numbers import flops, megabytes, seconds, share
from omnidrop_cli.report.tables import summary
from omnidrop_cli.report.text import clean, one_line

STAGES = (
    ("fetch", "fetch_s"),
    ("load", "load_s"),
    ("decode", "decode_s"),
    ("prompt", "build_s"),
    ("encode", "encode_s"),
    ("prefill", "prefill_s"),
    ("generate", "generate_s"),
    ("first token", "first_token_s"),
    ("total", "total_s"),
)


def answers(explanation: Explanation) -> str:
    """A card per run. With an unpruned run, its card comes first and the others mark what differs from it."""
    full = explanation.full
    cards = [] if full is None else [card("full", full)]
    return "".join([*cards, *(card(report.method, report, full) for report in explanation.reports)])


def _text(report: Report) -> str:
    return clean(report.answer.text).strip()


def card(name: str, report: Report, full: Report | None = None) -> str:
    """One answer. With an unpruned run, words that only this one has are inserted text, and words that it lacks follow as deleted text."""
    text = _text(report)
    pieces: Sequence[AlignedPiece] = [AlignedPiece(text, True)] if text else []
    missed: Sequence[AlignedPiece] = []
    if full is not None:
        aligned = align(_text(full), text)
        pieces, missed = aligned.second, aligned.first
    said = "".join(escape(piece.text) if piece.equal else f"<ins>{escape(piece.text)}</ins>" for piece in pieces) or "(nothing)"
    lost = " ".join(piece.text.strip() for piece in missed if not piece.equal)
    missing = f'<p class="figures" dir="auto">in the full answer only: <del>{escape(lost)}</del></p>' if lost else ""
    figures = " \u00b7 ".join(summary(report))
    return (
        f'<article class="answer"><h3 dir="auto">{escape(one_line(name))}</h3><p class="said" dir="auto">{said}</p>{missing}'
        f'<p class="figures">{escape(figures)}</p></article>'
    )


def tables(explanation: Explanation) -> str:
    """Figures of all runs in one table, then tokens by layer of each run."""
    runs = [*([explanation.full] if explanation.full is not None else []), *explanation.reports]
    parts = [_details("Times, memory and cost", _figures(runs), is_open=True)]
    for report in runs:
        parts.append(_details(f"Tokens by layer: {one_line(report.method)}", layers_table(report)))
    return "".join(parts)


def _figures(runs: Sequence[Report]) -> str:
    rows = [("answer tokens", *(str(len(run.answer.token_ids)) for run in runs))]
    rows.append(("kept, mean after each cut", *(share(run.trace.retention_after) for run in runs)))
    rows.append(("kept, mean entering a layer", *(share(run.trace.retention_entering) for run in runs)))
    rows.append(("prefill cost", *(flops(run.flops.pruned) for run in runs)))
    rows += [(name, *(seconds(_stage(run.timings, field)) for run in runs)) for name, field in STAGES]
    sizes = (("weights", "weights_mb"), ("KV cache", "kv_mb"), ("KV cache, unpruned", "kv_full_mb"), ("peak memory", "peak_mb"))
    rows += [(name, *(megabytes(getattr(run.memory, field)) for run in runs)) for name, field in sizes]
    return _table("Times, memory and cost", ["", *(one_line(run.method) for run in runs)], rows)


def _stage(timings: Timings, field: str) -> float:
    value: float = getattr(timings, field)
    return value


def layers_table(report: Report) -> str:
    media = report.prompt.media
    rows = [("prompt", report.prompt), *((str(layer), counts) for layer, counts in enumerate(report.trace.entering))]
    cells = (
        (name, *map(str, (counts.text, counts.audio, counts.video, counts.total)), share(counts.media / media if media else 1.0))
        for name, counts in rows
    )
    return _table(
        f"Tokens by layer, {one_line(report.method)}", ["layer", "text", "audio", "video", "total", "audio and video kept"], cells
    )


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    table = f'<table aria-label="{escape(title)}">'
    return f'<div class="scroll" tabindex="0">{table}<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def _details(title: str, content: str, *, is_open: bool = False) -> str:
    return f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>{content}</details>"
