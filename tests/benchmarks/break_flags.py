"""Break every option of a command on purpose, one at a time, and report which tests notice.

    python -m tests.benchmarks.break_flags                         all options of all commands, each against its row of the table of effects
    python -m tests.benchmarks.break_flags ask max-frames system   some options of one command
    python -m tests.benchmarks.break_flags ask keep -- tests/batch against other tests

A broken option is parsed and checked, and what runs gets its default in place of the value, as if the code that should obey it did not read
it. Input: a command, and names of its options. Output: one line each, `caught` with the number of failed tests, or `MISSED`; exit code 1
where one was missed.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import subprocess
import sys
from typing import Any

VARIABLE = "OMNIDROP_TESTS_BREAK"
COMMANDS = ("ask", "batch", "evaluate", "chat", "explain", "inspect", "history", "cache", "models", "bench")


def pytest_configure(config: Any) -> None:
    """As a pytest plugin: replace the value of the option named in the variable by its default."""
    flag = os.environ[VARIABLE]
    from omnidrop_cli.commands._options import Values
    from omnidrop_cli.options import options_of

    whole = Values.record

    def record(self: Any, group: type) -> Any:
        made = whole(self, group)
        fields = {one.field: one.default for one in _own_options(options_of, group) if one.flag == flag}
        return dataclasses.replace(made, **fields) if fields else made

    Values.record = record  # type: ignore[method-assign]


def _own_options(options_of: Any, group: type) -> list[Any]:
    """The options of a dataclass; none of one that holds dataclasses, whose parts are made by calls of their own."""
    from omnidrop_cli.commands._options import _parts

    return [] if _parts(group) else [*options_of(group).values()]


def broken(flag: str, tests: tuple[str, ...]) -> list[str]:
    """Those of `tests` that fail while `flag` is ignored."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.benchmarks.break_flags", "-p", "no:cacheprovider", *tests],
        env={**os.environ, VARIABLE: flag},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout + done.stderr)
    return re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)


def table(command: str) -> str:
    """The test file with a command's table."""
    return f"tests/commands/test_{command}_effects.py"


def main() -> int:
    """Break the options named on the command line, or all that the tables of effects have."""
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    commands, named, others = words[: min(at, 1)] or COMMANDS, words[1:at], tuple(words[at + 1 :])
    missed = total = 0
    for command in commands:
        rows = importlib.import_module(table(command).removesuffix(".py").replace("/", ".")).EFFECTS
        for flag in named or [row.flag for row in rows]:
            failed = broken(flag, others or (f"{table(command)}::test_an_option_has_its_effect[{flag}]",))
            total, missed = total + 1, missed + (not failed)
            print(f"{command:10}{flag:20} {'caught: ' + str(len(failed)) if failed else 'MISSED'}", flush=True)
    print(f"{total - missed} of {total} caught")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
