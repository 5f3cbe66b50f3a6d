"""The made record that other tests start from keeps what every record promises."""

from sae_auto_interp.types import FeatureId
from tests.support.records import make_record


def test_a_made_record_is_a_valid_one() -> None:
    record = make_record(FeatureId("m", 3), token=" dog", n_train=20, n_test=10, n_non_activating=7, window=6)
    silent = record.non_activating
    pools = (record.train, record.test, silent.explain, silent.test)
    assert [len(pool) for pool in pools] == [20, 10, 7, 7]
    assert len({example.document for pool in pools for example in pool}) == 44
    for example in (*record.train, *record.test):
        assert example.str_tokens[int(example.activations.argmax())] == " dog"
        assert (example.activations > 0).sum() == 1
    assert [example.quantile for example in record.test] == list(range(10))
    assert record.test[0].max_activation >= record.test[-1].max_activation
    assert not any(
        example.activations.any() or " dog" in example.str_tokens for example in (*silent.explain, *silent.test)
    )
    assert (record.stats.n_activations, record.feature) == (30, FeatureId("m", 3))
