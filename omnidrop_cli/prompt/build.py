"""Clips + question → Prompt.

Runs the steps of this package in order and reports the mistakes a user can make in a question. A track that the clip lacks is not in the
prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from omnidrop_cli.errors import PromptError
from omnidrop_cli.options import check_words
from omnidrop_cli.outputs import EncoderInput, Prompt
from omnidrop_cli.prompt.chat_template import AUDIO_PLACEHOLDER, VIDEO_PLACEHOLDER, chat, encode, render
from omnidrop_cli.prompt.counts import count_audio_tokens, count_mel_frames
from omnidrop_cli.prompt.layout import Layout, MediaBlock, assemble, lay_out
from omnidrop_cli.prompt.mel import log_mel
from omnidrop_cli.prompt.patches import grid_of, resize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from omnidrop_cli.outputs import Clip, Subtitles
    from omnidrop_cli.prompt.spec import PromptSpec, Tokenizer


def build(
    clips: Sequence[Clip],
    question: str,
    tokenizer: Tokenizer,
    spec: PromptSpec,
    *,
    system: str | None = None,
    media_first: bool = True,
    history: Sequence[tuple[str, str]] = (),
) -> Prompt:
    """The model's input for one question.

    Sound under 30 ms makes no token and is left out.

    Args:
        clips: what the question is about, in this order.
        question: the user's words.
        system: system prompt; None is Qwen's own.
        media_first: False puts the clips behind the words (Daily-Omni's official script).
        history: earlier (question, answer) turns of the same chat.

    Raises:
        UsageError: a question or system prompt with bytes that are not text.
        PromptError: an empty question, a clip without a single token, or text that fills the model's context alone.
    """
    if not question.strip():
        raise PromptError("the question is empty", 'ask something, such as "What is said?"')
    check_words(question, "the question")
    check_words(system or "", "the system prompt")
    media = tuple(_encoder_input(clip, spec) for clip in clips)
    placeholders = [AUDIO_PLACEHOLDER if one.grid_thw is None else VIDEO_PLACEHOLDER for one in media]
    pieces = chat(
        question,
        placeholder="".join(placeholders),
        transcript=transcript([clip.subtitles for clip in clips]),
        system=system,
        media_first=media_first,
        history=history,
    )
    text = encode(pieces, tokenizer, spec)
    layout = assemble(text.ids, text.is_query, text.media_at, [_block(one, spec) for one in media])
    return Prompt(
        input_ids=layout.input_ids,
        positions=layout.positions,
        next_position=layout.next_position,
        token_map=layout.tokens,
        media=media,
        text=render(pieces),
        warnings=_check_length(layout, spec),
    )


def transcript(subtitles: Sequence[Subtitles | None]) -> str:
    """The words behind the clips: each one's subtitles, a line for each time at which they change, then an empty line."""
    blocks = []
    for number, one in enumerate(subtitles, start=1):
        if one is not None and one.lines:
            head = "Subtitles:" if len(subtitles) == 1 else f"Subtitles of clip {number}:"
            blocks.append("\n".join((head, *(f"[{_clock(second)}] {' '.join(words.split())}" for second, words in one.lines))))
    return "".join(f"{block}\n\n" for block in blocks)


def _clock(second: float) -> str:
    minutes, seconds = divmod(int(second), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _encoder_input(clip: Clip, spec: PromptSpec) -> EncoderInput:
    """What the encoders read of a clip. Raises `PromptError` where that makes no token."""
    frames = None if clip.frames is None else _whole_cells(clip.frames, spec)
    grid = None if frames is None else grid_of(len(frames), frames.shape[-2], frames.shape[-1], spec)
    seconds_per_grid = None if grid is None or not clip.fps else spec.seconds_per_grid or spec.temporal_patch_size / clip.fps
    waveform = clip.waveform
    heard = waveform is not None and count_audio_tokens(count_mel_frames(len(waveform))) > 0
    if grid is None and not heard:
        raise _nothing_to_see_or_hear(clip)
    return EncoderInput(frames, grid, seconds_per_grid, log_mel(waveform, spec.n_mels) if waveform is not None and heard else None)


def _block(media: EncoderInput, spec: PromptSpec) -> MediaBlock:
    """The tokens of a clip."""
    audio = 0 if media.mel is None else count_audio_tokens(media.mel.shape[1])
    return lay_out(spec, grid_thw=media.grid_thw, seconds_per_grid=media.seconds_per_grid, audio_tokens=audio)


def _whole_cells(frames: NDArray[np.uint8], spec: PromptSpec) -> NDArray[np.uint8]:
    """The frames, shrunk or stretched to whole tokens if they are not yet; decoding already delivers them so."""
    side = spec.token_side_px
    height, width = (max(side, round(size / side) * side) for size in frames.shape[-2:])
    if (height, width) == frames.shape[-2:]:
        return frames
    import torch

    resized: NDArray[np.uint8] = resize(torch.from_numpy(frames), height, width).numpy()
    return resized


def _nothing_to_see_or_hear(clip: Clip) -> PromptError:
    sound = "no sound" if clip.waveform is None else "under 30 ms of sound"
    return PromptError(
        f"{clip.source.path}: nothing to look at or listen to (no picture, {sound})",
        "check `start_s` and `end_s`, and whether `use_video=False` or `use_audio=False` leaves anything",
    )


def _check_length(layout: Layout, spec: PromptSpec) -> tuple[str, ...]:
    """Refuse text that alone fills the context; warn where the clips lead past what the model was trained on.

    The published evaluations run clips of an hour that way, so a long clip is the user's choice, but not a silent one.
    """
    counts = layout.tokens.counts()
    if counts.text >= spec.max_positions:
        raise PromptError(
            f"the prompt has {counts.text} tokens of text; the model reads at most {spec.max_positions}",
            "shorten the question, or the part of the clip (`start_s`, `end_s`) whose subtitles are read",
        )
    if counts.total <= spec.max_positions and layout.next_position <= spec.max_positions:
        return ()
    seconds = spec.max_positions // spec.position_id_per_seconds
    # Positions are moments: fewer frames leave the last one where it is.
    frames = layout.next_position <= spec.max_positions and counts.video > counts.audio
    shorten = "`start_s` and `end_s`, `max_frames` or a lower `fps` shorten it" if frames else "`start_s` and `end_s` shorten it"
    return (
        f"the prompt has {counts.total} tokens and ends at position {layout.next_position}; the model was trained on {spec.max_positions} "
        f"({seconds // 60} min of clip): {shorten}",
    )
