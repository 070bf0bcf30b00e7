"""Break every option of `ask` on purpose, one at a time, and report which tests notice.

    python -m tests.benchmarks.break_flags                       all options, each against its row of the table of effects
    python -m tests.benchmarks.break_flags max-frames system     some of them
    python -m tests.benchmarks.break_flags keep -- tests/batch   against other tests

A broken option is parsed and checked, and what runs gets its default in place of the value, as if the code that should obey it did not read
it. Input: names of options. Output: one line each, `caught` with the number of failed tests, or `MISSED`; exit code 1 where one was missed.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from typing import Any

VARIABLE = "OMNIDROP_TESTS_BREAK"
TABLE = "tests/commands/test_flag_effects.py"


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
    return re.findall(r"^FAILED (\S+)", done.stdout, re.MULTILINE)


def main() -> int:
    """Break the options named on the command line, or all that the table of effects has."""
    from tests.commands.test_flag_effects import EFFECTS

    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    flags, others = words[:at] or [row.flag for row in EFFECTS], tuple(words[at + 1 :])
    missed = 0
    for flag in flags:
        failed = broken(flag, others or (f"{TABLE}::test_an_option_has_its_effect[{flag}]",))
        missed += not failed
        print(f"{flag:20} {'caught: ' + str(len(failed)) if failed else 'MISSED'}", flush=True)
    print(f"{len(flags) - missed} of {len(flags)} caught")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
