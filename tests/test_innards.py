"""transformers' innards are spelled in model/adapter.py alone, so that a new version breaks one file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import omnidrop_cli

PACKAGE = Path(omnidrop_cli.__file__).parent
TESTS = Path(__file__).parent

INNARDS = {
    *("language_model", "audio_tower", "visual", "embed_tokens", "rotary_emb"),
    *("self_attn", "input_layernorm", "post_attention_layernorm"),
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    *("past_key_values", "position_embeddings", "pooler_output", "last_hidden_state", "_attn_implementation"),
}

EXEMPT = {
    PACKAGE / "model" / "adapter.py",
    # The training recipe of nano runs a forward of its own over the stock modules. It is not in the wheel.
    *(PACKAGE / "nano" / "train").glob("*.py"),
    # OmniSIFT's selector is a network of its own, with weights under these names in its published checkpoint.
    PACKAGE / "prune" / "audio_selector.py",
}

HELD_AGAINST_STOCK = {
    "engine/test_encode.py",  # encoders and processor of transformers
    "model/checkpoints.py",  # files as published
    "model/test_encoder_attention.py",  # attention of the stock modules
    "model/test_sizes.py",  # parameter counts of the stock modules
    "model/test_random_weights.py",  # the stock rotary embedding
    "prompt/qwen.py",  # transformers' own processor
    "prompt/test_layout.py",  # positions of the stock model
    "prune/test_omnisift.py",
    "prune/test_omnisift_checkpoint.py",
    "test_innards.py",
}
"""Tests whose purpose is to compare with transformers' own modules; besides them nano's training and tests/compat."""


def package_files() -> list[Path]:
    return sorted(set(PACKAGE.rglob("*.py")) - EXEMPT)


def files_of_tests() -> list[Path]:
    return sorted(
        path
        for path in TESTS.rglob("*.py")
        if str(path.relative_to(TESTS)) not in HELD_AGAINST_STOCK and path.relative_to(TESTS).parts[0] not in {"nano", "compat"}
    )


def spelled(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every attribute, argument or string that is one of the innards, and of every silent `kwargs.get`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in INNARDS:
            yield node.lineno, node.attr
        elif isinstance(node, ast.keyword) and node.arg in INNARDS:
            yield node.value.lineno, str(node.arg)
        elif isinstance(node, ast.Constant) and node.value in INNARDS:
            yield node.lineno, str(node.value)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "kwargs.get":
            yield node.lineno, "kwargs.get"


@pytest.mark.parametrize("path", [*package_files(), *files_of_tests()], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_only_the_adapter_spells_them(path: Path) -> None:
    found = list(spelled(ast.parse(path.read_text(encoding="utf-8"))))
    assert not found, f"{path}: use model/adapter.py"


def test_the_reader_finds_every_form() -> None:
    code = "a.self_attn\nf(past_key_values=1)\ngetattr(m, 'q_proj')\nkwargs.get('cache')\nself_attn = 1\n"
    assert sorted(spelled(ast.parse(code))) == [(1, "self_attn"), (2, "past_key_values"), (3, "q_proj"), (4, "kwargs.get")]
