"""What a finished cache says of itself; `types` re-exports it, which is where to import it from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One file of the cache: features `first`..`last` (inclusive) of one module."""

    file: str
    first: int
    last: int
    n_activations: int
    sha256: str


@dataclass(frozen=True, slots=True)
class NormMask:
    """Which positions of a module were left unread for their norm; `n_positions`, in a file with checksum `sha256`."""

    max_norm_multiple: float
    median_norm: float
    n_positions: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class CacheManifest:
    """What a finished cache of one module holds. Written last: its presence means complete.

    The text carries a checksum of itself. What has a default was not in format 1.
    """

    format_version: int
    module_path: str
    model: str
    autoencoder: str
    weights_sha256: str
    data: str
    n_rows: int
    ctx_len: int
    width: int
    activation_dtype: str
    location_dtype: str
    shards: tuple[ShardInfo, ...]
    fingerprint: str
    """Hash of all that decides the content: the configuration and the rows."""
    configuration: str = ""
    """Hash of what decides the content but for the rows; caches that share it can be combined."""
    rows: str = ""
    """Hash of the rows' tokens; that of two caches' rows together follows from theirs."""
    statistics_sha256: str = ""
    norm_mask: NormMask | None = None
    autoencoder_source: str = ""
    """Address on the hub, with the commit, that the weights came from; empty for local files."""
    model_source: str = ""
    """The same of the subject model."""

    @property
    def n_positions(self) -> int:
        """Locations are below this."""
        return self.n_rows * self.ctx_len

    def to_json(self) -> str:
        fields = {name: value for name, value in asdict(self).items() if name != "norm_mask" or value is not None}
        return json.dumps({**fields, "sha256": _sha256_of_json(fields)}, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "CacheManifest":
        """Raises KeyError / TypeError / ValueError when the text is not a manifest, or not as it was written."""
        fields: dict[str, Any] = json.loads(text)
        checksum = fields.pop("sha256") if fields["format_version"] > 1 else None
        if checksum not in (None, _sha256_of_json(fields)):
            raise ValueError("its checksum is not that of its content")
        shards = tuple(ShardInfo(**shard) for shard in fields.pop("shards"))
        norm_mask = fields.pop("norm_mask", None)
        return cls(**fields, shards=shards, norm_mask=None if norm_mask is None else NormMask(**norm_mask))


def _sha256_of_json(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
