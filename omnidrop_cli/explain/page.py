"""An explanation as one HTML file that needs nothing else: no network, no library, a content security policy of hashes.

Charts are plain SVG, film strip and lanes are canvas drawn by a short script: tens of thousands of patches change with every step of the
slider, which charting libraries draw as elements, and a library would be most of the file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from omnidrop_cli import __version__
from omnidrop_cli.explain.curves import curve
from omnidrop_cli.explain.html_parts import answers, tables
from omnidrop_cli.explain.marks import marks_of
from omnidrop_cli.explain.record import Explanation
from omnidrop_cli.outputs import Report
from omnidrop_cli.report.json import to_dict
from omnidrop_cli.report.numbers import seconds
from omnidrop_cli.report.text import clean, one_line

DATA_VERSION = 1

SCRIPT = ("data", "film", "lanes", "controls")
"""Parts of the script; each uses names of those before it."""


def page(explanation: Explanation) -> str:
    """The HTML document. Raises `ValueError` for reports without their kept tokens."""
    if any(report.token_map is None or not report.trace.kept for report in explanation.reports):
        raise ValueError("the report was saved without its kept tokens (to_dict(report, kept=True) keeps them)")
    script, style = _script(), _asset("page.css")
    first = explanation.first
    name = _name(first)
    return _filled(
        _asset("page.html"),
        {
            "csp": _policy(script, style, linked=explanation.preview is None and explanation.link is not None),
            "generator": f"omnidrop {__version__}",
            "title": escape(f"{one_line(first.job.question)} - {name}"),
            "style": style,
            "question": escape(one_line(first.job.question)),
            "facts": escape(_facts(first, name)),
            "answers_title": "Answer" if explanation.full is None and len(explanation.reports) == 1 else "Answers",
            "answers": answers(explanation),
            "marks_legend": '<p class="legend"><ins>Underlined</ins> words are not in the full answer.</p>' if explanation.full else "",
            "player": _player(explanation),
            "last_layer": str(first.trace.num_layers - 1),
            "curves": "".join(map(curve, explanation.reports)),
            "tables": tables(explanation),
            "footer": escape(one_line(f"omnidrop {__version__}, {first.model.name} ({first.model.quant}, {first.model.device})")),
            "data": _embedded(data_of(explanation)),
            "script": script,
        },
    )


def data_of(explanation: Explanation) -> dict[str, Any]:
    """What the page's script reads, and what it saves as JSON: reports with their kept tokens, marks, pictures."""
    film, sound = explanation.film, explanation.sound
    return {
        "version": DATA_VERSION,
        "kind": "explanation",
        "reports": [_report(report) for report in explanation.reports],
        "full": None if explanation.full is None else _report(explanation.full, kept=False),
        "marks": [marks_of(report) for report in explanation.reports],
        "film": film and {"size": list(film.size), "at_s": list(film.at_s), "jpegs": [_base64(one) for one in film.jpegs]},
        "sound": sound and {"seconds": sound.seconds, "mel_png": _base64(sound.mel_png), "peaks": _base64(sound.peaks.tobytes())},
    }


def _report(report: Report, *, kept: bool = True) -> dict[str, Any]:
    """A report as JSON, without the folders of the machine it was made on: pages are passed on."""
    value = to_dict(report, kept=kept)
    value["media"] |= {"path": _name(report), "asked": _name(report)}
    if re.search(r"[/\\]", value["model"]["source"]) and PurePath(value["model"]["source"]).is_absolute():
        value["model"]["source"] = PurePath(value["model"]["source"]).name
    return value


def _name(report: Report) -> str:
    asked = report.job.media
    return one_line(asked if re.match(r"https?://", asked) else PurePath(asked).name)


def _facts(report: Report, name: str) -> str:
    part = f"from {seconds(report.clip.start_s)}" if report.clip.start_s else ""
    video = f"{report.clip.frames} frames" if report.clip.frames else "no video"
    audio = f"{seconds(report.clip.audio_s)} of audio" if report.clip.audio_s else "no audio"
    tokens = f"{report.prompt.audio} audio and {report.prompt.video} video tokens"
    return " \u00b7 ".join(filter(None, (name, seconds(report.clip.duration_s), part, video, audio, tokens)))


def _player(explanation: Explanation) -> str:
    """The clip: embedded, or linked by a relative path; nothing where it is neither."""
    tag = "video" if explanation.first.clip.frames else "audio"
    if explanation.preview is not None:
        source, offset = f"data:{tag}/mp4;base64,{_base64(explanation.preview)}", 0.0
    elif explanation.link is not None:
        source, offset = explanation.link, explanation.first.clip.start_s
    else:
        return ""
    return (
        '<section aria-labelledby="clip-title"><h2 id="clip-title">Clip</h2>'
        f'<{tag} controls preload="metadata" data-offset="{offset:g}" src="{escape(clean(source), quote=True)}"></{tag}>'
        '<p id="player-note" class="hint"></p></section>'
    )


def _policy(script: str, style: str, *, linked: bool) -> str:
    """Nothing may load but what is in the file; a linked clip, where there is one, from the page's own place."""
    media = "'self' file: data:" if linked else "data:"
    rules = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "data:",
        "media-src": media,
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    return f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'"


def _embedded(value: Mapping[str, Any]) -> str:
    r"""JSON for a script element: `<` as \u003c, so that nothing in it ends the element or opens a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _filled(template: str, values: Mapping[str, str]) -> str:
    """The template with every {{name}} replaced in one pass, so that a value is never searched for names."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def _script() -> str:
    """The parts of the script in one scope of their own."""
    return '"use strict";\n(() => {\n' + "\n".join(_asset(f"{part}.js") for part in SCRIPT) + "})();\n"


def _asset(name: str) -> str:
    return (files("omnidrop_cli.explain") / "assets" / name).read_text(encoding="utf-8")


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
