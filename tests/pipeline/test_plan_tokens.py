"""Tokens of a text are estimated near what real tokenizers count, whatever the text is."""

import pytest

from sae_auto_interp.pipeline.planning.requests import estimated_tokens, message_tokens

PROSE = (
    "The lighthouse keeper wrote in his journal every evening, and although the storms of that winter were worse than "
    "any he remembered, he never missed an entry. In February the supply boat was late by eleven days; he rationed the "
    "flour, mended the lamp's gearing twice, and counted forty-three ships that passed without signalling."
)
CODE = '''def merge_intervals(intervals):
    """Join the intervals that overlap."""
    merged = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
'''
INSTRUCTIONS = (
    "You are shown a description and several numbered excerpts. For each excerpt, say whether the description fits it. "
    'Answer with JSON alone, of the form {"verdicts": [0, 1, 1]}: one number for each excerpt, in their order, 1 where '
    "it fits and 0 where it does not. Words between << and >> are marked."
)
COUNTED = {"PROSE": (65, 66), "CODE": (79, 78), "INSTRUCTIONS": (75, 75)}
"""By o200k_base and by cl100k_base, with their own library."""


@pytest.mark.parametrize("name", ["PROSE", "CODE", "INSTRUCTIONS"])
def test_the_estimate_is_near_two_real_tokenizers(name: str) -> None:
    text = globals()[name]
    for counted in COUNTED[name]:
        assert abs(estimated_tokens(text) - counted) <= 0.12 * counted
        assert abs(estimated_tokens(text * 40) - 40 * counted) <= 0.12 * 40 * counted


def test_a_known_ratio_goes_first() -> None:
    assert message_tokens(PROSE, 4.0) - message_tokens("", 4.0) == round(len(PROSE) / 4)


def test_other_scripts_are_not_taken_for_nothing() -> None:
    assert estimated_tokens("Слова, которые называют месяц") >= 9
    assert estimated_tokens("月を表す言葉") >= 3
