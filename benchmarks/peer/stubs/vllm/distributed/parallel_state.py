"""Names that the peer imports."""


def destroy_distributed_environment() -> None:
    """Nothing was made."""


def destroy_model_parallel() -> None:
    """Nothing was made."""
