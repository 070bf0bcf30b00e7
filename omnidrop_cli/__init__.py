"""omnidrop: questions about clips, answered from frames and sound on one GPU.

The command line as a library. Names load on first use, so importing the package costs nothing. `__all__` and the JSON schema of
reports are the stable interface.

>>> import omnidrop_cli as omnidrop
>>> session = omnidrop.load("nano")
>>> report = session.ask("clip.mp4", "what is said?", keep=0.3)
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
    from omnidrop_cli.engine.pruned import pruned as pruned
    from omnidrop_cli.engine.session import Session as Session
    from omnidrop_cli.errors import MediaError as MediaError
    from omnidrop_cli.errors import ModelError as ModelError
    from omnidrop_cli.errors import OmnidropError as OmnidropError
    from omnidrop_cli.errors import OutOfMemory as OutOfMemory
    from omnidrop_cli.errors import UsageError as UsageError
    from omnidrop_cli.events import ProgressCallback as ProgressCallback
    from omnidrop_cli.outputs import Answer as Answer
    from omnidrop_cli.outputs import Comparison as Comparison
    from omnidrop_cli.outputs import Modality as Modality
    from omnidrop_cli.outputs import Report as Report
    from omnidrop_cli.outputs import TokenMap as TokenMap
    from omnidrop_cli.outputs import Trace as Trace
    from omnidrop_cli.prune.base import Method as Method
    from omnidrop_cli.prune.methods import get_method
    from omnidrop_cli.prune.methods import names as methods

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Comparison",
    "GenerationConfig",
    "MediaConfig",
    "MediaError",
    "Method",
    "Modality",
    "ModelConfig",
    "ModelError",
    "OmnidropError",
    "OutOfMemory",
    "ProgressCallback",
    "PruningConfig",
    "Report",
    "Request",
    "Session",
    "TokenMap",
    "Trace",
    "UsageError",
    "__version__",
    "get_method",
    "load",
    "methods",
    "pruned",
]

_MODULES = {
    "config": ("GenerationConfig", "MediaConfig", "ModelConfig", "PruningConfig", "Request"),
    "engine.pruned": ("pruned",),
    "engine.session": ("Session",),
    "errors": ("MediaError", "ModelError", "OmnidropError", "OutOfMemory", "UsageError"),
    "events": ("ProgressCallback",),
    "outputs": ("Answer", "Comparison", "Modality", "Report", "TokenMap", "Trace"),
    "prune.base": ("Method",),
}
_LOCATIONS = {name: (module, name) for module, names in _MODULES.items() for name in names} | {
    "get_method": ("prune.methods", "get_method"),
    "methods": ("prune.methods", "names"),
}


def load(model: str = "auto", *, progress: ProgressCallback | None = None, **options: Any) -> Session:
    """Load a model and return a session that answers questions with it.

    Args:
        model: "nano" (built in), "7b", "3b", "auto", a hub repository, or a directory.
        progress: receives stages and warnings.
        options: fields of `ModelConfig`, for example `quant="none", device="cpu"`.

    Raises:
        UsageError: an option that does not exist, or a value it cannot have.
        ModelError: the model cannot be found or loaded.
    """
    from dataclasses import fields

    from omnidrop_cli.config import ModelConfig
    from omnidrop_cli.engine.session import Session
    from omnidrop_cli.errors import UsageError
    from omnidrop_cli.events import SILENT
    from omnidrop_cli.suggest import did_you_mean

    known = [field.name for field in fields(ModelConfig) if field.name != "name"]
    for name in options:
        if name not in known:
            raise UsageError(f"unknown option '{name}'", did_you_mean(name, known, f"the options: {', '.join(known)}"))
    return Session.load(ModelConfig(model, **options), progress or SILENT)


def __getattr__(name: str) -> Any:
    if name not in _LOCATIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LOCATIONS[name]
    return getattr(import_module(f"omnidrop_cli.{module}"), attribute)


def __dir__() -> list[str]:
    return __all__
