"""A lock on the purse: with SAE_AUTO_INTERP_NO_PAID_CALLS set, nothing is sent to a server beyond this machine.

The tests set it, for themselves and for the commands that they run. Anyone who works on the code may.
"""

import ipaddress
import os

from sae_auto_interp.errors import RefusedRequestError

VARIABLE = "SAE_AUTO_INTERP_NO_PAID_CALLS"


def refuse_paid_call(host: str) -> None:
    """Raise RefusedRequestError where the lock is set and `host` is another machine."""
    if os.environ.get(VARIABLE) and not _is_this_machine(host):
        raise RefusedRequestError(f"{VARIABLE} is set, and {host} may charge for an answer: nothing was sent")


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
