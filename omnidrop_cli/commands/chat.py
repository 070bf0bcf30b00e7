"""`omnidrop chat`: several questions about one clip, typed by a person or read from a script on stdin; slash commands between them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import typer

from omnidrop_cli.commands._chat_input import entries, from_person, from_script, line_editing
from omnidrop_cli.commands._complete import files, methods
from omnidrop_cli.commands._console import Console, check_target, dump, emit
from omnidrop_cli.commands._options import ConsoleFlags, SeveralMedia, as_flags, same
from omnidrop_cli.commands._request import RequestFlags, check_no_stdin
from omnidrop_cli.commands.ask import cut_warning, keep_in_history
from omnidrop_cli.config import DisplayConfig
from omnidrop_cli.errors import EXIT_PARTIAL, OmnidropError, UsageError
from omnidrop_cli.fileio import write_text
from omnidrop_cli.report.text import clean, one_line

if TYPE_CHECKING:
    from omnidrop_cli.engine.chat import Conversation
    from omnidrop_cli.outputs import Comparison, Report

EXAMPLES = (
    "omnidrop chat talk.mp4",
    "omnidrop chat talk.mp4 --method omnidrop --keep 0.2 < questions.txt > answers.txt",
)

FORGETFUL = "nano sees each question alone: it was not trained on conversations"


@dataclass(frozen=True, slots=True)
class ChatFlags:
    """How answers are shown, and whether they are kept."""

    PANEL: ClassVar[str] = DisplayConfig.PANEL

    stream: bool = same(DisplayConfig, "stream")
    history: bool = same(DisplayConfig, "history")


def chat(
    media: SeveralMedia,
    flags: RequestFlags,
    display: ChatFlags,
    console: ConsoleFlags,
) -> None:
    """Ask several questions about a clip, or about several clips and pictures together; they are decoded and encoded once.

    Every question is pruned by its own words, and sees the questions and answers before it. Lines of a script on stdin are questions
    too; the answers go to stdout. Triple quotes begin and end a question of several lines. /help shows the commands.
    """
    for name in media:
        check_no_stdin(name, "chat")
    # The question is only a place holder: each line brings its own.
    job = flags.request(media[0], "?", media[1:])
    from omnidrop_cli.engine.chat import Conversation
    from omnidrop_cli.engine.pipeline import open_both

    with Console(console) as screen:
        session, clips, seconds = open_both(job, screen)
        if session.loaded.notice:
            screen.warn(session.loaded.notice)
    person = sys.stdin.isatty()
    talk = Chat(Conversation(session, job, clips, seconds), console, person=person, stream=display.stream, keep=display.history)
    if person:
        lengths = "; ".join(f"{one_line(name)}, {clip.duration_s:.1f} s" for name, clip in zip(media, clips, strict=True))
        talk.say(f"{lengths}. Ask, or /help; Ctrl-D ends.")
    with _own_interrupts(), line_editing(talk.complete) if person else nullcontext():
        for text, is_block in entries(from_person if person else from_script, person=person):
            try:
                if not (talk.question(text) if is_block else talk.take(text)):
                    break
            except KeyboardInterrupt:
                if not person:
                    raise
                talk.say("\nthis answer was stopped; Ctrl-D ends the chat")
    if talk.failures and not person:
        raise typer.Exit(EXIT_PARTIAL)


class Chat:
    """A conversation with its slash commands. `failures` counts the lines that could not be answered or done."""

    def __init__(self, conversation: Conversation, console: ConsoleFlags, *, person: bool, stream: bool, keep: bool = False) -> None:
        """`keep` puts every answer into the history."""
        self.failures = 0
        self._keep_answers, self._saved = keep, set[Path]()
        self._conversation, self._console, self._person, self._stream = conversation, console, person, stream
        self._share = conversation.method.keep
        self._results: list[Report | Comparison] = []
        self._commands: dict[str, tuple[str, str, Callable[[str], None]]] = {
            "/compare": ("[QUESTION]", "answer unpruned and pruned; without a question, the last one again", self._compare),
            "/method": ("NAME", "prune the next questions by another method", self._method),
            "/keep": ("SHARE", "keep another share of the audio and video tokens", self._keep),
            "/table": ("", "tokens per layer, times and memory of the last answer", self._table),
            "/save": ("FILE", "write the answers so far as .md, .csv or .jsonl", self._save),
            "/forget": ("", "start over: the next question sees none before it", self._forget),
            "/help": ("", "this list", self._help),
            "/quit": ("", "end; so does Ctrl-D", self._help),
        }

    def take(self, line: str) -> bool:
        """Do one line; False where it ends the chat."""
        line = line.strip()
        if line.lower() in ("quit", "exit"):
            return False
        if line.lower() == "help":
            line = "/help"
        if not self._person and line.startswith("#"):
            return True
        if not line.startswith("/"):
            return self.question(line)
        name, _, argument = line.partition(" ")
        if name == "/quit":
            return False
        with self._said():
            if name not in self._commands:
                raise UsageError(f"there is no command {one_line(name)}", "/help lists them; a question does not begin with a slash")
            self._commands[name][2](argument.strip())
        return True

    def question(self, text: str) -> bool:
        """Answer a question, if it has any words; True: the chat goes on."""
        with self._said():
            if text:
                self._ask(text)
        return True

    @contextmanager
    def _said(self) -> Iterator[None]:
        """A block whose errors are said and counted."""
        try:
            yield
        except OmnidropError as error:
            self.failures += 1
            self.say(f"error: {one_line(error.message)}", *([f"hint: {one_line(error.hint)}"] if error.hint else []))

    def say(self, *lines: str) -> None:
        """On stderr: stdout holds answers alone."""
        for line in lines:
            Console(self._console).err.print(as_flags(clean(line)), soft_wrap=True)

    def complete(self, text: str, state: int) -> str | None:
        """What readline offers for `text`: commands, methods after /method, and files after /save."""
        import readline

        typed = readline.get_line_buffer()
        if typed.startswith("/method "):
            fitting = methods(text)
        elif typed.startswith("/save "):
            fitting = files(text)
        else:
            fitting = [word for word in self._commands if word.startswith(text)]
        return fitting[state] if state < len(fitting) else None

    def _ask(self, question: str) -> None:
        earlier = len(self._conversation.turns)
        if earlier == 1 and not self._conversation.remembers:
            self.say(f"warning: {FORGETFUL}")
        with Console(self._console, stream=self._stream) as screen:
            report = self._conversation.ask(question, screen)
        self._results.append(report)
        if not screen.streamed:
            emit(clean(report.answer.text), None)
        self._account(report, screen, earlier)
        if self._person and not self._console.quiet:
            share = f"{report.trace.retention_after:.0%} of {report.prompt.media} audio and video tokens"
            self.say(f"({report.method}: {share}; {_own_seconds(report):.1f} s)")

    def _account(self, result: Report | Comparison, screen: Console, earlier: int) -> None:
        """Say that an answer was cut, how probable choices are, and keep it in the history if wanted."""
        from omnidrop_cli.outputs import Comparison
        from omnidrop_cli.report.tables import ChoicesLine

        for report in (result.full, result.pruned) if isinstance(result, Comparison) else (result,):
            if report.answer.choices:
                screen.show(ChoicesLine(report))
            if report.answer.finish_reason == "length":
                screen.warn(cut_warning(report), always=True)
        if self._keep_answers:
            keep_in_history(result, screen, earlier if self._conversation.remembers else 0)

    def _compare(self, question: str) -> None:
        if not question and not self._conversation.turns:
            raise UsageError("nothing was asked yet", "/compare QUESTION")
        earlier = len(self._conversation.turns) - (not question)
        with Console(self._console) as screen:
            comparison = self._conversation.compare(question or None, screen)
        self._results.append(comparison)
        emit(clean(comparison.pruned.answer.text), None)
        self._account(comparison, screen, earlier)
        self._table("")

    def _method(self, name: str) -> None:
        if not name:
            raise UsageError(f"the method is {self._conversation.method.name}", "/method NAME changes it; `omnidrop methods` lists them")
        from omnidrop_cli.prune.methods import describe

        # Options and presets belong to the method they were given for; a share is understood by most.
        keep = self._share if "keep" in {option["name"] for option in describe(name)["options"]} else None
        self._conversation.method = replace(self._conversation.method, name=name, keep=keep, options={}, preset=None)

    def _keep(self, share: str) -> None:
        try:
            keep = float(share)
        except ValueError:
            raise UsageError(f"{one_line(share) or 'nothing'} is not a share", "/keep 0.3 keeps 30 %") from None
        self._conversation.method = replace(self._conversation.method, keep=keep, preset=None)
        self._share = keep

    def _table(self, _: str) -> None:
        from omnidrop_cli.outputs import Comparison
        from omnidrop_cli.report.compare_table import ComparisonTable
        from omnidrop_cli.report.tables import ReportTable

        if not self._results:
            raise UsageError("nothing was asked yet", "the table tells about the last answer")
        last = self._results[-1]
        table = ComparisonTable(last) if isinstance(last, Comparison) else ReportTable(last)
        Console(self._console).show_always(table)

    def _save(self, name: str) -> None:
        path = Path(os.path.expanduser(name))
        if path.suffix.lower() not in (".md", ".csv", ".jsonl"):
            raise UsageError("/save wants a file whose name ends in .md, .csv or .jsonl", "for example: /save answers.md")
        check_target(path)
        if path.exists() and path.absolute() not in self._saved and not self._may_replace(path):
            return
        rows = [*self._rows()]
        if path.suffix.lower() == ".jsonl":
            text = "".join(f"{dump(row)}\n" for row in rows)
        else:
            from omnidrop_cli.batch.export import writer_for

            text = "".join(writer_for(path)(rows))
        write_text(path, text)
        self._saved.add(path.absolute())
        self.say(f"{len(rows)} answer{'s are' if len(rows) != 1 else ' is'} in {path}")

    def _may_replace(self, path: Path) -> bool:
        """Whether a person agrees to lose a file that this chat did not write. Raises `UsageError` in a script."""
        if not self._person:
            raise UsageError(f"{path} exists", "save to another name, or remove it first")
        self.say(f"{path} exists. Replace it? [y/N]")
        agreed = (from_person("") or "").strip().lower() in ("y", "yes")
        if not agreed:
            self.say("not saved")
        return agreed

    def _rows(self) -> Iterator[dict[str, Any]]:
        from omnidrop_cli.outputs import Comparison
        from omnidrop_cli.report.json import to_dict

        for result in self._results:
            if isinstance(result, Comparison):
                yield to_dict(result.full)
            yield to_dict(result.pruned if isinstance(result, Comparison) else result)

    def _forget(self, _: str) -> None:
        self._conversation.forget()

    def _help(self, _: str) -> None:
        self.say(*(f"{f'{name} {argument}':22} {text}" for name, (argument, text, _) in self._commands.items()))


def _own_seconds(report: Report) -> float:
    """What the answer itself took, without fetching, decoding and loading, which happen once in a chat."""
    stages = report.timings
    return stages.build_s + stages.encode_s + stages.prefill_s + stages.generate_s


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Ctrl-C stops an answer, not the chat: the program's own handling would end the process."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
