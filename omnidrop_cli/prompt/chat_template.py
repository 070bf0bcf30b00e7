"""The chat text of a question, and its tokens.

Renders Qwen2.5-Omni's chat template for a conversation with clips in its first user turn. Words of a user, a system prompt or an
earlier answer are plain text, special tokens in them included. Source: `chat_template.json` of Qwen/Qwen2.5-Omni-7B.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from omnidrop_cli.prompt.spec import SPECIAL_TOKENS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from omnidrop_cli.prompt.spec import PromptSpec, Tokenizer

DEFAULT_SYSTEM = (
    "You are Qwen, a virtual human developed by the Qwen Team, Alibaba Group, capable of perceiving auditory and visual inputs, "
    "as well as generating text and speech."
)
"""Qwen's own system prompt; the model was tuned with it."""

VIDEO_PLACEHOLDER = "<|vision_bos|><|VIDEO|><|vision_eos|>"
AUDIO_PLACEHOLDER = "<|audio_bos|><|AUDIO|><|audio_eos|>"


class PieceKind(Enum):
    MARKER = "marker"
    TEXT = "text"
    MEDIA = "media"


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of chat text. `query_start` is the character at which the user's current question begins, if it is in here."""

    kind: PieceKind
    text: str
    query_start: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TextTokens:
    """Tokens of the text around the clips: `ids` int64 (n,), `is_query` bool (n,). The clips go in front of token `media_at`."""

    ids: NDArray[np.int64]
    is_query: NDArray[np.bool_]
    media_at: int | None


def chat(
    question: str,
    *,
    placeholder: str | None = VIDEO_PLACEHOLDER,
    transcript: str = "",
    system: str | None = None,
    media_first: bool = True,
    history: Sequence[tuple[str, str]] = (),
) -> list[Piece]:
    """The conversation up to the point where the model answers.

    Args:
        placeholder: stands for the clips, one placeholder after the other; None: a chat without media.
        transcript: words right behind the clips that are no part of the question.
        system: None is Qwen's own prompt, "" an empty one.
        media_first: the clips belong to the first user turn; False puts them behind that turn's words.
        history: earlier (question, answer) turns, oldest first.
    """
    pieces = [*_turn("system", [Piece(PieceKind.TEXT, DEFAULT_SYSTEM if system is None else system)])]
    media = [] if placeholder is None else [Piece(PieceKind.MEDIA, placeholder)]
    media += [Piece(PieceKind.TEXT, transcript)] if transcript else []
    for earlier, answer in history:
        words = [Piece(PieceKind.TEXT, earlier)]
        pieces += _turn("user", media + words if media_first else words + media)
        pieces += _turn("assistant", [Piece(PieceKind.TEXT, answer)])
        media = []
    words = [Piece(PieceKind.TEXT, question, query_start=0)]
    pieces += _turn("user", media + words if media_first else words + media)
    pieces += [Piece(PieceKind.MARKER, "<|im_start|>"), Piece(PieceKind.TEXT, "assistant\n")]
    return list(_join(pieces))


def render(pieces: Sequence[Piece]) -> str:
    """The text as the chat template renders it, one placeholder for each clip."""
    return "".join(piece.text for piece in pieces)


def encode(pieces: Sequence[Piece], tokenizer: Tokenizer, spec: PromptSpec) -> TextTokens:
    """Tokens of a chat, the clips left out. Equal to tokenising the rendered text, but for special tokens spelled out in user text."""
    markers = {token: int(getattr(spec, field)) for field, token in SPECIAL_TOKENS.items()}
    ids: list[int] = []
    query = range(0)
    media_at: int | None = None
    for piece in pieces:
        if piece.kind is PieceKind.MEDIA:
            media_at = len(ids)
        elif piece.kind is PieceKind.MARKER:
            ids.append(markers[piece.text])
        else:
            tokens = plain_ids(piece.text, tokenizer, spec)
            if piece.query_start is not None:
                lead = _common_prefix(tokens, plain_ids(piece.text[: piece.query_start], tokenizer, spec))
                query = range(len(ids) + lead, len(ids) + len(tokens))
            ids += tokens
    is_query = np.zeros(len(ids), dtype=np.bool_)
    is_query[query.start : query.stop] = True
    return TextTokens(np.array(ids, dtype=np.int64), is_query, media_at)


def plain_ids(text: str, tokenizer: Tokenizer, spec: PromptSpec) -> list[int]:
    """Tokens of `text` as words only: a special token spelled out in it does not become one.

    The text is cut after the first character of every such spelling and the parts are tokenised one by one. transformers'
    `split_special_tokens` would do the same, but it switches the shared tokenizer and so races with other threads.
    """
    cuts = [match.start() + 1 for match in _spellings(spec).finditer(text)]
    if not cuts:
        return tokenizer.encode(text, add_special_tokens=False) if text else []
    ids: list[int] = []
    for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True):
        ids += tokenizer.encode(text[start:stop], add_special_tokens=False)
    return ids


def _spellings(spec: PromptSpec) -> re.Pattern[str]:
    # A lookahead finds overlapping spellings too; re caches the compiled pattern.
    return re.compile(f"(?={'|'.join(map(re.escape, spec.reserved))})")


def _turn(role: str, content: list[Piece]) -> Iterator[Piece]:
    yield Piece(PieceKind.MARKER, "<|im_start|>")
    yield Piece(PieceKind.TEXT, f"{role}\n")
    yield from content
    yield Piece(PieceKind.MARKER, "<|im_end|>")
    yield Piece(PieceKind.TEXT, "\n")


def _join(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Neighbouring texts become one, because a tokenizer may merge across their border as it does in the rendered text."""
    held: Piece | None = None
    for piece in pieces:
        if held and held.kind is piece.kind is PieceKind.TEXT:
            start = held.query_start if piece.query_start is None else len(held.text) + piece.query_start
            held = Piece(PieceKind.TEXT, held.text + piece.text, start)
            continue
        if held:
            yield held
        held = piece
    if held:
        yield held


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    length = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        length += 1
    return length
