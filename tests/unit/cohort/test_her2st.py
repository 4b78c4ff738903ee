"""her2st's layout on a drawn array: joins, resolution, regions that don't overlap, sums."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from slide2rna.cohort import freeze, her2st
from slide2rna.core import config
from slide2rna.core.errors import ConfigError, SheetError
from slide2rna.core.files import read_json

PITCH_PX = 20.0
GENES = ("TP53", "A1BG", "ESR1", "RARE")


def write_section(
    folder: Path, name: str, side: int = 8, genes: tuple[str, ...] = GENES, lost: int = 2
) -> np.ndarray:
    """A square array of spots with jitter; the first `lost` spots have no counts."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(side + len(name))
    x, y = (axis.ravel() for axis in np.meshgrid(range(2, side + 2), range(3, side + 3)))
    jitter = rng.uniform(-0.2, 0.2, (2, x.size)).round(3)
    spots = pl.DataFrame(
        {"x": x, "y": y, "new_x": x + jitter[0], "new_y": y + jitter[1]}
    ).with_columns(
        pixel_x=(pl.col("new_x") - 1) * PITCH_PX,
        pixel_y=(pl.col("new_y") - 1) * PITCH_PX,
        selected=pl.lit(1),
    )
    spots.write_csv(folder / f"{name}.spots.tsv", separator="\t")
    counts = rng.integers(0, 30, (x.size, len(genes)))
    counts[:, -1] = 0
    table = pl.DataFrame({"": [f"{a}x{b}" for a, b in zip(x, y, strict=True)]}).with_columns(
        pl.Series(gene, counts[:, i]) for i, gene in enumerate(genes)
    )
    raw = table[lost:].sample(fraction=1, shuffle=True, seed=1).write_csv(separator="\t").encode()
    (folder / f"{name}.counts.tsv.gz").write_bytes(gzip.compress(raw))
    size = int(PITCH_PX * (side + 4))
    Image.new("RGB", (size, size), "pink").save(folder / f"{name}.jpg")
    return counts[lost:]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("C2", "C3", "C4", "C5"):
        genes = GENES if name != "C3" else ("OTHER", *GENES)
        write_section(tmp_path / "her2st", name, genes=genes)
    return tmp_path / "her2st"


def coverage(section: her2st.Section, regions: list[her2st.Region]) -> np.ndarray:
    """How many polygons hold each spot's centre."""
    hits = np.zeros(len(section.pixel_xy), dtype=int)
    for region in regions:
        image = Image.new("1", (400, 400))
        ImageDraw.Draw(image).polygon([tuple(p) for p in region.polygon], fill=1)
        mask = np.asarray(image)
        x, y = np.round(section.pixel_xy).astype(int).T
        hits += mask[y, x]
    return hits


def test_section_is_joined_and_scaled(folder: Path) -> None:
    section = her2st.read_section(folder, "C2")
    assert section.mpp == pytest.approx(200 / PITCH_PX)
    assert section.unmatched == 2
    assert section.counts.shape == (62, 4)


def test_regions_take_every_spot_once(folder: Path) -> None:
    section = her2st.read_section(folder, "C2")
    regions = her2st.cut_regions(section, (240, 240))
    assert sorted(np.concatenate([region.spots for region in regions])) == list(range(62))
    assert all(4 <= len(region.spots) <= 10 for region in regions)
    # integer vertices: a centre on the border may be drawn by two
    hits = coverage(section, regions)
    assert (hits >= 1).all()
    assert (hits == 1).mean() > 0.9


def area_of(polygon: list[list[int]]) -> float:
    x, y = np.array(polygon, dtype=float).T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


@settings(deadline=None, max_examples=50)
@given(cells=st.sets(st.tuples(st.integers(0, 14), st.integers(0, 14)), min_size=7, max_size=150))
def test_regions_of_any_shape_do_not_overlap(cells: set[tuple[int, int]]) -> None:
    grid = np.array(sorted(cells), dtype=float) + 2
    section = her2st.Section(
        name="C2",
        image=Path("C2.jpg"),
        array_xy=grid,
        pixel_xy=grid * PITCH_PX,
        counts=np.ones((len(grid), 1), dtype=int),
        genes=["G"],
        slope=np.array([PITCH_PX, PITCH_PX]),
        offset=np.zeros(2),
        unmatched=0,
    )
    regions = her2st.cut_regions(section, (400, 400))
    assert sorted(np.concatenate([region.spots for region in regions])) == list(range(len(grid)))
    assert (coverage(section, regions) == 1).all()
    # the cells of a grid are 20 px wide with whole-pixel borders: overlap would show in the sum
    drawn = np.zeros((440, 440), dtype=int)
    for region in regions:
        image = Image.new("1", (440, 440))
        inner = np.array(region.polygon, dtype=float)
        centre = inner.mean(axis=0)
        ImageDraw.Draw(image).polygon([tuple(p) for p in centre + (inner - centre) * 0.97], fill=1)
        drawn += np.asarray(image)
    assert drawn.max() == 1
    assert sum(area_of(region.polygon) for region in regions) >= 0.99 * len(grid) * PITCH_PX**2


def test_counts_are_summed_and_normalised(folder: Path) -> None:
    result = her2st.read_her2st(folder)
    assert result.expression.columns == ["sample_id", "A1BG", "ESR1", "TP53"]
    section = her2st.read_section(folder, "C3")
    region = her2st.cut_regions(section, (240, 240))[0]
    total = section.counts[region.spots].sum(axis=0)
    expected = np.log2(total / total.sum() * 1e6 + 1)[section.genes.index("ESR1")]
    row = result.expression.filter(pl.col("sample_id") == "C3-r01")
    assert row["ESR1"][0] == pytest.approx(expected, rel=1e-6)
    assert [row["slide_id"] for row in result.dropped] == ["C2", "C3", "C4", "C5"]
    polygons = [json.loads(area) for area in result.slides["area"]]
    assert all(len(polygon) >= 4 for polygon in polygons)


def test_cohort_leaves_one_section_out(folder: Path, tmp_path: Path) -> None:
    source = {"source": "her2st", "path": str(folder), "split_unit": "section"}
    freeze.freeze_cohort("her2st", source, config.defaults("folds", n=4), 1, tmp_path / "out")
    summary = read_json(tmp_path / "out" / "cohort.json")
    assert summary["caveat"] == "within one patient, adjacent sections: no claim about patients"
    assert summary["n_patients"] == 1
    folds = pl.read_csv(tmp_path / "out" / "splits.tsv", separator="\t")
    assert folds["fold"].n_unique() == 4
    counts = folds.group_by("fold", "part").len().sort("fold", "part")
    assert counts["len"].to_list() == [1, 2, 1] * 4


def test_sections_of_several_patients_have_another_caveat(folder: Path, tmp_path: Path) -> None:
    write_section(folder, "D1")
    source = {"source": "her2st", "path": str(folder), "split_unit": "section"}
    freeze.freeze_cohort("her2st", source, config.defaults("folds", n=5), 1, tmp_path / "out")
    summary = read_json(tmp_path / "out" / "cohort.json")
    assert (summary["n_patients"], summary["caveat"]) == (2, freeze.CAVEAT)


def test_patients_must_be_given_up_by_name(folder: Path, tmp_path: Path) -> None:
    source = {"source": "her2st", "path": str(folder)}
    with pytest.raises(ConfigError, match="1 split unit"):
        freeze.freeze_cohort("her2st", source, config.defaults("folds", n=4), 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_gene_list(folder: Path, tmp_path: Path) -> None:
    source = {"source": "her2st", "path": str(folder), "split_unit": "section"}
    source["genes"] = str(tmp_path / "genes.txt")
    folds = config.defaults("folds", n=4)
    (tmp_path / "genes.txt").write_text("gene\nESR1\n")
    freeze.freeze_cohort("her2st", source, folds, 1, tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "expression.parquet").columns[1:] == ["ESR1"]
    (tmp_path / "genes.txt").write_text("gene\nRARE\n")
    with pytest.raises(SheetError, match="RARE"):
        freeze.freeze_cohort("her2st", source, folds, 1, tmp_path / "out")


def respoil(folder: Path, old: str, new: str) -> None:
    """Change a word of C3's counts."""
    path = folder / "C3.counts.tsv.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    assert old in text
    path.write_bytes(gzip.compress(text.replace(old, new).encode()))


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "C3.jpg").unlink(), "no readable image"),
        (lambda f: (f / "C3.jpg").write_text("no"), "no readable image"),
        (lambda f: respoil(f, "\n2x5\t", "\n3x5\t"), "twice"),
        (lambda f: respoil(f, "\n2x5\t", "\n2x5\t-"), "her2st/C3"),
        (lambda f: respoil(f, "\n2x5\t", "\n2x5\t0."), "her2st/C3"),
        (lambda f: (f / "C3.counts.tsv.gz").unlink(), "her2st/C3"),
        (lambda f: (f / "C3.counts.tsv.gz").write_bytes(b"junk"), "her2st/C3"),
        (lambda f: edit(f / "C3.spots.tsv", "new_x", "other"), "column 'new_x' is missing"),
        (lambda f: edit(f / "C3.spots.tsv", "\n2\t", "\nx\t"), "C3"),
        (lambda f: [path.unlink() for path in f.glob("*.tsv")], "no SECTION.spots.tsv"),
    ],
)
def test_bad_folders(folder: Path, spoil, message: str) -> None:
    spoil(folder)
    with pytest.raises(SheetError) as caught:
        her2st.read_her2st(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
