"""External validation: files and cohorts that do not belong together are refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import evaluated
import external_cohorts
import polars as pl
import pytest
import zarr
from slide2rna.core import config
from slide2rna.core.errors import ConfigError, LeakError, StageError
from slide2rna.storage import parquet
from slide2rna.studies.external import external

SETTINGS = config.defaults("evaluate", bootstrap=60, permutations=20, top=[50, 20])


def run(inputs: external.ExternalInputs, out: Path) -> dict[str, pl.DataFrame]:
    external.evaluate(inputs, "lite0-flow-go-bp", out, SETTINGS, 1, 1)
    return evaluated.tables(out)


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    pair = external_cohorts.make(tmp_path)
    for paths, numbers in (
        (pair.inputs.external[:2], r"folds \[0, 1\], the training cohort has \[0, 1, 2\]"),
        ([*pair.inputs.external[:2], pair.inputs.external[0]], r"folds \[0, 0, 1\]"),
    ):
        with pytest.raises(StageError, match=numbers):
            run(replace(pair.inputs, external=paths), tmp_path / "o")
    store = zarr.open_group(pair.inputs.external[1], mode="r")
    arrays = {name: store[name][:] for name in ("draws", "point", "point_spread")}
    slides, genes = list(store.attrs["slide_ids"]), list(store.attrs["genes"])
    fewer = tmp_path / "fewer.zarr"
    external_cohorts.write(fewer, slides, genes, 1, arrays | {"draws": arrays["draws"][:, :4]})
    mixed = [pair.inputs.external[0], fewer, pair.inputs.external[2]]
    with pytest.raises(StageError, match=r"\[8, 4, 8\] draws per slide"):
        run(replace(pair.inputs, external=mixed), tmp_path / "o")
    external_cohorts.write(
        fewer, slides[1:], genes, 1, {name: values[1:] for name, values in arrays.items()}
    )
    with pytest.raises(StageError, match="its slides differ"):
        run(replace(pair.inputs, external=mixed), tmp_path / "o")
    external_cohorts.write(fewer, slides, genes[::-1], 1, arrays)
    with pytest.raises(StageError, match="genes differ"):
        run(replace(pair.inputs, external=mixed), tmp_path / "o")


def test_cohorts_that_share_files_or_no_gene_are_refused(tmp_path: Path) -> None:
    pair = external_cohorts.make(tmp_path)
    table = pl.read_parquet(pair.test.inputs.expression)
    other = table.rename({name: f"X{name}" for name in table.columns[1:]})
    parquet.write(other, pair.test.inputs.expression)
    with pytest.raises(StageError, match=r"none of the models' 120 genes \(GENE0000"):
        run(pair.inputs, tmp_path / "o")
    parquet.write(table, pair.test.inputs.expression)
    for made in (pair.train, pair.test):
        slides = pl.read_parquet(made.inputs.slides)
        files = pl.int_range(pl.len()).cast(pl.String).alias("md5")
        parquet.write(slides.with_columns(files), made.inputs.slides)
    with pytest.raises(LeakError, match="slide P000-A is the same file as Q000-A"):
        run(pair.inputs, tmp_path / "o")


@pytest.mark.parametrize(
    ("pair_of", "words"),
    [
        ({"train": "a", "test": "c"}, "there is no cohort 'c'; cohorts are a, b"),
        ({"train": "a", "test": "a"}, "external: a on a"),
        ({"train": "a", "test": "b"}, "bags.k is 100 in a and 16 in b"),
        ({"train": "a", "test": "d"}, "features.encoder is lite0 in a and color in d"),
        ({"train": "a"}, "'test' is a required property"),
        ({"train": "a", "test": "b", "k": 1}, "unknown key 'k'"),
    ],
)
def test_pairs_that_cannot_be_scored_are_one_line(pair_of: dict[str, str], words: str) -> None:
    cohorts = {
        "a": {"source": "demo"},
        "b": {"source": "demo", "settings": {"bags": {"k": 16}}},
    }
    if pair_of.get("test") == "d":
        cohorts["d"] = {"source": "demo", "settings": {"features": {"encoder": "color"}}}
    with pytest.raises(ConfigError) as caught:
        config.validate({"cohorts": cohorts, "external": [pair_of]})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
