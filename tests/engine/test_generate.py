"""Streamed text: what was sent is never taken back, and stop strings never show."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omnidrop_cli.engine.agreement import agreement
from omnidrop_cli.engine.sampling import TextStream


class ByteTokenizer:
    """One token a byte: every character outside ASCII arrives in pieces."""

    def decode(self, tokens: list[int], skip_special_tokens: bool = True) -> str:
        return bytes(tokens).decode("utf-8", errors="replace")


def stream(text: str, stop: tuple[str, ...] = ()) -> tuple[str, list[str], bool]:
    pieces: list[str] = []
    streamed = TextStream(ByteTokenizer(), stop, pieces.append)
    stopped = any(streamed.push(byte) for byte in text.encode())
    return streamed.finish(), pieces, stopped


@given(st.text(max_size=40))
def test_pieces_make_the_text(text: str) -> None:
    whole, pieces, _ = stream(text)
    assert whole == text
    assert "".join(pieces) == text


@example("a\n", ["\n", "a\n"])
@given(st.text(alphabet="ab\n", max_size=30), st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3))
def test_text_ends_before_the_first_stop_string(text: str, stops: list[str]) -> None:
    whole, pieces, stopped = stream(text, tuple(stops))
    assert "".join(pieces) == whole
    found = any(stop in text for stop in stops)
    assert stopped == found
    if found:
        # Generation ends with the token that completes a stop string, so the shortest prefix holding one decides.
        end = next(n for n in range(len(text) + 1) if any(stop in text[:n] for stop in stops))
        assert whole == text[: min(text[:end].find(s) for s in stops if s in text[:end])]
    else:
        assert whole == text


def test_half_a_character_waits() -> None:
    pieces: list[str] = []
    streamed = TextStream(ByteTokenizer(), (), pieces.append)
    for byte in "é".encode()[:1]:
        streamed.push(byte)
    assert pieces == []
    streamed.push("é".encode()[1])
    assert pieces == ["é"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [((), (), (1.0, None)), ((1, 2), (1, 2), (1.0, None)), ((1, 2, 3, 4), (1, 2, 5, 4), (0.5, 2)), ((1,), (1, 2), (0.5, 1))],
)
def test_agreement(first: tuple[int, ...], second: tuple[int, ...], expected: tuple[float, int | None]) -> None:
    assert agreement(first, second) == expected
