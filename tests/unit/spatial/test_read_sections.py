"""Sections from every source: the same spots and counts come back, and faults are named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse
from slide2rna.core.errors import SheetError
from slide2rna.spatial import read_sections
from slide2rna.spatial.read_sections import Source
from slide_factory import picture

SIDE, STEP = 8, 120  # spots per edge, px between them: 200 um, so 1.67 um/px
GRID = np.stack(np.divmod(np.arange(SIDE * SIDE), SIDE), axis=1)[:, ::-1]
XY = GRID * STEP + 580.0
GENES = ["TP53", "ESR1", "MT-CO1"]
COUNTS = np.random.default_rng(1).poisson(4, (len(XY), 3)) + 1
NAMES = [f"{x}x{y}" for x, y in GRID]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.fromarray(picture(2000, 2000)).save(path)
    return path


def as_text(folder: Path) -> Source:
    rows = [f"{name}\t" + "\t".join(map(str, row)) for name, row in zip(NAMES, COUNTS, strict=True)]
    text = "\n".join(["\t".join(["", *GENES]).replace("", "spot", 1), *rows])
    (folder / "a.counts.tsv.gz").write_bytes(gzip.compress(text.encode()))
    head = "x\ty\tnew_x\tnew_y\tpixel_x\tpixel_y"
    lines = [
        f"{x}\t{y}\t{x + 0.01}\t{y}\t{px}\t{py}"
        for (x, y), (px, py) in zip(GRID[::-1], XY[::-1], strict=True)
    ]
    (folder / "a.spots.tsv").write_text("\n".join([head, *lines]))
    counts, spots = folder / "a.counts.tsv.gz", folder / "a.spots.tsv"
    return Source("a", "P1", folder / "a.png", counts, spots, pitch_um=200.0)


def as_anndata(folder: Path) -> Source:
    data = anndata.AnnData(np.log1p(COUNTS), pd.DataFrame(index=NAMES), pd.DataFrame(index=GENES))
    data.layers["counts"] = sparse.csr_matrix(COUNTS)
    data.obsm["spatial"] = XY
    data.write_h5ad(folder / "a.h5ad")
    return Source("a", "P1", folder / "a.png", folder / "a.h5ad", pitch_um=200.0)


def as_space_ranger(folder: Path) -> Source:
    outs = folder / "outs"
    (outs / "spatial").mkdir(parents=True)
    names = [*NAMES, "off"]
    # One symbol with two features: their counts are added up.
    counts = np.vstack(
        [np.column_stack([COUNTS[:, 0] - 1, COUNTS[:, 1:], np.ones(64)]), np.ones(4)]
    )
    matrix = sparse.csc_matrix(counts.T.astype(np.int64))
    with h5py.File(outs / "filtered_feature_bc_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        group["data"], group["indices"] = matrix.data, matrix.indices
        group["indptr"], group["shape"] = matrix.indptr, np.array(matrix.shape)
        group["barcodes"] = [name.encode() for name in names]
        group["features/name"] = [name.encode() for name in (*GENES, GENES[0])]
    rows = [
        f"{name},{int(name != 'off')},{y},{x},{py},{px}"
        for name, (x, y), (px, py) in zip(names, [*GRID, (0, 0)], [*XY, (9, 9)], strict=True)
    ]
    head = "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres"
    (outs / "spatial" / "tissue_positions.csv").write_text("\n".join([head, *rows]))
    return Source("a", "P1", folder / "a.png", outs, pitch_um=200.0)


@pytest.mark.parametrize("write", [as_text, as_anndata, as_space_ranger])
def test_every_source_gives_the_same_section(
    tmp_path: Path, image: Path, write: Callable[[Path], Source]
) -> None:
    (found,) = read_sections.read([write(tmp_path)])
    assert found.image == image
    kept = [NAMES.index(name) for name in found.spot_ids]
    assert len(kept) > 40
    assert len(kept) + len(found.dropped) == len(NAMES)
    np.testing.assert_allclose(found.pixel_xy, XY[kept])
    order = [found.genes.index(gene) for gene in GENES]
    np.testing.assert_array_equal(found.counts.toarray()[:, order], COUNTS[kept])
    assert found.mpp == pytest.approx(200 / STEP)
    assert found.pitch_um == 200


def test_scaled_positions(tmp_path: Path, image: Path) -> None:
    """Positions of an image three times as large, and the factor that the user gives."""
    source = as_text(tmp_path)
    text = source.spots.read_text().splitlines()  # type: ignore[union-attr]
    rows = [line.split("\t") for line in text]
    for row in rows[1:]:
        row[4:] = [str(3 * float(value)) for value in row[4:]]
    source.spots.write_text("\n".join("\t".join(row) for row in rows))  # type: ignore[union-attr]
    with pytest.raises(SheetError, match=r"scale the positions by about 0\.3"):
        list(read_sections.read([source]))
    table = tmp_path / "sections.tsv"
    columns = "section\tpatient\timage\tcounts\tspots\tscale\tpitch_um"
    row = "a\tP1\ta.png\ta.counts.tsv.gz\ta.spots.tsv\t0.33333333\t200"
    table.write_text(f"{columns}\n{row}\n")
    (found,) = read_sections.read(read_sections.from_table(table))
    np.testing.assert_allclose(found.mpp, 200 / STEP, rtol=1e-4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("section\tpatient\timage\na\tP\ta.png\n", "column 'counts' is missing"),
        ("section\tpatient\timage\tcounts\na\t\ta.png\tx\n", "line 2: patient is empty"),
        ("section\tpatient\timage\tcounts\n../a\tP\ta.png\tx\n", "can't be a file name"),
        ("section\tpatient\timage\tcounts\na\tP\tb\tx\na\tP\tb\tx\n", "lines 2, 3"),
        ("section\tpatient\timage\tcounts\tscale\na\tP\tb\tx\t-1\n", "scale isn't a positive"),
    ],
)
def test_faults_of_the_table(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "sections.tsv"
    path.write_text(text)
    with pytest.raises(SheetError, match=words):
        read_sections.from_table(path)


def test_spots_that_do_not_join_show_both_names(tmp_path: Path, image: Path) -> None:
    source = as_text(tmp_path)
    text = source.spots.read_text()  # type: ignore[union-attr]
    lines = [
        f"{n}\t{line}"
        for n, line in zip(
            ["spot", *("AA" + str(i) for i in range(64))], text.splitlines(), strict=True
        )
    ]
    source.spots.write_text("\n".join(lines))  # type: ignore[union-attr]
    with pytest.raises(SheetError) as error:
        list(read_sections.read([source]))
    assert "0x0" in str(error.value)
    assert "AA0" in str(error.value)


def test_normalised_values_are_no_counts(tmp_path: Path, image: Path) -> None:
    source = as_anndata(tmp_path)
    data = anndata.read_h5ad(source.counts)
    del data.layers["counts"]
    data.write_h5ad(source.counts)
    with pytest.raises(SheetError, match="isn't a count"):
        list(read_sections.read([source]))


def test_without_a_pitch_nothing_is_guessed(tmp_path: Path, image: Path) -> None:
    source = as_anndata(tmp_path)
    blind = Source(source.section, source.patient, source.image, source.counts)
    with pytest.raises(SheetError, match="give pitch_um"):
        list(read_sections.read([blind]))


def test_hest_and_her2st_folders(tmp_path: Path, image: Path) -> None:
    for part in ("st", "wsis", "metadata"):
        (tmp_path / part).mkdir()
    as_anndata(tmp_path).counts.rename(tmp_path / "st" / "TENX1.h5ad")
    Image.open(image).save(tmp_path / "wsis" / "TENX1.tif")
    facts = tmp_path / "metadata" / "TENX1.json"
    facts.write_text(json.dumps({"inter_spot_dist": 200.0}))
    with pytest.raises(SheetError, match="names no patient"):
        read_sections.from_hest(tmp_path)
    facts.write_text(json.dumps({"inter_spot_dist": 200.0, "patient": "P7"}))
    (source,) = read_sections.from_hest(tmp_path)
    assert (source.section, source.patient, source.pitch_um) == ("TENX1", "P7", 200.0)
    assert len(next(read_sections.read([source])).spot_ids) > 40

    as_text(tmp_path)
    with pytest.raises(SheetError, match="no SECTION"):
        read_sections.from_her2st(tmp_path)
    Image.open(image).save(tmp_path / "a.jpg", quality=95)
    (source,) = read_sections.from_her2st(tmp_path)
    assert (source.section, source.patient) == ("a", "a")
