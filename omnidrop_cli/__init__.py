"""omnidrop: questions about clips, answered from frames and sound on one GPU. Public names are loaded on first use."""

from __future__ import annotations

__version__ = "0.1.0"
