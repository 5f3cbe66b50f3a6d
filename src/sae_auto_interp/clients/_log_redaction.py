"""Keeps API keys out of the logs of the HTTP library.

At level DEBUG it logs the headers of answers, and a server may repeat in them what it was sent. A filter on its loggers
takes every key that this process has read out of what they say; it sees only records that are written anyway.
"""

import logging

_LOGGERS = (
    "httpx2",
    "httpcore2.connection",
    "httpcore2.http11",
    "httpcore2.http2",
    "httpcore2.proxy",
    "httpcore2.socks",
)
"""A filter holds for its own logger and not for those below it."""


class _Redaction(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.secrets: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Never holds a record back."""
        message = record.getMessage()
        for secret in self.secrets:
            message = message.replace(secret, "[redacted]")
        record.msg, record.args = message, ()
        return True


_redaction = _Redaction()


def keep_out_of_logs(secret: str) -> None:
    """From now on, the HTTP library's logs do not show `secret`."""
    if not secret:
        return
    _redaction.secrets.add(secret)
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_redaction)  # adding it again changes nothing
