"""In which order variants are read."""

from sae_auto_interp.report.summary.variants import Variant, reading_order


def test_a_judge_comes_before_its_hidden_probe_and_the_lexical_baseline_comes_last() -> None:
    in_order = [
        Variant("simple", "detection", "llm:a"),
        Variant("simple", "fuzzing", "llm:a"),
        Variant("simple", "intruder", "llm:a"),
        Variant("simple", "detection", "hidden:llm:a"),
        Variant("simple", "detection", "llm:b"),
        Variant("lexical", "detection", "lexical"),
    ]
    assert sorted({*in_order}, key=reading_order) == in_order
