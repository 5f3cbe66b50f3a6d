"""The suite's own guarantees: no network, no key of the user's, shapes checked."""

import os
import socket
import urllib.error
import urllib.request

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from sae_auto_interp.types import TokenRows
from tests.conftest import CHECKS_ANNOTATIONS, NetworkBlockedError

OUTSIDE = "192.0.2.1"
"""An address that documentation may use and no machine has."""


def test_a_connection_to_another_machine_is_refused_before_it_starts() -> None:
    with pytest.raises(NetworkBlockedError, match=OUTSIDE), socket.socket() as outgoing:
        outgoing.connect((OUTSIDE, 80))
    with pytest.raises(NetworkBlockedError, match=OUTSIDE):
        socket.create_connection((OUTSIDE, 80), timeout=1)
    with pytest.raises(NetworkBlockedError), socket.socket(type=socket.SOCK_DGRAM) as outgoing:
        outgoing.sendto(b"", (OUTSIDE, 53))


def test_names_of_other_machines_are_not_looked_up() -> None:
    with pytest.raises(NetworkBlockedError, match=r"model-hub\.example"):
        socket.getaddrinfo("model-hub.example", 443)
    with pytest.raises(urllib.error.URLError, match="offline"):
        urllib.request.urlopen("http://model-hub.example", timeout=1)


def test_loopback_works() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def test_no_key_reaches_the_tests() -> None:
    assert "OPENAI_API_KEY" not in os.environ


@pytest.mark.skipif(not CHECKS_ANNOTATIONS, reason="SAE_AUTO_INTERP_CHECK_ANNOTATIONS=1 checks annotations")
def test_shapes_and_dtypes_are_checked() -> None:
    tokens = np.zeros((2, 3), dtype=np.int32)
    TokenRows(tokens, tokens, ("a",))
    with pytest.raises(TypeCheckError):
        TokenRows(tokens, tokens[:1], ("a",))
    with pytest.raises(TypeCheckError):
        TokenRows(tokens.astype(np.int64), tokens, ("a",))
