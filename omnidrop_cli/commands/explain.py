"""`omnidrop explain`: which patches and which seconds survived to which layer, as a page, a video, a picture or in the terminal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from omnidrop_cli.commands._console import Console, check_target, emit
from omnidrop_cli.commands._options import OUTPUT, PRUNING, ConsoleFlags, flag, media_argument, switch
from omnidrop_cli.commands._request import RequestFlags, check_no_stdin, read_question
from omnidrop_cli.commands._words import parse_words
from omnidrop_cli.config import PruningConfig
from omnidrop_cli.errors import OmnidropError, UsageError
from omnidrop_cli.report.text import clean

if TYPE_CHECKING:
    from omnidrop_cli.explain.files import Targets
    from omnidrop_cli.explain.record import Explanation
    from omnidrop_cli.outputs import Clip

EXAMPLES = (
    'omnidrop explain demo "What is said?" -o report.html',
    'omnidrop explain talk.mp4 "What is said?" --methods omnidrop,seats,random -o report.html --embed-media',
    'omnidrop explain talk.mp4 "What is said?" --overlay overlay.mp4 --png sheet.png',
    'omnidrop explain a.mp4 b.mp4 "Which of them is louder?"',
    "omnidrop explain saved.json -o report.html",
)

MediaAndQuestion = Annotated[
    list[str],
    media_argument(
        then=", or several of them; then what to ask (- reads it from stdin). Or a report saved as JSON with --kept",
        metavar="MEDIA... QUESTION",
    ),
]


@dataclass(frozen=True, slots=True)
class ExplainFlags:
    """Which methods are shown, and what is written."""

    PANEL: ClassVar[str] = OUTPUT

    methods: str | None = flag(None, "Show several methods, in place of --method.", panel=PRUNING, metavar="A,B")
    full: bool = flag(True, "Answer without pruning too.", panel=PRUNING)
    output: Path | None = flag(None, "Write the page to FILE.", short="o")
    embed_media: bool = switch("Put the clip into the page instead of linking it.")
    overlay: Path | None = flag(None, "Write the clip with dropped patches darkened (MP4).")
    png: Path | None = flag(None, "Write a contact sheet (PNG).")
    svg: Path | None = flag(None, "Write what the terminal shows (SVG).")

    def targets(self) -> Targets:
        from omnidrop_cli.explain.files import Targets

        return Targets(self.output, self.embed_media, self.overlay, self.png, self.svg)


def explain(
    words: MediaAndQuestion,
    flags: RequestFlags,
    shown: ExplainFlags,
    console: ConsoleFlags,
) -> None:
    """Show what each layer kept of a clip, or of several. A report that was saved as JSON with --kept is shown without a model.

    The first method's answer goes to stdout; without a file to write, bars and a time line go to stderr. Pages, sheets and videos show
    one clip.
    """
    saved = Path(words[0]).suffix.lower() == ".json"
    if saved and len(words) > 1:
        raise UsageError("a saved report has its question", "leave the question out")
    media, question = ((words[0],), "") if saved else _media_and_question(words)
    targets = shown.targets()
    for name, path in targets.named():
        check_target(path, name, replace(flags.template(media[0]), more=media[1:]).inputs)
    targets.check(len(media))
    with Console(console) as screen:
        if saved:
            explanation, clip = _of_file(Path(media[0]))
            targets.check(len(explanation.first.clips))
        else:
            request = flags.request(media[0], read_question(question), media[1:])
            methods = _methods(flags.pruning, shown.methods)
            from omnidrop_cli.explain.make import explain as run

            explanation, clip = run(request, methods, full=shown.full, progress=screen)
        screen.stage("draw")
        written = _written(explanation, clip, targets)
    emit(clean(explanation.first.answer.text))
    _show(explanation, written, screen)


def _media_and_question(words: list[str]) -> tuple[tuple[str, ...], str]:
    found = parse_words(words, None, "explain")
    for name in found.media:
        check_no_stdin(name, "explain")
    return found.media, found.question


def _methods(first: PruningConfig, names: str | None) -> list[PruningConfig]:
    """The methods to run, each with the budget of --keep or --preset; options belong to --method alone."""
    if names is None:
        methods = [first]
    else:
        methods = [replace(first, name=name.strip(), options={}) for name in names.split(",") if name.strip()]
    if not methods:
        raise UsageError("--methods names none", "for example: --methods omnidrop,seats")
    from omnidrop_cli.prune.methods import get_method

    for method in methods:
        get_method(method)
    return methods


def _of_file(path: Path) -> tuple[Explanation, Clip | None]:
    from omnidrop_cli.explain.files import saved_reports
    from omnidrop_cli.explain.make import of_saved

    try:
        reports, full = saved_reports(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}", "check the path") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}", "omnidrop ask ... --json --kept -o saved.json writes one") from error
    return of_saved(reports, full)


def _written(explanation: Explanation, clip: Clip | None, targets: Targets) -> list[Path]:
    from omnidrop_cli.explain.files import write_files

    try:
        return write_files(explanation, clip, targets)
    except ValueError as error:
        raise OmnidropError(str(error)) from error


def _show(explanation: Explanation, written: list[Path], screen: Console) -> None:
    from rich.text import Text

    from omnidrop_cli.report.kept_view import KeptView
    from omnidrop_cli.report.tables import SummaryLine

    screen.show(SummaryLine(explanation.first))
    if not written:
        screen.show("", KeptView(explanation.first))
    for path in written:
        screen.show(Text(f"wrote {clean(str(path))}", style="dim", overflow="fold"))
