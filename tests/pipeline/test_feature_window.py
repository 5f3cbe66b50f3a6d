"""As many features at once as keep the limit used up, and never more than the limit."""

from sae_auto_interp.pipeline.clients.request_counts import FIRST, LEAST, FeatureWindow, RequestCounts


def after(limit: int, n_requests: int, n_features: int, n_open: int) -> int:
    window = FeatureWindow(limit, RequestCounts(n_open=n_open))
    for _ in range(n_features):
        window.finished(n_requests)
    return window.size()


def test_before_anything_is_known() -> None:
    assert FeatureWindow(100, RequestCounts()).size() == FIRST
    assert FeatureWindow(1, RequestCounts()).size() == 1


def test_features_of_many_requests_need_few_and_of_one_request_all() -> None:
    assert after(100, 81, 50, n_open=300) == 5
    assert after(100, 1, 50, n_open=300) == 100
    assert after(16, 400, 50, n_open=300) == LEAST
    assert after(2, 400, 50, n_open=300) == 2


def test_too_few_open_requests_widen_it_up_to_the_limit_and_no_further() -> None:
    assert 5 < after(100, 81, 20, n_open=50) <= 100
    assert after(100, 81, 100_000, n_open=50) == 100


def test_features_that_ask_nothing_do_not_count_as_too_few_requests() -> None:
    assert after(100, 0, 100_000, n_open=0) == 100
