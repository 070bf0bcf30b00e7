"""The official wordings, frozen: a difference here is a different benchmark."""

from __future__ import annotations

from omnidrop_cli.evaluate.benchmarks.avut import BENCHMARK as AVUT
from omnidrop_cli.evaluate.benchmarks.dailyomni import BENCHMARK as DAILYOMNI
from omnidrop_cli.evaluate.benchmarks.videomme import BENCHMARK as VIDEOMME
from omnidrop_cli.evaluate.benchmarks.worldsense import BENCHMARK as WORLDSENSE
from omnidrop_cli.evaluate.items import Question
from omnidrop_cli.prompt.chat_template import DEFAULT_SYSTEM

QUESTION = Question("1", "clip.mp4", "What is heard?", ("A. a dog", "B. the cat's bell", "C. rain", "D. no"), "B")


def test_videomme() -> None:
    assert VIDEOMME.prompt(QUESTION) == (
        "Select the best answer to the following multiple-choice question based on the video. "
        "Respond with only the letter (A, B, C, or D) of the correct option.\n"
        "What is heard?\n"
        "A. a dog\nB. the cat's bell\nC. rain\nD. no\n"
        "The best answer is:"
    )
    assert VIDEOMME.system is None
    assert (VIDEOMME.max_new_tokens, VIDEOMME.media_options.fps, VIDEOMME.media_options.max_frames) == (16, 2.0, 768)


def test_worldsense_and_avut() -> None:
    expected = (
        "What is heard?\nOptions:\nA. a dog\nB. the cat's bell\nC. rain\nD. no\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert WORLDSENSE.prompt(QUESTION) == AVUT.prompt(QUESTION) == expected
    addition = " Please analyze the video carefully and select the most appropriate answer from the given options."
    assert WORLDSENSE.system == AVUT.system == DEFAULT_SYSTEM + addition
    assert (WORLDSENSE.max_new_tokens, AVUT.max_new_tokens, WORLDSENSE.media_options.max_frames) == (100, 100, 128)


def test_dailyomni_prints_the_choices_as_a_list() -> None:
    assert DAILYOMNI.prompt(QUESTION) == (
        "\nYour task is to accurately answer multiple-choice questions based on the given video.\n"
        "Select the single most accurate answer from the given choices.\n"
        "Question: What is heard?\n"
        "Choices: ['A. a dog', \"B. the cat's bell\", 'C. rain', 'D. no']\n"
        "Your answer should be a capital letter representing your choice: A, B, C, or D. Don't generate any other text.\n"
    )
    assert DAILYOMNI.system is None
    assert DAILYOMNI.max_new_tokens == 10
