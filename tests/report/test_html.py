"""The page: valid, complete, self-contained, and deaf to whatever tokens and explanations say."""

from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.report import write_report
from sae_auto_interp.report.pages.examples import MAX_TEST, sections, spread
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import Example, FeatureId
from tests.support.rich_run import write_rich_run
from tests.support.run_fixture import HOSTILE_TEXT, make_record, write_run

VOID = {"meta", "input", "br", "wbr", "link", "img", "hr"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def page_of(run_dir: Path) -> Page:
    return Page(write_report(run_dir, n_resamples=200).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Page:
    run_dir = tmp_path_factory.mktemp("hostile")
    write_run(run_dir, hostile=True)
    with ResultStore.open(run_dir / RESULTS_FILE) as store:
        store.set_info("model", HOSTILE_TEXT.replace("\ud800", ""))
    return page_of(run_dir)


def test_the_page_holds_the_run(tmp_path: Path) -> None:
    write_run(tmp_path)
    page = page_of(tmp_path)
    text = " ".join(data for _, data in page.texts)
    for wanted in (
        "openai-community/gpt2",
        "Names of months, mostly in dates",
        "Fires on: ' January'",
        "chance",
        "shuffled",
        "judged by demo-model-8b",
        "8 of 14",
        "8 of 30",
        "4 of 30",
        "the reply has no line that starts with",
    ):
        assert wanted in text, wanted
    assert page.tags["tbody"] > 12
    assert page.values("data-module").count("transformer.h.1.mlp") == 6
    assert page.tags["mark"] > 12 * 16
    assert "↵" in text
    assert page.values("aria-sort") == ["ascending"]
    assert page.values("aria-expanded") == ["false"] * 12
    assert len(set(page.values("id"))) == len(page.values("id"))
    assert set(page.values("aria-controls")) <= set(page.values("id"))


def test_nothing_is_loaded_from_anywhere(hostile: Page) -> None:
    assert "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:" in (
        hostile.values("content")
    )
    names = {name for _, name, _ in hostile.attributes}
    assert not names & {"src", "href", "srcset", "action", "data", "poster"}
    inline = "".join(data for tag, data in hostile.texts if tag in {"style", "script"})
    assert "http" not in inline
    assert "url(" not in inline
    assert "@import" not in inline


def test_hostile_text_stays_text(hostile: Page) -> None:
    assert hostile.tags["script"] == 1
    assert hostile.tags["img"] == 0
    assert not [name for _, name, _ in hostile.attributes if name.startswith("on")]
    scripts = "".join(data for tag, data in hostile.texts if tag == "script")
    assert "alert" not in scripts
    shown = [data for tag, data in hostile.texts if tag == "mark"]
    assert "<script>alert(1)</script>" in shown
    assert '"><img src=x onerror=alert(1)>' in shown
    assert "␛[31m" in shown
    quotes = [data for tag, data in hostile.texts if tag == "blockquote"]
    assert any(
        '</td><script>alert("explanation")</script> \'"><img src=x onerror=alert(2)> [bold red]{{ 7*7 }} \ufffd' in q
        for q in quotes
    )


def test_marks_grow_with_the_activation_and_say_its_value() -> None:
    record = make_record(0)
    train, test, silent = sections(record)
    assert [len(section.windows) for section in (train, test, silent)] == [8, 8, 4]
    assert all(run.intensity is None for window in silent.windows for run in window.runs)
    strongest = max(
        (run for run in train.windows[0].runs if run.intensity is not None), key=lambda run: run.intensity or 0
    )
    assert strongest.intensity == 1.0
    assert float(strongest.value) == pytest.approx(record.stats.max_activation, rel=1e-2)
    for section in (train, test):
        peaks = [max(run.intensity or 0.0 for run in window.runs) for window in section.windows]
        assert peaks == sorted(peaks, reverse=True)


def test_shown_text_is_the_whole_window() -> None:
    record = make_record(2)
    for window, example in zip(sections(record)[1].windows, spread(record.test, MAX_TEST), strict=True):
        shown = "".join(run.text for run in window.runs)
        assert example.text in (shown, f" {shown}")


def test_tokens_without_ink_are_seen() -> None:
    example = Example(
        tokens=np.arange(4, dtype=np.int32),
        str_tokens=("  ", "", "\n", " a"),
        activations=np.array([1.0, 1.0, 1.0, 0.5], dtype=np.float32),
        row=0,
        start=0,
        document=0,
        source="activating",
    )
    (train, *_) = sections(replace(make_record(0), train=(example,)))
    assert [run.text for run in train.windows[0].runs] == ["␣␣", "∅", "↵", " a"]


def test_spread_covers_the_whole_range() -> None:
    record = make_record(0)
    assert spread((), 5) == []
    few = spread(record.test[:3], 5)
    assert len(few) == 3
    chosen = spread(record.test, 5)
    peaks = sorted((example.max_activation for example in record.test), reverse=True)
    assert [chosen[0].max_activation, chosen[-1].max_activation] == [peaks[0], peaks[-1]]


def test_the_page_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, n_features=4)
    path = write_report(tmp_path, n_resamples=50)
    assert path == tmp_path / "report" / "report.html"
    before = path.read_bytes()

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sae_auto_interp.report.pages.html.sections", broken)
    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path, n_resamples=50)
    assert path.read_bytes() == before
    assert {p.name for p in path.parent.iterdir()} == {"report.html", "report.json", "features.jsonl", "scores.tsv"}
    monkeypatch.undo()
    assert write_report(tmp_path, n_resamples=50).read_bytes() == before


def test_the_page_of_a_run_that_has_only_begun(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="no results"):
        write_report(tmp_path)
    assert not (tmp_path / "report").exists()
    with ResultStore.open(tmp_path / RESULTS_FILE) as store:
        page = page_of(tmp_path)
        assert "Nothing has been scored yet." in {data for _, data in page.texts}
        store.add_record(make_record(0))
    page = page_of(tmp_path)
    assert "not explained" in {data for _, data in page.texts}


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("rich")
    write_rich_run(run_dir, n_features=4, hostile=True)
    return run_dir


def test_the_page_shows_what_tells_how_far_to_believe_it(rich: Path) -> None:
    page = page_of(rich)
    text = " ".join(" ".join(data for _, data in page.texts).split())
    for wanted in (
        "What best_of_n chose from",
        "Chosen explanations",
        "Optimism",
        "Agreement",
        "llm:other-model-70b",
        "Tests against each other",
        "2 because rare, 1 because dead, 1 because too few examples",
        "single token",
        "Too few examples, non-activating for scoring (neighbour): 0 of 25.",
        "tokens whose logits it raises and lowers most",
        "zebra",
        "intruder_explained",
        "correlation",
        "found",
    ):
        assert wanted in text, wanted
    titles = page.values("title")
    assert any("percentile bootstrap over documents" in title for title in titles)
    assert any("one trial per document" in title for title in titles)
    assert any("Wilson over windows" in title for title in titles)
    assert page.tags["script"] == 1
    assert page.tags["img"] == 0
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_no_two_features_share_a_page() -> None:
    names = ["a/b", "a_b", "a.b", "a b", "a%b"]
    assert len({FeatureId(name, 1).file_key for name in names}) == len(names)
    assert FeatureId("layers.2.mlp", 7).file_key == "layers.2.mlp_7"


def test_runs_of_many_features_have_a_page_for_each(rich: Path) -> None:
    path = write_report(rich, n_resamples=100, whole_page=3)
    page = Page(path.read_text(encoding="utf-8"))
    links = page.values("href")
    assert len(links) == 4
    assert all(link.startswith("features/") and link.endswith(".html") for link in links)
    assert page.tags["mark"] == 0
    assert set(page.values("aria-controls")) == set()
    for link in links:
        single = Page((path.parent / link).read_text(encoding="utf-8"))
        (back,) = single.values("href")
        assert back.removeprefix("../report.html#") in page.values("id")
        assert single.tags["mark"] > 16
        assert single.tags["script"] == single.tags["img"] == 0
        assert "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:" in (
            single.values("content")
        )
        assert not {name for _, name, _ in single.attributes} & {"src", "srcset", "action", "data", "poster"}


def test_the_page_can_be_written_elsewhere(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    before = sorted(tmp_path.joinpath("run").iterdir())
    path = write_report(tmp_path / "run", n_resamples=50, out=tmp_path / "a" / "b")
    assert path == tmp_path / "a" / "b" / "report.html"
    assert (tmp_path / "a" / "b" / "scores.tsv").is_file()
    assert sorted(tmp_path.joinpath("run").iterdir()) == before


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run" / "report").write_text("a file")
    with pytest.raises(InputError, match=r"cannot be written to .*; give another folder with --out"):
        write_report(tmp_path / "run", n_resamples=50)
