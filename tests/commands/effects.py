"""Tables of options and their effects: what a row holds, and what of an answer can be compared.

`tests/commands/test_*_effects.py` hold the tables. What is compared is never the request that the JSON repeats, but what became of it:
frames, tokens, kept tokens, the model that was loaded, the answer, files on the disk, the streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnidrop_cli.cli import COMMANDS, GROUPS
from omnidrop_cli.commands._options import grouped
from tests.commands.running import Done

Run = Callable[..., Done]


@dataclass(frozen=True)
class Row:
    """`flag` with its `value`, next to the flags `given` on both sides, changes `effect` of what ran."""

    flag: str
    value: tuple[str, ...]
    effect: Callable[[Any], Any]
    given: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The flag as it is typed."""
        return self.value if self.value == (f"--no-{self.flag}",) else (f"--{self.flag}", *self.value)


def out(done: Done) -> object:
    """What a command wrote to stdout."""
    return done.out


def err(done: Done) -> object:
    """What it wrote to stderr."""
    return done.err


def error(done: Done) -> object:
    """How it failed."""
    return str(done.error)


COMMON_ELSEWHERE: Mapping[str, str] = {
    "no-color": "tests/commands/test_output.py",
    "debug": "tests/commands/test_exit.py",
    "profile": "tests/test_settings.py",
}
"""Options of every command, and where they are tested."""

READING_ELSEWHERE: Mapping[str, str] = {
    **COMMON_ELSEWHERE,
    "dedup-threshold": "tests/engine/test_frame_dedup.py: test_tolerance_reaches_the_encoder",
    "refresh": "tests/media/test_download_cache.py",
    "cookies": "tests/media/test_address.py",
    "cookies-from-browser": "tests/media/test_address.py",
    "quant": "tests/model/test_load.py",
    "revision": "tests/model/test_hub.py",
    "graph": "tests/engine/test_graph_session.py; a GPU is needed to see it from the command line",
}
"""Options of every command that reads clips with a model, whose effect cannot be seen in nano's reports, and where they are tested."""


def check_complete(command: str, rows: Iterable[Row], elsewhere: Mapping[str, str]) -> None:
    """Fail unless every option of the command, or of a group's commands, is in a row or is tested elsewhere, in a file that exists."""
    declared = [run for run, _ in COMMANDS if run.__name__ == command]
    declared += [run for name, _, commands in GROUPS if name == command for _, run, _ in commands]
    known = {one.flag for run in declared for one in grouped(run).options.values()}  # type: ignore[attr-defined]
    assert {row.flag for row in rows} | {*elsewhere} == known
    for where in elsewhere.values():
        for name in (word.rstrip(":;") for word in where.split() if word.startswith("tests/")):
            assert (Path(__file__).parents[2] / name).exists(), name


def frames(report: dict[str, Any]) -> Any:
    return report["media"]["frames"]


def size(report: dict[str, Any]) -> Any:
    return report["media"]["frame_size"]


def prompt(report: dict[str, Any]) -> Any:
    return report["tokens"]["prompt"]


def leaving(report: dict[str, Any]) -> Any:
    return report["tokens"]["leaving"]


def kept(report: dict[str, Any]) -> Any:
    return report["kept"]


def answer(report: dict[str, Any]) -> Any:
    return report["answer"]


def generated(report: dict[str, Any]) -> Any:
    return report["answer_token_ids"]


def loaded(report: dict[str, Any]) -> Any:
    return {name: report["model"][name] for name in ("name", "dtype", "quant", "quant_head", "device")}


ANSWERING = (
    Row("keep", ("0.6",), leaving),
    Row("preset", ("paper-20",), leaving),
    Row("option", ("p_init=0.05",), leaving),
    Row("start", ("4",), prompt),
    Row("end", ("4",), prompt),
    Row("fps", ("1",), frames),
    Row("min-frames", ("30",), frames),
    Row("max-frames", ("8",), frames),
    Row("min-pixels", ("20000",), size),
    Row("max-pixels", ("4000",), size, ("--min-pixels", "3136")),
    Row("audio", ("--no-audio",), prompt),
    Row("video", ("--no-video",), prompt),
    Row("subtitles", (str(Path(__file__).with_name("hello.srt")),), prompt),
    Row("system", ("Answer in one word, please.",), prompt),
    Row("dtype", ("bfloat16",), loaded),
    Row("quant-head", ("nf4",), loaded),
    Row("max-new-tokens", ("2",), generated),
    Row("temperature", ("3",), generated, ("--seed", "3")),
    Row("top-p", ("0.05",), generated, ("--seed", "3", "--temperature", "3")),
    Row("repetition-penalty", ("5",), generated, ("--max-new-tokens", "40", "--system", "music music music")),
    Row("stop", ("music",), answer),
    Row("choices", ("red, blue",), answer),
    Row("prompt-lookup", ("7",), lambda report: "prompt_lookup" in report),
    Row("schema", ('{"enum": ["red", "blue"]}',), answer),
)
"""Options of every command that answers questions, and what they change in the JSON of an answer to "What is said?" about the demo."""
