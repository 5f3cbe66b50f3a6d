"""Which features of a run the explanations of a file are of: names go through the run's own resolvers.

A module's name may be short (`h.2`) or longer than here; what is no module of the run by its name alone (Neuronpedia's
`6-res-jb`, TransformerLens' hooks) is looked up in the model, of which only the form is loaded and no weights. A file
that can match nothing is refused, and where much of it is for nothing that is said.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sae_auto_interp.config import resolve_path
from sae_auto_interp.errors import InputError
from sae_auto_interp.explainers.stored import StoredExplainer
from sae_auto_interp.models.hub import model_address
from sae_auto_interp.module_names import BESIDE, resolve_module_name
from sae_auto_interp.protocols import Explainer
from sae_auto_interp.types import FeatureId

Tell = Callable[[str], None]
OUTER = frozenset({"m", "module", "model", "transformer", "gpt_neox", "language_model", "base_model", "_orig_mod"})
"""What may stand before the stack of blocks in somebody else's names."""
FEW = 0.5


@dataclass(frozen=True)
class StoredNames:
    """The names of places in a run's model; what needs the model's form loads it when it is first asked."""

    widths: Mapping[str, int | None]
    """{module of the run: number of features, None where unknown}."""
    load_model: Callable[[], Any]
    _known: dict[str, str | None] = field(default_factory=dict[str, "str | None"], init=False)
    _fits: dict[str, bool] = field(default_factory=dict[str, bool], init=False)

    def module_of(self, name: str) -> str | None:
        """The module of the run that a file calls `name`; None for a place that the run does not have.

        Raises `InputError` where it could be several, or the name is empty and the run has several modules.
        """
        if name not in self._known:
            self._known[name] = self._found(name)
        return self._known[name]

    def fits(self, model: str) -> bool:
        """Whether the run's model can be what a file calls `model`: a name alone proves nothing, another form does."""
        if model not in self._fits:
            self._fits[model] = not model or self._has_form_of(model)
        return self._fits[model]

    def _found(self, name: str) -> str | None:
        if not name:
            if len(self.widths) > 1:
                raise InputError(
                    f"the file gives indices alone, and this run has several autoencoders ({', '.join(self.widths)}); "
                    'write {"feature": "MODULE:INDEX", "explanation": "..."}'
                )
            return next(iter(self.widths))
        return self._by_name(name) or self._by_model(name)

    def _by_name(self, name: str) -> str | None:
        parts = name.split(".")
        n_outer = next((i for i, part in enumerate(parts) if part not in OUTER), 0)
        for candidate in (".".join(parts[i:]) for i in range(n_outer + 1)):
            try:
                return resolve_module_name(candidate, self.widths)
            except InputError as error:
                if "could be any of" in str(error):
                    raise
        return None

    def _by_model(self, name: str) -> str | None:
        from sae_auto_interp.models.sites.site_names import resolve_site

        try:
            home = resolve_site(self._model, name).module_path
        except InputError:
            return None
        there = [module for module in self.widths if module.partition(BESIDE)[0] == home]
        if len(there) > 1:
            raise InputError(f"{name!r} could be any of {', '.join(there)}; write one of them")
        return there[0] if there else None

    def _has_form_of(self, model: str) -> bool:
        from sae_auto_interp.models.sites.known_models import compare_with_claim

        mismatch = compare_with_claim(model, self._model)
        return mismatch is None or mismatch.certainty != "other_form"

    @cached_property
    def _model(self) -> Any:
        return self.load_model()


def names_of_run(model: str, widths: Mapping[str, int], pin: Callable[[str], str]) -> StoredNames:
    """The names of a run's features, by its modules' widths; the model's form is read where a file needs it."""
    return StoredNames(widths, lambda: form_of_model(model, pin))


def form_of_model(model: str, pin: Callable[[str], str]) -> Any:
    """The run's subject model without weights. Raises `InputError` where its configuration cannot be read."""
    from sae_auto_interp.models.form import model_form

    return model_form(pin(model_address(resolve_path(model))))


def named_explainer(
    explainer: Explainer, names: StoredNames, wanted: Collection[FeatureId] = (), tell: Tell | None = None
) -> Explainer:
    """A stored explainer with the run's names; another one as it is.

    `wanted` are the features that the run would explain, empty where that is not known yet; `tell` is given a line for
    each thing that a user should know. Raises `InputError` where
    the file has an explanation of none of them.
    """
    if not isinstance(explainer, StoredExplainer):
        return explainer
    places = {
        stored: FeatureId(module, stored.index)
        for stored in explainer.stored
        if names.fits(stored.model)
        and (module := names.module_of(stored.module)) is not None
        and stored.index < (names.widths[module] or stored.index + 1)
    }
    _check_places(explainer, names)
    if not places:
        raise InputError(
            f"explainers.stored: none of the {len(explainer.stored):,} explanations in {explainer.path} is of a "
            f"feature of this run: the file has {_some(explainer)}, the run {_some_of_run(names)}"
        )
    named = explainer.named(places)
    _check_wanted(named, wanted)
    if tell is not None:
        for line in _remarks(named, len(places), wanted):
            tell(line)
    return named


def _check_places(explainer: StoredExplainer, names: StoredNames) -> None:
    """Raise `InputError` where two sources of explanations would be taken for one autoencoder."""
    sources: dict[str, set[str]] = {}
    for name in {stored.module for stored in explainer.stored}:
        module = names.module_of(name)
        if module is not None:
            own_name = name if "-" in name else module
            sources.setdefault(module, set()).add(own_name)
    for module, found in sources.items():
        if len(found) > 1:
            raise InputError(
                f"explainers.stored: {explainer.path} has explanations of {' and '.join(sorted(found))}, which are all "
                f"at {module} here; keep those of the autoencoder that this run has"
            )


def _check_wanted(explainer: StoredExplainer, wanted: Collection[FeatureId]) -> None:
    if wanted and explainer.features.isdisjoint(wanted) and not explainer.n_left_out:
        own, other = min(explainer.features, default=None), min(wanted)
        raise InputError(
            f"explainers.stored: {explainer.path} explains none of the {len(wanted):,} features that this run chose "
            f"(the file has {own}, the run {other}); name its features in features.indices"
        )


def _remarks(explainer: StoredExplainer, n_placed: int, wanted: Collection[FeatureId]) -> list[str]:
    where, n_all = f"stored explanations ({explainer.path})", len(explainer.stored)
    lines: list[str] = []
    if n_placed < FEW * n_all:
        lines.append(f"{where}: warning: only {n_placed:,} of {n_all:,} are of this run's autoencoders")
    n_found = len(explainer.features & set(wanted))
    if wanted and n_found < FEW * len(wanted):
        lines.append(f"{where}: warning: only {n_found:,} of the run's {len(wanted):,} features have one")
    if explainer.n_left_out:
        lines.append(
            f"{where}: {explainer.n_left_out:,} left out, which are no explanations (refusals, errors, empty forms)"
        )
    if explainer.n_several:
        lines.append(
            f"{where}: {explainer.n_several:,} features have several; the {explainer.several} one counts "
            "(explainers.stored.several)"
        )
    return lines


def _some(explainer: StoredExplainer) -> str:
    some: Sequence[str] = [
        f"{stored.module}:{stored.index}{f' of {stored.model}' if stored.model else ''}"
        for stored in explainer.stored[:2]
    ]
    return " and ".join(some)


def _some_of_run(names: StoredNames) -> str:
    return " and ".join(f"{module}:{(width or 18) - 1}" for module, width in list(names.widths.items())[:2])
