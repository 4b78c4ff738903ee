"""Genes of the law: the choice from the Gene Ontology, its modules, and the file that it wrote."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import hypergeom
from slide2rna.pathways import sources
from slide2rna.simulate import genes, ground_truth
from slide2rna.simulate.ground_truth import CLASSES, Law


@pytest.fixture(scope="module")
def truth() -> Law:
    return ground_truth.load_law()


def test_genes(truth: Law) -> None:
    """At least 2,000 genes, 45 % of which follow a class, in the sizes that the chooser states."""
    assert len(set(truth.genes)) == len(truth.genes) == genes.N_GENES >= 2000
    assert list(truth.genes) == sorted(truth.genes)
    for module, (_, size) in genes.MODULES.items():
        assert truth.modules.count(module) == size
    depends = truth.profiles.std(1) > 1e-9
    np.testing.assert_array_equal(depends, np.isin(truth.modules, CLASSES))


def test_modules_share_annotations(truth: Law, repo: Path) -> None:
    """A module's genes share GO's processes, read by the reader of the pathways, not the chooser.

    Every module gene is below one of its module's roots and no `none` gene is; each module's best
    root is enriched beyond what chance among 16,000 terms could explain.
    """
    sets = sources.gene_ontology(repo / "resources" / "go", truth.genes, "go-bp")
    members = dict(zip(sets.descriptions, sets.index, strict=True))
    modules = np.array(truth.modules)
    for module, (roots, size) in genes.MODULES.items():
        below = np.unique(np.concatenate([members[root] for root in roots]))
        own = modules[below] == module
        assert own.sum() == size, module
        assert not (modules[below] == "none").any(), module
        chance = [
            hypergeom.sf(
                (modules[members[root]] == module).sum() - 1,
                len(modules),
                size,
                len(members[root]),
            )
            for root in roots
        ]
        assert min(chance) < 1e-30, module
    immune = members["adaptive immune response"]
    assert (modules[immune] == "lymphocytes").mean() > 0.8


def chosen(repo: Path, gene_list: Path) -> list[tuple[str, str]]:
    go = repo / "resources" / "go"
    return genes.choose(go / sources.OBO, go / sources.ASPECTS["go-bp"][0], gene_list)


def test_chooser_keeps_its_own_choice(truth: Law, repo: Path, tmp_path: Path) -> None:
    """Given its own genes the chooser takes all and gives each the same module."""
    path = tmp_path / "genes.csv"
    path.write_text("\n".join(["gene", *reversed(truth.genes)]) + "\n")
    assert chosen(repo, path) == list(zip(truth.genes, truth.modules, strict=True))


def test_chooser_repeats_the_file(repo: Path, shared_data: Path, tmp_path: Path) -> None:
    """From the 20,820 genes of the paper the chooser writes genes.tsv byte by byte."""
    go, out = repo / "resources" / "go", tmp_path / "genes.tsv"
    gene_list = shared_data / "genes" / "gene_list_20820.csv"
    genes.main(
        str(go / sources.OBO), str(go / sources.ASPECTS["go-bp"][0]), str(gene_list), str(out)
    )
    assert out.read_bytes() == (ground_truth.FILE.parent / "genes.tsv").read_bytes()
    with open(out, encoding="utf-8", newline="") as handle:
        assert len(list(csv.DictReader(handle, delimiter="\t"))) == genes.N_GENES
