"""Names of genes and gene sets: found as people write them, or refused with near ones."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from map_models import GENES, SETS, gene_table, pathway_table
from slide2rna.core.errors import ConfigError
from slide2rna.maps import targets
from slide2rna.maps.targets import Targets


def choose(genes: list[str], pathways: list[str] | None = None, score: str = "zscore") -> Targets:
    return targets.choose_targets(gene_table(), pathway_table(), genes, pathways or [], score)


def test_commas_spaces_and_case() -> None:
    found = choose(["G03, g04", "ERBB2"], ["second,GO:3", "First, with a comma"])
    assert found.genes == ["G03", "G04", "ERBB2"]
    assert found.pathways == ["GO:2", "GO:3", "GO:1"]
    assert found.kinds == ["gene"] * 3 + ["pathway"] * 3
    assert found.titles["pathway", "GO:1"] == "first, with a comma (GO:1)"
    assert found.titles["pathway", "GO:3"] == "GO:3"
    assert [GENES[row] for row in found.rows] == found.genes


def test_a_name_twice_is_mapped_once() -> None:
    assert choose(["G03", "g03,G03"]).names == ["G03"]


@pytest.mark.parametrize(
    ("genes", "pathways", "message"),
    [
        (
            ["ERBB3"],
            [],
            r"--genes: .*ERBB3 \(near: ERBB2\);.* 24",
        ),
        (["ERBB3", "zzzz"], [], r"ERBB3 \(near: ERBB2\), zzzz; "),
        ([], ["secnd"], r"--pathways: .*secnd \(near: second\)"),
        ([], [], "--genes"),
        ([""], [], "--genes"),
        ([","], [" , ", ""], "--genes"),
    ],
)
def test_unknown_names_are_one_line_with_near_ones(
    genes: list[str], pathways: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        choose(genes, pathways)
    assert "\n" not in str(error.value)


def test_a_gene_and_a_set_of_one_name_stay_apart() -> None:
    sets = pathway_table().with_columns(
        pathway=pl.col("pathway").replace("GO:3", "G03"), name=pl.col("name").replace("GO:3", "G03")
    )
    found = targets.choose_targets(gene_table(), sets, ["G03"], ["G03"])
    assert found.keys == [("gene", "G03"), ("pathway", "G03")]
    assert found.titles == {("gene", "G03"): "G03", ("pathway", "G03"): "G03 (gene set)"}


def test_a_set_whose_genes_never_vary_is_refused() -> None:
    flat = gene_table().with_columns(sd=np.where(np.isin(GENES, ["G03", "G04", "G05"]), 0.0, 0.8))
    with pytest.raises(ConfigError, match="GO:2"):
        targets.choose_targets(flat, pathway_table(), [], ["GO:2"])


def test_scores_are_those_of_a_whole_profile() -> None:
    rng = np.random.default_rng(0)
    profiles = rng.normal(6, 1, size=(2, 5, len(GENES))).astype(np.float32)
    found = choose(["G07"], ["GO:3", "GO:1"]).values(profiles)
    assert found.shape == (2, 5, 3)
    z = (profiles - gene_table()["mean"].to_numpy()) / 0.8
    assert found[..., 0] == pytest.approx(profiles[..., 7])
    assert found[..., 1] == pytest.approx(z[..., SETS["GO:3"]].mean(axis=-1), abs=1e-5)
    assert found[..., 2] == pytest.approx(z[..., SETS["GO:1"]].mean(axis=-1), abs=1e-5)
    ranked = choose([], ["GO:1"], "ssgsea").values(profiles)
    raised = profiles.copy()
    raised[..., SETS["GO:1"]] += 5
    assert (choose([], ["GO:1"], "ssgsea").values(raised) > ranked).all()
