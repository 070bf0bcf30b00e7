"""The command as a user types it: files, exit codes, stdout, the paper's table."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from statistics import median

import pytest
import typer
from typer.testing import CliRunner, Result

from omnidrop_cli.cli import build
from omnidrop_cli.commands._app import grouped
from omnidrop_cli.commands.evaluate import evaluate
from omnidrop_cli.engine.session import Session
from omnidrop_cli.errors import DatasetError, OmnidropError, UsageError
from omnidrop_cli.evaluate import benchmarks, dataset_download, method_specs, paper, paper_tables
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.prune.methods import get_method, names
from tests.clips import Clips
from tests.evaluate import datasets


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Session, "load", classmethod(lambda cls, choice=None, progress=None: cls(tiny_thinker())))
    monkeypatch.chdir(tmp_path)


def call(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(grouped(evaluate))
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_markdown_and_exit_code_3_with_broken_clips(tmp_path: Path, clips: Clips) -> None:
    root = datasets.videomme(tmp_path / "data", clips)
    result = call("Video-MME", "--data", root, "-m", "none,random@0.5", "--max-frames", 4, "--max-new-tokens", 2)
    assert result.exit_code == 3
    assert result.stdout.startswith("# Video-MME (without subtitles)\n")
    assert "## By duration" in result.stdout
    assert "| none → random@0.5 | 4 |" in result.stdout
    assert "missing_04.mp4" in result.stderr
    assert len((tmp_path / "videomme.jsonl").read_text().splitlines()) == 14


def test_json_and_no_model_when_nothing_is_left(tmp_path: Path, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("dailyomni", "--data", datasets.dailyomni(tmp_path / "data", clips), "-o", "r.jsonl", "--json", "--max-frames", 4)
    first = call(*arguments)
    assert first.exit_code == 0, first.output
    summary = json.loads(first.stdout)
    assert summary["schema"] == 2
    assert [method["method"] for method in summary["methods"]] == ["none", "omnidrop@0.3"]
    assert summary["methods"][0]["retention_after"] == 1.0
    assert {group["value"] for group in summary["groups"]} == {"Event Sequence", "Inference", "30s", "Howto & Style"}

    def no_model(*_: object) -> None:
        raise OmnidropError("the model was loaded")

    monkeypatch.setattr(Session, "load", no_model)
    assert call(*arguments).stdout == first.stdout
    assert isinstance(call(*arguments, "-m", "none,random").exception, OmnidropError)


def test_formats_flips_and_plot_of_a_finished_run(tmp_path: Path, clips: Clips) -> None:
    root = datasets.avut(tmp_path / "data", clips)
    arguments = ("avut", "--data", root, "-m", "none,random@0.5")
    first = call(*arguments, "--plot", "plot.svg")
    assert first.exit_code == 0, first.output
    assert first.stdout.startswith("# AVUT")
    assert Path("plot.svg").read_text().startswith("<?xml")
    assert call(*arguments, "--format", "csv").stdout.startswith("method,n,correct,accuracy,")
    assert r"\toprule" in call(*arguments, "--format", "latex").stdout
    assert json.loads(call(*arguments, "--format", "json").stdout) == json.loads(call(*arguments, "--json").stdout)
    fitted = call(*arguments, "--format", "table").stdout
    assert "Methods" in fitted
    assert "| ---" not in fitted
    flips = json.loads(call(*arguments, "--flips", "none,random@0.5", "--json").stdout)
    rows = [json.loads(line) for line in Path("avut.jsonl").read_text().splitlines()]
    right = {name: {row["question"] for row in rows if row["method"] == name and row["correct"]} for name in ("none", "random@0.5")}
    assert {flip["question"] for flip in flips["flips"]} == right["none"] ^ right["random@0.5"]


def test_settings_files_leave_the_protocol_alone(tmp_path: Path, clips: Clips) -> None:
    (tmp_path / "omnidrop.toml").write_text("fps = 1.0\nmax-frames = 6\nmax-new-tokens = 1\nkeep = 0.9\n")
    root = datasets.dailyomni(tmp_path / "data", clips)
    arguments = ["evaluate", "dailyomni", "--data", str(root), "-m", "none", "--json"]
    result = CliRunner().invoke(build(), arguments)
    assert result.exit_code == 0, result.output
    options = json.loads(result.stdout)["media_options"]
    assert (options["fps"], options["max_frames"]) == (2.0, 768)


def test_exit_code_1_when_nothing_could_be_answered(tmp_path: Path, clips: Clips) -> None:
    root = datasets.worldsense(tmp_path / "data", clips)
    (root / "videos" / "vidAAAA1.mp4").unlink()
    assert call("worldsense", "--data", root, "-m", "none").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no benchmark named"),
        (("videomee",), "unknown benchmark"),
        (("avut", "-m", "none,none"), "given twice"),
        (("avut", "-m", "none,omnidorp@0.3"), "unknown method"),
        (("avut", "-m", "omnidrop@paper-25"), "no preset"),
        (("avut", "--fetch", "--data", "."), "--fetch and --data"),
        (("--paper", "table9"), "unknown table"),
        (("avut", "--device", "cpu", "--devices", "cpu,cpu"), "--device and --devices"),
        (("avut", "--devices", "tpu"), "not a device"),
        (("avut", "--plot", "plot.bmp"), "cannot draw"),
        (("avut", "--plot-by", "task"), "nothing is drawn"),
        (("avut", "--json", "--format", "csv"), "two formats"),
        (("avut", "--flips", "none"), "two methods are needed"),
        (("avut", "--flips", "a,b", "--format", "csv"), "--flips cannot be printed as csv"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], message: str) -> None:
    error = call(*arguments).exception
    assert isinstance(error, UsageError)
    assert message in error.message


def test_data_that_is_not_there() -> None:
    error = call("avut").exception
    assert isinstance(error, DatasetError)
    assert "`data`" in str(error.hint)
    assert "`fetch`" in str(error.hint)


def test_limit_spreads_over_the_set(tmp_path: Path, clips: Clips) -> None:
    benchmark = benchmarks.find("videomme")
    root = datasets.videomme(tmp_path / "data", clips)
    assert [question.id for question in benchmarks.questions(benchmark, root, 3)] == ["001-1", "002-1", "003-1"]
    assert len(benchmarks.questions(benchmark, root, 99)) == 7


def test_paper_table_before_and_after_an_evaluation(tmp_path: Path, clips: Clips) -> None:
    bare = call("--paper", "omnidrop-table2").stdout
    line = "omnidrop evaluate avut --data AVUT_DIR --model 7b --quant none --attn flash_attention_2 --timing published --methods none,"
    assert line in bare
    assert "| OmniDrop, 20 % | 66.44 / - | 46.50 / - | 63.67 / - | 1.04 / - | 25.65 / - |" in bare
    assert "| DASH, 20 % | - / - | - / - | 60.09 / - | - / - | - / - |" in bare
    root = datasets.avut(tmp_path / "data", clips)
    arguments = ["avut", "--data", root, "-m", "none,omnidrop@paper-20", "-o", "omnidrop-table2-avut.jsonl", "--max-frames", 4]
    assert call(*arguments).exit_code == 0
    uncounted = call("--paper", "omnidrop-table2").stdout
    assert "6 results were made with --timing true and are not in this table" in uncounted
    assert "63.67 / -" in uncounted
    result = call(*arguments, "--timing", "published")
    assert result.exit_code == 0, result.output
    assert "published timing" in result.stdout
    after = call("--paper", "omnidrop-table2").stdout
    (row,) = [line for line in after.splitlines() if line.startswith("| OmniDrop, 20 %")]
    assert row.startswith("| OmniDrop, 20 % | 66.44 / - | 46.50 / - | 63.67 / ")
    rows = [json.loads(line) for line in Path("omnidrop-table2-avut.jsonl").read_text().splitlines()]
    rows = [r for r in rows if r["settings"] == {"timing": "published"}]
    mine = [r["measured"] for r in rows if r["method"] == "omnidrop@paper-20"]
    with_encoders = median(m["prefill_s"] + m["encode_s"] for m in mine if m["encode_s"])
    right = sum(r["correct"] for r in rows if r["method"] == "omnidrop@paper-20")
    assert f"63.67 / {100 * right / 3:.2f} [" in row
    assert f"1.04 / {with_encoders:.2f} " in row


def test_paper_commands_leave_out_methods_that_are_not_here() -> None:
    table = paper_tables.OMNIDROP_TABLE_2
    assert "dash" not in "".join(paper.commands(table, ["none", "omnidrop"]))
    assert "dash@paper" in paper.commands(table, ["none", "omnidrop", "dash"])[0]
    assert "left out of the commands: dash, omnizip" in paper.markdown(table, ["none", "omnidrop"], lambda path: {})


def test_every_row_of_a_published_table_names_a_method_that_exists() -> None:
    for table in paper_tables.TABLES.values():
        methods = method_specs.parse([row.method for row in table.rows])
        for method in methods:
            get_method(method.choice)
        assert len(paper.commands(table, names())[0].split("--methods ")[1].split(" ")[0].split(",")) == len(table.rows)


def test_the_table_of_seats_has_its_own_settings_and_costs() -> None:
    page = call("--paper", "seats-table1").stdout
    (dailyomni,) = [line for line in page.splitlines() if line.startswith("omnidrop evaluate dailyomni")]
    assert "--timing published --max-frames 128 --max-new-tokens 32 --methods none,fastv@0.35," in dailyomni
    assert "--quant none --attn flash_attention_2 " in dailyomni
    assert "| SEATS, R25 | 45.30 / - | 60.90 / - | 66.50 / - | 26.50 / - |" in page
    assert "omnidrop-table2" in str(call("--paper", "omnidrop-table").exception.hint)  # type: ignore[union-attr]


def test_fetch_unpacks_once_and_fails_clearly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    benchmark = benchmarks.find("dailyomni")
    asked: list[tuple[str, list[str]]] = []

    def snapshot(repo: str, repo_type: str, local_dir: Path, allow_patterns: list[str]) -> None:
        asked.append((repo, allow_patterns))
        local_dir.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clip.txt").write_text("clip")
        with tarfile.open(local_dir / "Videos.tar", "w") as tar:
            tar.add(tmp_path / "clip.txt", "Videos/a/a_video.mp4")
        with zipfile.ZipFile(local_dir / "more.zip", "w") as zipped:
            zipped.writestr("data/b.mp4", "clip")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    root = dataset_download.fetch(benchmark)
    assert asked == [("liarliar/Daily-Omni", ["qa.json", "Videos.tar"])]
    assert (root / "Videos" / "a" / "a_video.mp4").read_text() == (root / "data" / "b.mp4").read_text() == "clip"
    (root / "Videos" / "a" / "a_video.mp4").unlink()
    dataset_download.fetch(benchmark)
    assert not (root / "Videos" / "a" / "a_video.mp4").exists()

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("Name or service not known\nand a long trace")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(DatasetError, match=r"cannot be fetched: Name or service not known$") as caught:
        dataset_download.fetch(benchmark)
    assert "hf download --repo-type dataset liarliar/Daily-Omni" in str(caught.value.hint)
    (root / "bad.zip").write_text("no archive")
    with pytest.raises(DatasetError, match="cannot be unpacked"):
        dataset_download.unpack(root / "bad.zip", root)


def test_archives_cannot_write_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.add(tmp_path / "x", "../outside.txt")
    (tmp_path / "in").mkdir()
    with pytest.raises(DatasetError):
        dataset_download.unpack(tmp_path / "evil.tar", tmp_path / "in")
    assert not (tmp_path / "outside.txt").exists()


def test_the_command_imports_without_torch() -> None:
    code = "import sys, omnidrop_cli.commands.evaluate; print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "set()"
