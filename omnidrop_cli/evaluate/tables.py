"""Summary → Markdown.

Knows: which columns a reader needs, and how precisely a number is known. Does not know: how the numbers were made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from omnidrop_cli.evaluate.summary import ArmSummary, Group, Pair, Score, Summary


def markdown(summary: Summary) -> str:
    """The report of an evaluation as Markdown, ending in a line break."""
    return f"# {_cell(summary.title)}\n\n{sections(summary, '##')}"


def sections(summary: Summary, heading: str) -> str:
    """The same without its title, under headings of a given depth."""
    parts = [_facts(summary), f"{heading} Methods", _arms(summary)]
    for label in dict.fromkeys(group.label for group in summary.groups):
        parts += [f"{heading} By {label}", _by_label(summary, label)]
    if summary.pairs:
        parts += [
            f"{heading} Pairs",
            "The second method less the first, in points, on the questions both answered: every method against the full model, and against "
            "the first one with its budget. Interval: 95 % paired bootstrap over clips. p: McNemar's exact test; Holm: corrected for the "
            "number of pairs with the same first method.",
            _pairs(summary.pairs),
        ]
    if summary.headline_pairs and summary.headline:
        parts += [f"{heading} Pairs: {_cell(summary.headline[1])} alone", _pairs(summary.headline_pairs)]
    return "\n\n".join(parts) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is left-aligned, the others right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(share: float | None, digits: int = 1) -> str:
    """A share of one in per cent, without the sign; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


def _facts(summary: Summary) -> str:
    model = summary.model
    order = "words before the clip" if summary.text_first else "clip before the words"
    timing = "; published timing (one second per pair of frames, whatever the clip's rate)" if summary.timing == "published" else ""
    media = summary.media_options
    pixels = "" if media.max_pixels is None else f", at most {media.max_pixels} pixels each"
    weights = f", weights {model['weights']}" if model.get("weights") else ""
    lines = [
        f"{summary.questions} questions about {summary.clips} clips; {order}; {media.fps:g} frames per second, "
        f"at most {media.max_frames}{pixels}{timing}.",
        f"Protocol: {summary.protocol}.",
        f"Model: {_cell(str(model.get('name')))} ({model.get('quant')}, {model.get('dtype')}, {model.get('attention')}, "
        f"{model.get('device')}{weights}), greedy."
        if model
        else "Nothing was answered.",
    ]
    if any(arm.errors for arm in summary.arms):
        lines.append("Failed questions are in no other figure; a rerun tries them again.")
    return "\n".join(lines)


def _arms(summary: Summary) -> str:
    headline = next((group for group in summary.groups if (group.label, group.value) == summary.headline), None)
    against = {pair.second: pair for pair in summary.pairs if pair.first == summary.full}
    apart = {pair.second: pair for pair in summary.headline_pairs if pair.first == summary.full}
    header = [
        "method",
        "n",
        "accuracy % [95 %]",
        *(["less full [95 %]", "p (Holm)"] if against else []),
        *([f"{_cell(headline.value)} % [95 %]"] if headline else []),
        *(["less full [95 %]", "p (Holm)"] if apart else []),
        "unparsed %",
        "failed",
        "kept % entering",
        "kept % after",
        "prefill s",
        "of full",
        "FLOPs %",
        "KV MB",
        "peak MB",
    ]
    return table(header, (_arm(arm, headline, against, apart) for arm in summary.arms))


def _arm(arm: ArmSummary, headline: Group | None, against: Mapping[str, Pair], apart: Mapping[str, Pair]) -> list[str]:
    return [
        _cell(arm.arm),
        str(arm.score.n),
        _score(arm.score),
        *_less(against, arm.arm),
        *([_score(headline.scores[arm.arm])] if headline else []),
        *_less(apart, arm.arm),
        percent(arm.unparsed / arm.score.n if arm.score.n else None),
        str(arm.errors),
        percent(arm.retention_entering),
        percent(arm.retention_after),
        "-" if arm.prefill_s is None else f"{arm.prefill_s:.3f}",
        "-" if arm.prefill is None else f"{arm.prefill:.2f}",
        percent(arm.flops),
        "-" if arm.kv_mb is None else f"{arm.kv_mb:.1f}",
        "-" if arm.peak_mb is None else f"{arm.peak_mb:.0f}",
    ]


def _by_label(summary: Summary, label: str) -> str:
    """Accuracy by group and method; the longer list runs down."""
    groups = [group for group in summary.groups if group.label == label]
    sizes = [max(score.n for score in group.scores.values()) for group in groups]
    if len(summary.arms) > len(groups):
        header = ["method", *(f"{_cell(group.value)} ({n})" for group, n in zip(groups, sizes, strict=True))]
        return table(header, ([_cell(arm.arm), *(_score(group.scores[arm.arm]) for group in groups)] for arm in summary.arms))
    header = [label, "n", *(_cell(arm.arm) for arm in summary.arms)]
    rows = zip(groups, sizes, strict=True)
    return table(header, ([_cell(group.value), str(n), *(_score(group.scores[arm.arm]) for arm in summary.arms)] for group, n in rows))


def _pairs(pairs: Sequence[Pair]) -> str:
    header = ["first → second", "n", "difference [95 %]", "only first right", "only second right", "p", "Holm"]
    return table(
        header,
        (
            [
                f"{_cell(pair.first)} → {_cell(pair.second)}",
                str(pair.n),
                _difference(pair),
                str(pair.first_only),
                str(pair.second_only),
                _p(pair.p),
                _p(pair.p_holm),
            ]
            for pair in pairs
        ),
    )


def _less(pairs: Mapping[str, Pair], arm: str) -> list[str]:
    """The two cells of an arm's difference; none where no arm has one."""
    if not pairs:
        return []
    return [_difference(pairs[arm]), _p(pairs[arm].p_holm)] if arm in pairs else ["-", "-"]


def _difference(pair: Pair) -> str:
    return f"{100 * pair.difference:+.1f} [{100 * pair.low:+.1f}, {100 * pair.high:+.1f}]"


def _score(score: Score) -> str:
    return "-" if not score.n else f"{percent(score.accuracy)} [{percent(score.low)}, {percent(score.high)}]"


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _cell(text: str) -> str:
    """Text from outside, harmless in a table: no control characters, no cell borders."""
    return "".join(char if char.isprintable() else " " for char in text).replace("|", "\\|")
