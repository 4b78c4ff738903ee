"""The page of one slide: the warning first, then reliable rows, then the others."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import predictions_made as made
import pytest
from PIL import Image
from slide2rna.pages import html
from slide2rna.predict import slide_page
from slide2rna.studies.shift.decision import ALIKE, CAL, UNDECIDED

# The reminder of the warning above a section.
AGAIN = re.compile("with the warning")


class Seen(HTMLParser):
    """Headings with their levels, links and sources, and the text of the main part."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[tuple[int, str]] = []
        self.links: list[str] = []
        self.classes: list[str] = []
        self.ids: set[str] = set()
        self.text, self.level, self.quiet = "", 0, False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [found[name] or "" for name in ("href", "src") if name in found]
        self.classes += (found.get("class") or "").split()
        self.ids.add(found.get("id") or "")
        self.quiet = tag in ("script", "style")
        if re.fullmatch("h[1-6]", tag):
            self.level = int(tag[1])
            self.headings.append((self.level, ""))

    def handle_endtag(self, tag: str) -> None:
        self.quiet = False
        self.level = 0

    def handle_data(self, data: str) -> None:
        if self.quiet:
            return
        self.text += data
        if self.level:
            level, text = self.headings[-1]
            self.headings[-1] = (level, text + data)


def render(prediction: made.Prediction, about: dict | None = None, **own: object) -> Seen:
    shown = slide_page.context(prediction, made.ABOUT if about is None else about)
    return Seen(html.render("pages/slide.html.j2", shown | {"picture": None, "figure": None} | own))


def words(seen: Seen) -> str:
    return " ".join(seen.text.split())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("slide")
    Image.new("RGB", (60, 40), (230, 180, 210)).save(folder / "tiles.jpg")
    out = slide_page.write(made.make(), folder / "tiles.jpg", made.ABOUT, folder / "index.html")
    return out, out.read_text()


def test_one_file_without_network(written: tuple[Path, str]) -> None:
    path, text = written
    seen = Seen(text)
    assert {"data:image/jpeg", "data:image/webp"} <= {link.split(";")[0] for link in seen.links}
    outside = [link for link in seen.links if not link.startswith(("data:", "#"))]
    assert set(outside) == {"genes.parquet", "pathways.parquet", "prediction.json"}
    for name in ("pathways.png", "pathways.svg"):
        assert (path.parent / "figures" / name).stat().st_size > 5000
    anchors = set(re.findall(r'id="([^"]+)"', text))
    assert {link[1:] for link in seen.links if link.startswith("#")} <= anchors
    levels = [level for level, _ in seen.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert "slide <1>" in seen.headings[0][1]
    assert "process <0>" in seen.text  # escaped, or it would have been a tag


def test_the_warning_stands_first() -> None:
    far = render(made.make(True))
    assert far.headings[1][1].startswith("Warning")
    assert "alarm" in far.classes
    said = words(far)
    for fact in ("3.0 times", "2 of 2 fold models", "95 %"):
        assert fact in said
    assert len(AGAIN.findall(said)) == 2  # at the pathways and at the genes
    assert "Only 345 tiles." in said
    # The sentence occurs only once.
    assert made.shift(True)["words"] not in said


def test_a_slide_like_those_of_training_raises_no_alarm() -> None:
    near = render(made.make(False, CAL))
    assert near.headings[1][1] == ALIKE
    assert "alarm" not in near.classes
    said = words(near)
    assert re.search(r"0\.4 for its tiles .*0\.8 for its predicted profile", said)
    assert not AGAIN.search(said)
    unknown = render(made.make(None, UNDECIDED), made.BARE)
    assert unknown.headings[1][1] not in (far_heading(), ALIKE)
    assert "open" in unknown.classes
    assert "distance" not in unknown.ids
    assert "distance" in near.ids


def far_heading() -> str:
    return render(made.make(True)).headings[1][1]


def test_reliable_pathways_come_first_by_their_distance() -> None:
    table = slide_page.ordered_pathways(made.make().pathways)
    assert table["reliability"][:6].is_in(["good", "weak"]).all()
    assert table["z"][:6].abs().to_list() == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    assert table["z"][6:].abs().is_sorted(descending=True)
    # A width of 0.5 in the score is one train sd.
    assert (table["z_high"] - table["z_low"]).to_list() == pytest.approx([1.0] * table.height)
    assert slide_page.figure_pathways(made.make().pathways)["pathway"].to_list() == [
        f"GO:{i:07d}" for i in (5, 4, 3, 2, 1, 0)
    ]
    alone = made.make(words=["none"] * 8)
    drawn = slide_page.figure_pathways(alone.pathways)
    assert drawn["z"].abs().is_sorted(descending=True)
    said = words(render(alone))
    assert re.search("No pathway .*LUAD", said)
    assert "(8)" in said


def test_pathways_apart_from_the_average_are_counted() -> None:
    """Intervals are 0.5 sd to either side: beyond 0.5 they leave the training average out."""
    assert re.search("none of them.* 90 % interval", words(render(made.make())))
    many = made.make(words=["weak"] * 9)
    assert "9 of 9 pathways" in words(render(many))
    assert re.search("3 of them.* 90 % interval", words(render(many)))


def test_unreliable_pathways_are_grey() -> None:
    seen = render(made.make())
    assert seen.classes.count("greyed") == slide_page.GREYED
    said = words(seen)
    assert re.search(r"\(20\).*10 farthest", said)
    assert "RULE OF PATHWAYS" in said
    assert "RULE OF GENES" in said


def test_genes_as_data() -> None:
    genes = slide_page.ordered_genes(made.gene_rows(40, draws=True, conformal=False))
    assert genes["reliability"][:19].is_in(["good", "weak"]).all()
    assert genes["z"][:19].abs().is_sorted(descending=True)
    data = json.loads(json.dumps(slide_page.gene_data(genes)))
    place = data["gene"].index("GENE39")
    assert (data["value"][place], data["low"][place], data["high"][place]) == (600, 500, 700)
    assert (data["z"][place], data["r"][place]) == (200, 30)
    assert data["words"][data["word"][place]] == "weak"
    never = data["gene"].index("GENE0")
    assert data["z"][never] is None  # its train sd is 0
    unknown = data["gene"].index("GENE1")
    assert data["r"][unknown] is data["rlow"][unknown] is None
    assert len({len(data[key]) for key in (*slide_page.COLUMNS, "word")}) == 1


@pytest.mark.parametrize(
    ("draws", "conformal", "kind", "value", "said"),
    [
        (True, True, "conformal", 601, "Intervals are conformal"),
        (True, False, "draws", 600, "Intervals hold 90 % of the draws"),
        (False, False, None, 600, "no interval"),
    ],
)
def test_intervals_are_called_what_they_are(
    draws: bool, conformal: bool, kind: str | None, value: int, said: str
) -> None:
    found = made.make(draws=draws, conformal=conformal)
    assert slide_page.interval_kind(found.genes) == kind
    data = slide_page.gene_data(slide_page.ordered_genes(found.genes))
    place = data["gene"].index("GENE39")
    assert data["value"][place] == value  # a conformal interval is about the point
    assert data["low"][place] == (None if kind is None else 520 if conformal else 500)
    text = words(render(found))
    assert said in text
    assert ("Bars: 90 % of the draws" in words(render(found, figure=FIGURE))) == draws


def test_a_training_slide_is_announced_first() -> None:
    found = made.make(False, trained_folds=2, trained_as="tiles")
    assert render(found).headings[1][1].startswith("Warning: this slide ")
    text = words(render(found))
    assert text.count("2 of 2 fold models") == 3
    named = render(made.make(True, trained_folds=1, trained_as="name"))
    assert named.headings[1][1].startswith("Warning: a slide of this name ")
    unused = render(made.make(False, trained_folds=0, trained_as="tiles"))
    assert unused.headings[1][1] == render(made.make(False)).headings[1][1]


def test_patients_with_several_slides_are_counted() -> None:
    said = "12 of 300 patients"
    found = made.make(conformal=True)
    data = made.ABOUT["data"] | {"n_patients_several_slides": 12}
    assert said in words(render(found, about=made.ABOUT | {"data": data}))
    assert said not in words(render(found))


def test_the_rate_of_false_alarms_is_given() -> None:
    said = "up to 0.10 of slides"
    assert said in words(render(made.make(False, CAL)))
    assert said not in words(render(made.make(False)))


FIGURE = {"uri": "data:image/png;base64,AAAA", "width": 600}


def test_a_model_without_test_results() -> None:
    found = made.make(None, UNDECIDED, words=["unknown"] * 4, source="features", tile_mpp=1.14)
    blank = pl.lit(None, dtype=pl.Float64)
    numbers = ("r", "r_low", "r_high", "train_mean", "train_sd", "z")
    bare = made.Prediction(
        found.name,
        found.genes.with_columns(*(blank.alias(n) for n in numbers[:3])).with_columns(
            pl.lit("unknown").alias("reliability")
        ),
        found.pathways.with_columns(blank.alias(n) for n in numbers),
        found.shift,
        {key: found.facts[key] for key in ("source", "n_tiles", "folds", "tile_mpp")},
        [],
    )
    assert slide_page.figure_pathways(bare.pathways).is_empty()
    seen = render(bare, made.BARE)
    said = words(seen)
    assert "In test patientsnot known" in said
    assert "1.14 µm/px" in said
    assert not any(link.startswith("data:image/jpeg") for link in seen.links)


def test_a_name_cannot_leave_its_script(tmp_path: Path) -> None:
    found = made.make(genes=5)
    evil = found.genes.with_columns(pl.col("gene").str.replace("GENE4", "</script>"))
    prediction = made.Prediction(
        found.name, evil, found.pathways.clear(), found.shift, found.facts, []
    )
    text = slide_page.write(prediction, None, made.ABOUT, tmp_path / "p.html").read_text()
    assert text.count("</script>") == 2
    assert not (tmp_path / "figures").exists()
