"""omnidrop: questions about clips, answered from frames and sound on one GPU.

Everything the command line does, without the terminal. Names load on first use, so importing the package costs nothing.

>>> import omnidrop_cli as omnidrop
>>> session = omnidrop.Session.load(omnidrop.ModelConfig("nano"))
>>> report = session.run(omnidrop.Request("clip.mp4", "what is said?"))
>>> report.answer.text, report.trace.retention_after
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omnidrop_cli.config import GenerationConfig as GenerationConfig
    from omnidrop_cli.config import MediaConfig as MediaConfig
    from omnidrop_cli.config import ModelConfig as ModelConfig
    from omnidrop_cli.config import PruningConfig as PruningConfig
    from omnidrop_cli.config import Request as Request
    from omnidrop_cli.engine.pipeline import run as run
    from omnidrop_cli.engine.pipeline import run_comparison as run_comparison
    from omnidrop_cli.engine.pruned import pruned as pruned
    from omnidrop_cli.engine.session import Session as Session
    from omnidrop_cli.errors import OmnidropError as OmnidropError
    from omnidrop_cli.events import Observer as Observer
    from omnidrop_cli.prune.base import Method as Method
    from omnidrop_cli.prune.generate_hook import pruning as pruning
    from omnidrop_cli.prune.methods import create as create

__version__ = "0.1.0"

_HOME_OF = {
    "run": "engine.pipeline",
    "run_comparison": "engine.pipeline",
    "Session": "engine.session",
    "OmnidropError": "errors",
    "Observer": "events",
    "Method": "prune.base",
    "pruned": "engine.pruned",
    "pruning": "prune.generate_hook",
    "create": "prune.methods",
    "GenerationConfig": "config",
    "Request": "config",
    "MediaConfig": "config",
    "PruningConfig": "config",
    "ModelConfig": "config",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"omnidrop_cli.{_HOME_OF[name]}"), name)
