"""The tables of docs/sites.md are those of the code, line by line."""

from pathlib import Path

from sae_auto_interp.models.sites.architectures import ARCHITECTURES, GPT_NEOX_SEQUENTIAL, Absent, Architecture
from sae_auto_interp.models.sites.published_sites import SOURCE_SETS

PAGE = (Path(__file__).parents[2] / "docs" / "sites.md").read_text(encoding="utf-8")


def table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [headings, tuple("---" for _ in headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def hooks_table(title: str, architecture: Architecture) -> str:
    scaled = ", scaled by the square root of the width" if architecture.embedding_is_scaled else ""
    rows = [("`hook_embed`", f"`{architecture.embedding}:out`{scaled}")]
    for hook, place in architecture.hooks.items():
        where = f"none: {place.reason}" if isinstance(place, Absent) else f"`{architecture.blocks}.N{_dotted(place)}`"
        rows.append((f"`blocks.N.{hook}`", where))
    return f"### {title}\n\n{table(('name', 'site'), rows)}"


def _dotted(place: str) -> str:
    return place if place.startswith(":") else f".{place}"


def by_table() -> dict[str, Architecture]:
    """{types of models that share a table: the table}."""
    shared: list[tuple[list[str], Architecture]] = []
    for model_type, architecture in ARCHITECTURES.items():
        names = next((names for names, other in shared if other == architecture), None)
        if names is None:
            shared.append(([model_type], architecture))
        else:
            names.append(model_type)
    tables = {", ".join(names): architecture for names, architecture in shared}
    return tables | {"gpt_neox with use_parallel_residual=False": GPT_NEOX_SEQUENTIAL}


def test_the_hook_tables_are_those_of_the_code() -> None:
    for title, architecture in by_table().items():
        expected = hooks_table(title, architecture)
        assert expected in PAGE, f"docs/sites.md should hold:\n\n{expected}"
    assert PAGE.count("\n### ") == len(by_table()), "a table of the page is of no architecture"


def test_the_table_of_source_sets_is_that_of_the_code() -> None:
    rows = [
        (model_type, f"`{name}`", f"`{hook}`")
        for model_type, sets in SOURCE_SETS.items()
        for name, hook in sets.items()
    ]
    expected = table(("model", "set", "reads"), rows)
    assert expected in PAGE, f"docs/sites.md should hold:\n\n{expected}"
