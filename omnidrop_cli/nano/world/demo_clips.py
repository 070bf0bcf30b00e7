"""The bundled demo clips: two hand-written timelines, questions about them, and the true answers.

They were settled before any weights existed. The files are in `assets/demo`; `make` writes them again and needs the speech programs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omnidrop_cli.nano.world.scenario import Beep, Scenario, Show, Spoken
from omnidrop_cli.nano.world.vocabulary import Item

_FIRST, _SECOND = "flite-slt-1-50", "espeak-ng-en-us_f3-165-55"
"""One voice of the training set, one that it lacks (`Voice.label`)."""


@dataclass(frozen=True, slots=True)
class DemoQuestion:
    clip: str
    question: str
    answer: str


QUESTIONS = (
    DemoQuestion("demo", "What is said?", "hello music garden goodbye"),
    DemoQuestion("demo", "What is shown?", "dog, red circle, car, rocket, apple"),
    DemoQuestion("demo", "What is said while the car is shown?", "garden"),
    DemoQuestion("demo", "What is shown when the voice says music?", "red circle"),
    DemoQuestion("demo", "What is shown after the car?", "rocket"),
    DemoQuestion("demo", "How many beeps are there?", "2"),
    DemoQuestion("demo", "Which colour is the circle?", "red"),
    DemoQuestion("demo", "Is the dog on the left or on the right?", "left"),
    DemoQuestion("demo", "Is the rocket shown?", "yes"),
    DemoQuestion("demo2", "What is said?", "coffee market friday"),
    DemoQuestion("demo2", "What is shown at the start?", "sunflower"),
    DemoQuestion("demo2", "Which number is shown?", "7"),
    DemoQuestion("demo2", "What does the sign say?", "open"),
    DemoQuestion("demo2", "What is said while the guitar is shown?", "friday"),
    DemoQuestion("demo2", "In which half is the guitar shown?", "second half"),
)


def timelines() -> dict[str, Scenario]:
    """The clips by name."""
    from omnidrop_cli.nano.world.voices import voices

    numbers = {voice.label: number for number, voice in enumerate(voices())}
    first, second = numbers[_FIRST], numbers[_SECOND]
    return {
        "demo": Scenario(
            duration_s=10.0,
            cells=(3, 3),
            has_video=True,
            has_audio=True,
            shows=(
                _still(Item("object", "dog"), 0, 2, (0.22, 0.5), 1.2),
                _still(Item("shape", "circle", "red"), 2, 4, (0.75, 0.25), 1.0),
                Show(Item("object", "car"), 4.0, 6.0, (0.25, 0.7), (0.7, 0.7), 1.3),
                _still(Item("object", "rocket"), 6, 8, (0.5, 0.4), 1.4),
                _still(Item("object", "apple"), 8, 10, (0.72, 0.72), 1.1),
            ),
            words=(
                Spoken("hello", 0.7, 1.2, first),
                Spoken("music", 2.6, 3.15, first),
                Spoken("garden", 4.8, 5.35, first),
                Spoken("goodbye", 8.7, 9.3, first),
            ),
            beeps=(Beep(6.4, 6.55, 880.0), Beep(7.1, 7.25, 880.0)),
            noise=0.05,
            look=201,
            needle=False,
        ),
        "demo2": Scenario(
            duration_s=9.0,
            cells=(2, 4),
            has_video=True,
            has_audio=True,
            shows=(
                _still(Item("object", "sunflower"), 0, 3, (0.3, 0.5), 1.3),
                _still(Item("digit", "7"), 3, 5, (0.85, 0.3), 0.9),
                _still(Item("sign", "open"), 3, 5, (0.2, 0.7), 1.3),
                _still(Item("object", "guitar"), 5, 9, (0.6, 0.5), 1.5),
            ),
            words=(Spoken("coffee", 1.0, 1.5, second), Spoken("market", 3.6, 4.1, second), Spoken("friday", 6.5, 7.05, second)),
            beeps=(),
            noise=0.0,
            look=74,
            needle=False,
        ),
    }


def make(directory: Path, cache: Path) -> None:
    """Write both clips into `directory`; voices come from (and go to) `cache`. Raises `OmnidropError` with what to install."""
    from omnidrop_cli.nano.world import media_files
    from omnidrop_cli.nano.world.voices import VoiceBank, synthesise

    for name, timeline in timelines().items():
        numbers = sorted({word.voice for word in timeline.words})
        synthesise(cache, numbers)
        media_files.write(timeline, directory / f"{name}.mp4", VoiceBank(cache, numbers))


def _still(item: Item, start_s: float, end_s: float, place: tuple[float, float], size: float) -> Show:
    return Show(item, float(start_s), float(end_s), place, place, size)
