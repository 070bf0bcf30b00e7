"""Workers in other processes and on a local Ray: every row once, also when one is killed."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omnidrop_cli.batch.answers_file import AnswersFile, Row, read
from omnidrop_cli.batch.batch_run import BatchPlan, BatchProgress, Outcome, Runner
from omnidrop_cli.batch.inputs import gather
from omnidrop_cli.batch.interrupt import Interrupt
from omnidrop_cli.batch.pool import Processes, devices
from omnidrop_cli.batch.ray_pool import Cluster
from omnidrop_cli.config import GenerationConfig, ModelConfig, Request
from omnidrop_cli.errors import ModelError, UsageError
from omnidrop_cli.model.names import resolve

ASKED = Outcome(total=8, answered=6, failed=2, earlier=0)


@pytest.fixture
def template(checkpoint: Path) -> Request:
    return Request("", "", model=ModelConfig(str(checkpoint)), generation=GenerationConfig(max_new_tokens=3))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


@pytest.fixture
def four_clips(folder: Path) -> Path:
    shutil.copy(folder / "c.wav", folder / "d.wav")
    return folder


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers import the package from this tree wherever they start."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


class OnFirstRow(BatchProgress):
    def __init__(self, act: Callable[[], None]) -> None:
        self.act, self.rows = act, 0

    def row(self, row: Row) -> None:
        self.rows += 1
        if self.rows == 1:
            self.act()


def run(pool: object, size: int, template: Request, folder: Path, output: Path, progress: BatchProgress | None = None) -> Outcome:
    with AnswersFile(output) as answers, Interrupt() as stop:
        plan = BatchPlan(gather([str(folder)], ["who?", "what?"], template), resolve(template.model), answers.known)
        return Runner(plan, answers, progress or BatchProgress(), stop).run_in_pool(pool, size)  # type: ignore[arg-type]


def each_once(output: Path) -> bool:
    counts = Counter(row["batch"]["key"] for row in read(output))
    return len(counts) == 8 == len(output.read_text().splitlines())


@pytest.mark.parametrize(
    ("text", "named"), [("0,1", ["cuda:0", "cuda:1"]), ("cpu, cpu", ["cpu", "cpu"]), ("cuda:3", ["cuda:3"]), ("2", ["cuda:2"])]
)
def test_devices_by_name(text: str, named: list[str]) -> None:
    assert devices(text) == named


@pytest.mark.parametrize("text", ["", "gpu", "0;1", "cuda:", "cuda:x", "-1"])
def test_odd_devices(text: str) -> None:
    with pytest.raises(UsageError, match="is not a device"):
        devices(text)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_process_is_replaced(template: Request, four_clips: Path, output: Path) -> None:
    with Processes(template.model, ["cpu", "cpu"]) as pool:

        def kill() -> None:
            os.kill(next(iter(pool._members.values())).process.pid or 0, signal.SIGKILL)

        assert run(pool, 2, template, four_clips, output, OnFirstRow(kill)) == ASKED
        left = [member.process for member in pool._members.values()]
    assert each_once(output)
    assert not any(process.is_alive() for process in left)


@pytest.mark.slow
def test_a_model_that_cannot_load_ends_the_run(template: Request, four_clips: Path, output: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(template.model.name, broken)
    (broken / "model.safetensors").write_bytes(b"not weights")
    choice = ModelConfig(str(broken))
    with Processes(choice, ["cpu"]) as pool, pytest.raises(ModelError, match="cannot be read"):
        run(pool, 1, Request("", "", model=choice), four_clips, output)


@pytest.fixture
def ray_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray's sockets need short paths, and its usage report no network."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    return


# One cluster only: a second Ray in one process waits in vain for its own server's port.
@pytest.mark.slow
def test_ray_answers_all_also_when_an_actor_dies(ray_home: None, template: Request, four_clips: Path, output: Path) -> None:
    import ray

    with Cluster(template.model, "local", 2) as pool:
        progress = OnFirstRow(lambda: ray.kill(next(iter(pool._actors.values()))))
        assert run(pool, pool.size, template, four_clips, output, progress) == ASKED
    assert each_once(output)


@pytest.mark.slow
def test_no_cluster_is_a_clear_error(ray_home: None, template: Request) -> None:
    with pytest.raises(UsageError, match="no Ray cluster"):
        Cluster(template.model, "auto")


def test_ray_missing_is_a_clear_error(template: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="not installed"):
        Cluster(template.model, "local")
