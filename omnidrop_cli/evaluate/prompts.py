"""The published wording of each benchmark's questions, with sources. Frozen: a changed character is another benchmark."""

from __future__ import annotations

from omnidrop_cli.evaluate.items import Question

SELECT_SYSTEM = (
    "You are Qwen, a virtual human developed by the Qwen Team, Alibaba Group, capable of perceiving auditory and visual inputs, "
    "as well as generating text and speech. Please analyze the video carefully and select the most appropriate answer from the "
    "given options."
)
"""System prompt of WorldSense and AVUT in KD-TAO/OmniZip (eval/eval_worldsense.py, eval/eval_avut.py); SEATS uses the same."""


def videomme(question: Question) -> str:
    """Video-MME's own prompt, without subtitles (README of the benchmark, "Evaluation Pipeline")."""
    options = "\n".join(question.options)
    return (
        "Select the best answer to the following multiple-choice question based on the video. Respond with only the letter "
        f"(A, B, C, or D) of the correct option.\n{question.text}\n{options}\nThe best answer is:"
    )


def letter_directly(question: Question) -> str:
    """WorldSense and AVUT as OmniZip and SEATS ask them (eval/eval_worldsense.py, eval/eval_avut.py of KD-TAO/OmniZip)."""
    options = "\n".join(question.options)
    return f"{question.text}\nOptions:\n{options}\nAnswer with the option's letter from the given choices directly."


def dailyomni(question: Question) -> str:
    """Daily-Omni's own prompt (test_model/Qwen2.5-Omni/testmodel.py): choices as a printed list, a line break at both ends."""
    return (
        "\nYour task is to accurately answer multiple-choice questions based on the given video.\n"
        "Select the single most accurate answer from the given choices.\n"
        f"Question: {question.text}\nChoices: {list(question.options)}\n"
        "Your answer should be a capital letter representing your choice: A, B, C, or D. Don't generate any other text.\n"
    )
