"""Loads a checkpoint's tokenizer, by transformers' own classes only: no code and no pickle of the checkpoint is ever read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omnidrop_cli.errors import ModelError, summarize
from omnidrop_cli.model.quiet import quiet
from omnidrop_cli.model.stored_config import read_json, refuse_code

CLASSES = ("Qwen2Tokenizer", "Qwen2TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
"""Values of `tokenizer_class` that are loaded: those of Qwen2.5-Omni, its fine-tunes and the built-in model. Other classes may read
other kinds of files."""

_HINT = "copy tokenizer.json and tokenizer_config.json of the model there"


def load_tokenizer(directory: Path) -> Any:
    """Load the tokenizer in `directory`, without network and without asking anything on standard input.

    Raises:
        ModelError: There is none, it is damaged, or it asks for code of the checkpoint.
    """
    stored = read_json(directory / "tokenizer_config.json") or {}
    refuse_code(stored, directory / "tokenizer_config.json")
    name = stored.get("tokenizer_class")
    if name is not None and name not in CLASSES:
        raise ModelError(f"the tokenizer in {directory} is a {str(name)[:60]!r}, not one of Qwen2.5-Omni", _HINT)
    from transformers import AutoTokenizer

    try:
        with quiet():
            return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise ModelError(f"{directory} holds no usable tokenizer: {summarize(error)}", _HINT) from error
