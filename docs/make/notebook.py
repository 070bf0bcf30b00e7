"""Run the example notebook, so that its stored outputs are those of a real run."""

from __future__ import annotations

from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "pruning.ipynb"


def run(path: Path = EXAMPLE, *, write: bool = True) -> None:
    """Execute every cell in a fresh kernel.

    Args:
        path: the notebook.
        write: store the outputs in it.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(path.parent)}}, record_timing=False).execute()
    for cell in notebook.cells:  # warnings on stderr name paths of this machine
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    if write:
        nbformat.write(notebook, path)
