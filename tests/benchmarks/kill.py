"""Kills commands at random moments and looks at what is left: `python -m tests.benchmarks.kill --kills 50`.

Each command runs in a session of its own, is killed (SIGKILL, the leader only, as the system's out-of-memory killer does), and is run again
until it ends by itself. Afterwards every row must be there once, no process of it may live, and nothing unfinished may lie about.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.clips import SENTENCE, Track, padded_mp4, write
from tests.media.http_server import File, Server
from tests.signals import speech

ORPHAN_GRACE_S = 5.0
_SAID = Path(tempfile.gettempdir()) / f"omnidrop-kill-{os.getpid()}.txt"
"""What the last command wrote to stderr."""


@dataclass(frozen=True)
class Case:
    """A command, what must hold once it has ended by itself, and the seconds within which it is killed."""

    name: str
    words: list[str]
    check: Callable[[], None]
    latest_s: float
    clean: Callable[[], None] = lambda: None
    done: Callable[[], bool] = lambda: False
    """Whether a killed command had done its work already, and would refuse to do it once more."""


@dataclass
class Tally:
    """What happened to one command."""

    kills: int = 0
    too_late: int = 0
    orphans: int = 0
    faults: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="names of commands, with commas between")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="omnidrop-kill-") as folder, _server() as server:
        found = [case for case in cases(Path(folder), server) if not options.only or case.name in options.only.split(",")]
        tallies = run(found, options.kills, random.Random(options.seed))
    _SAID.unlink(missing_ok=True)
    print("| command | kills | ended before its kill | orphans | faults |\n|---|---|---|---|---|")
    for name, tally in tallies.items():
        print(f"| {name} | {tally.kills} | {tally.too_late} | {tally.orphans} | {tally.faults} |")
    if any(tally.orphans or tally.faults for tally in tallies.values()):
        raise SystemExit(1)


def run(found: list[Case], kills: int, seed: random.Random) -> dict[str, Tally]:
    """Kill the commands in turn until all kills are spent; a command that ends by itself is checked and starts over."""
    tallies = {case.name: Tally() for case in found}
    spent = 0
    while spent < kills:
        for case in found:
            spent += _kill_once(case, tallies[case.name], seed)
    for case in found:
        _finish(case, tallies[case.name])
    return tallies


def _kill_once(case: Case, tally: Tally, seed: random.Random) -> int:
    process = _start(case.words)
    try:
        process.wait(seed.uniform(0.2, case.latest_s))
        tally.too_late += 1
        _ended(case, tally, process)
        return 1
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        tally.kills += 1
        tally.orphans += _orphans(process.pid)
        if case.done():
            _judge(case, tally)
        return 1


def _finish(case: Case, tally: Tally) -> None:
    process = _start(case.words)
    process.wait(600)
    _ended(case, tally, process)


def _ended(case: Case, tally: Tally, process: subprocess.Popen[bytes]) -> None:
    """The command ended by itself: it succeeded, and what it leaves is whole."""
    if process.returncode:
        tally.faults += 1
        print(f"{case.name}: exit code {process.returncode}\n{_SAID.read_text()[-2000:]}", file=sys.stderr)
    else:
        _judge(case, tally)
    tally.orphans += _orphans(process.pid)


def _judge(case: Case, tally: Tally) -> None:
    try:
        case.check()
    except (AssertionError, OSError, ValueError) as fault:
        tally.faults += 1
        print(f"{case.name}: {type(fault).__name__}: {fault}", file=sys.stderr)
    case.clean()


def _start(words: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "omnidrop_cli", *words]
    with _SAID.open("wb") as said:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True)


def _orphans(session: int) -> int:
    """Processes of a session that live on after its leader; those are ended here."""
    deadline = time.monotonic() + ORPHAN_GRACE_S
    while (left := _members(session)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return len(left)


def _members(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != session:
            try:
                state, _, _, of = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:4]
            except OSError:
                continue
            if int(of) == session and state != "Z":
                found.append(int(entry.name))
    return found


# ---------------------------------------------------------------- the commands


def cases(folder: Path, server: Server) -> Iterator[Case]:
    """ask, batch here and on devices, fetch, quantize and evaluate, in folders of their own."""
    for kind, variable in (("cache", "XDG_CACHE_HOME"), ("data", "XDG_DATA_HOME")):
        os.environ[variable] = str(folder / kind)
    os.environ["OMP_NUM_THREADS"] = "1"
    clips = folder / "clips"
    clips.mkdir()
    for number in range(12):
        sound = speech(f"{SENTENCE} {number}")
        write(clips / f"{number}.m4a", sound=Track(sound))
    few = ["--model", "nano", "--max-new-tokens", "4", "--no-feature-cache"]
    answer = folder / "answer.json"
    yield Case("ask", ["ask", "demo", "who?", "--json", "-o", str(answer), *few], lambda: _one_object(answer), 6.0, answer.unlink)
    for name, more in (("batch", []), ("batch --devices", ["--devices", "cpu,cpu"])):
        out = folder / f"{name.split()[-1].strip('-')}.jsonl"
        words = ["batch", str(clips), "-q", "who?", "-q", "what?", "-o", str(out), *few, *more]
        yield Case(name, words, lambda out=out: _rows_once(out, 24), 14.0, out.unlink)
    url = server.url("/clip.mp4")
    downloads = folder / "cache" / "omnidrop" / "media"
    fetching = ["inspect", url, "--max-frames", "4"]
    yield Case("fetch", fetching, lambda: _whole_download(downloads, server), 4.0, lambda: shutil.rmtree(downloads))
    copies = folder / "data" / "omnidrop" / "models"
    words = ["models", "quantize", "nano", "--quant", "int8"]
    copy = copies / "nano-int8"
    yield Case("quantize", words, lambda: _whole_copy(copies), 12.0, lambda: shutil.rmtree(copies), copy.exists)
    rows = folder / "rows.jsonl"
    words = ["evaluate", "nano", "--limit", "6", "-m", "none,omnidrop@0.3", "-o", str(rows), "--model", "nano"]
    yield Case("evaluate", words, lambda: _rows_once(rows, 12), 16.0, rows.unlink)


def _one_object(path: Path) -> None:
    assert json.loads(path.read_text())["kind"] == "report"
    _nothing_begun(path.parent)


def _rows_once(path: Path, count: int) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    keys = Counter(row["batch"]["key"] if "batch" in row else row["key"] for row in rows)
    assert set(keys.values()) == {1}, f"rows more than once in {path.name}"
    assert len(keys) == count, f"{len(keys)} rows of {count} in {path.name}"
    assert not any(row.get("error") for row in rows), f"errors in {path.name}"


def _whole_download(folder: Path, server: Server) -> None:
    [file] = [path for path in folder.iterdir() if path.suffix != ".json"]
    assert file.read_bytes() == server.files["/clip.mp4"].content, "the download is not the file"
    _nothing_begun(folder)


def _whole_copy(folder: Path) -> None:
    from omnidrop_cli.model.checkpoint import open_checkpoint, thinker_slices

    assert [path.name for path in folder.iterdir()] == ["nano-int8"], sorted(path.name for path in folder.iterdir())
    assert thinker_slices(open_checkpoint(folder / "nano-int8"))


def _nothing_begun(folder: Path) -> None:
    assert not [*folder.glob(".part-*")], "unfinished files are left"


@contextmanager
def _server() -> Iterator[Server]:
    server = Server()
    with tempfile.TemporaryDirectory() as folder:
        clip = write(Path(folder) / "clip.mp4", sound=Track(speech(SENTENCE)))
        server.files["/clip.mp4"] = File("video/mp4", padded_mp4(clip, 0, 2_000_000))
    server.seconds_per_megabyte = 1.0
    yield server
    server.close()


if __name__ == "__main__":
    main()
