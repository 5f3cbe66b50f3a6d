"""Names that the peer imports."""


class TokensPrompt:
    """Never made here."""
