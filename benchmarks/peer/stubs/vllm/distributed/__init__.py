"""Names that the peer imports."""
