"""Labels for features that need no language model, from their profiles.

`dead` fires in no window, `rare` in fewer than a record needs, `dense` on more than a tenth of the text.
`single_token` peaks on a few tokens (at most 20, each in five windows on average) and fires on nine tenths of their
occurrences, whatever is around them; `previous_token` does so right after a few tokens. `positional` fires by the
position in the row: normalised information of at least .1, and significant after Benjamini-Hochberg over the module
(.05 nats, the usual bound, cannot be reached below a density of .9 %). A feature may have several labels; a dead or
rare one has no other.
"""

from sae_auto_interp.features.triage.profiles import Profile
from sae_auto_interp.types import TriageLabel

DENSE = 0.1
MOST_TOKENS = 20
WINDOWS_PER_TOKEN = 5
CONTEXT_FREE = 0.9
POSITIONAL = 0.1
POSITIONAL_Q = 0.05


def labels_of(profile: Profile, positional_q: float, n_text_tokens: int, min_examples: int) -> tuple[TriageLabel, ...]:
    """The labels of one feature; `positional_q` is its adjusted p-value among all features that were tested."""
    if profile.n_windows < min_examples:
        return ("rare",) if profile.n_windows else ("dead",)
    found: list[TriageLabel] = []
    if profile.n_activations > DENSE * n_text_tokens:
        found.append("dense")
    if profile.positional_information >= POSITIONAL and positional_q <= POSITIONAL_Q:
        found.append("positional")
    if _is_few(profile.n_peak_tokens, profile.n_windows) and profile.firing_fraction > CONTEXT_FREE:
        found.append("single_token")
    elif _is_few(profile.n_previous_tokens, profile.n_windows) and profile.firing_fraction_after > CONTEXT_FREE:
        found.append("previous_token")
    return tuple(found)


def _is_few(n_tokens: int, n_windows: int) -> bool:
    """Whether a feature peaks on few tokens, and often enough on each that this is no accident."""
    return 0 < n_tokens <= min(MOST_TOKENS, n_windows // WINDOWS_PER_TOKEN)
