"""Retry-After in both of its forms; bodies in whatever character set they claim."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from sae_auto_interp.clients.http.failures import retry_after_seconds
from sae_auto_interp.clients.http.reply import Reply


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("120", 120.0), ("1.5", 1.5), ("0", 0.0), ("-3", 0.0), ("", None), ("inf", None), ("nan", None)],
)
def test_seconds(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header) == seconds


@pytest.mark.parametrize(("ahead", "low", "high"), [(60, 57, 60), (-60, 0, 0)])
def test_an_http_date_is_the_time_until_then(ahead: int, low: float, high: float) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=ahead)
    seconds = retry_after_seconds(format_datetime(moment, usegmt=True))
    assert seconds is not None
    assert low <= seconds <= high


@pytest.mark.parametrize("header", ["tomorrow", "Wed, 99 Foo 2015", "Wed, 21 Oct 99999999 07:28:00 GMT"])
def test_anything_else_says_nothing(header: str) -> None:
    assert retry_after_seconds(header) is None


@pytest.mark.parametrize("charset", ["utf-8", "latin-1", "idna", "undefined", "rot13", "no-such-set"])
def test_a_body_is_text_whatever_it_claims_to_be(charset: str) -> None:
    reply = Reply("http://127.0.0.1", 500, "", {"Content-Type": f"text/plain; charset={charset}"}, b"broken\xff")
    assert reply.text.startswith("broken")
