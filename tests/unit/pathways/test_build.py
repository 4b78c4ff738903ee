"""Gene sets: GO propagation, pruning, cover, the alternatives to GO, and the overlap graph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slide2rna.core import config
from slide2rna.core.errors import PathwayError
from slide2rna.pathways import build, membership

GENES = ["A", "B", "C", "D", "E", "F"]


@pytest.fixture(scope="module")
def go(repo: Path) -> Path:
    return repo / "resources" / "go"


def gmt(folder: Path, text: str) -> str:
    path = folder / "sets.gmt"
    path.write_text(text)
    return str(path)


def options(**changes: object) -> config.Settings:
    return config.defaults("pathways", **({"min_genes": 1} | changes))


def test_go_propagates_all_relations(go: Path) -> None:
    """TP53's direct terms reach an ancestor that only a `regulates` edge leads to."""
    genes = ["TP53", "MDM2", "BAX", "CDKN1A", "CCND1", "EGFR", "no such gene"]
    sets, names, report = build.build_pathways(options(max_genes=7, max_jaccard=1), genes, go)
    by_name = dict(zip(names, sets.index, strict=True))
    assert "negative regulation of cell population proliferation" in names
    # is_a alone stops at "regulation of ..."; the process itself is reached by regulates.
    assert 0 in by_name["cell population proliferation"]
    assert "biological_process" not in names
    assert report["release"] == "GO 2022-07-01"
    assert sets.background.tolist() == [6]
    assert set(sets.names) == {name for name in sets.names if name.startswith("GO:")}


def test_go_molecular_functions(go: Path) -> None:
    """MDM2 is a ubiquitin ligase, EGFR a kinase; what EGFR's term is a kind of has both genes."""
    genes = ["MDM2", "EGFR", "no such gene"]
    sets, names, report = build.build_pathways(options(source="go-mf", max_jaccard=1), genes, go)
    by_name = {name: index.tolist() for name, index in zip(names, sets.index, strict=True)}
    assert by_name["protein tyrosine kinase activity"] == [1]
    assert by_name["ubiquitin protein ligase activity"] == [0]
    assert by_name["catalytic activity"] == [0, 1]
    assert "molecular_function" not in names
    assert "cell population proliferation" not in names
    assert report["source"] == "go-mf"


def test_go_takes_ensembl_ids(go: Path) -> None:
    one, _, _ = build.build_pathways(options(), ["TP53", "EGFR"], go)
    other, _, _ = build.build_pathways(options(), ["ENSG00000141510.16", "ENSG00000146648"], go)
    assert one.names == other.names


def test_limits_prune_and_count(tmp_path: Path, go: Path) -> None:
    text = "one\td\tA\tB\nsame\td\tB\tA\nnear\td\tA\tB\tC\n"
    text += "big\td\tA\tB\tC\tD\tE\nfar\td\tD\tE\tZ\nsmall\td\tF\n"
    source = gmt(tmp_path, text)
    sets, _, report = build.build_pathways(
        options(source=source, min_genes=2, max_genes=4, max_jaccard=0.6), GENES, go
    )
    assert sets.names == ["one", "far"]
    assert report["dropped"] == {
        "too_small": 1,
        "too_large": 1,
        "redundant": 2,
        "beyond_max_sets": 0,
    }
    assert sets.background.tolist() == [2, 5]
    assert report["edges"] == 0
    assert not sets.adjacency[0, 1]


def test_a_probe_set_counts_as_each_of_its_genes(
    tmp_path: Path, go: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Affymetrix joins genes with three slashes; a name with a blank is said to match nothing."""
    source = gmt(tmp_path, "one\td\tA /// B\tC\ntwo\td\tD,1.0\tHLA E\tE\n")
    sets, _, _ = build.build_pathways(options(source=source), GENES, go)
    assert [index.tolist() for index in sets.index] == [[0, 1, 2], [3, 4]]
    assert "1 names hold a blank, such as 'HLA E'" in caplog.text


def test_dense_graph_warns(tmp_path: Path, go: Path) -> None:
    source = gmt(tmp_path, "one\td\tA\tB\ntwo\td\tA\tC\nthree\td\tA\tD\n")
    _, _, report = build.build_pathways(options(source=source), GENES, go)
    assert report["edge_density"] == 1
    assert report["warning"]


def test_max_sets_covers_most_genes(tmp_path: Path, go: Path) -> None:
    source = gmt(tmp_path, "a\td\tA\tB\tC\nb\td\tA\tB\nc\td\tD\tE\nd\td\tC\tD\n")
    sets, _, report = build.build_pathways(options(source=source, max_sets=2), GENES, go)
    assert sets.names == ["a", "c"]
    assert report["dropped"]["beyond_max_sets"] == 2
    three, _, _ = build.build_pathways(options(source=source, max_sets=3), GENES, go)
    assert three.names == ["a", "b", "c"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 11), min_size=1), min_size=1, max_size=14),
    st.floats(0.1, 1),
)
def test_prune_keeps_no_near_copies_and_drops_only_those(
    members: list[set[int]], limit: float
) -> None:
    index = [np.array(sorted(one)) for one in members]
    kept = set(build.prune(index, 12, limit).tolist())

    def jaccard(i: int, j: int) -> float:
        return len(members[i] & members[j]) / len(members[i] | members[j])

    for i in range(len(members)):
        rivals = [j for j in kept if j != i and jaccard(i, j) > limit]
        if i in kept:
            assert not rivals
        else:
            assert any(len(members[j]) <= len(members[i]) for j in rivals)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 11), min_size=1), min_size=1, max_size=14), st.integers(1, 14)
)
def test_graph_and_background_follow_their_definitions(
    members: list[set[int]], max_sets: int
) -> None:
    index = [np.array(sorted(one)) for one in members]
    found = membership.Pathways([str(i) for i in range(len(index))], index, 12)
    for i, one in enumerate(members):
        for j, other in enumerate(members):
            assert found.adjacency[i, j] == (i == j or bool(one & other))
    assert set(found.background.tolist()) == set(range(12)) - set().union(*members)
    assert len(build.cover(index, 12, max_sets)) == min(max_sets, len(index))


def test_adjacent_is_a_partition_in_alphabetical_order(go: Path) -> None:
    genes = [f"g{i:02d}" for i in range(25)][::-1]
    sets, _, _ = build.build_pathways(options(source="adjacent"), genes, go)
    assert [len(one) for one in sets.index] == [10, 10, 5]
    assert sorted(genes[i] for i in sets.index[0]) == [f"g{i:02d}" for i in range(10)]
    assert len(sets.background) == 0


def test_json_of_names(tmp_path: Path, go: Path) -> None:
    path = tmp_path / "sets.json"
    path.write_text(json.dumps({"one": ["A", "B", "Z"], "UNMAPPED": ["F"], "UNCLASSIFIED": ["A"]}))
    sets, _, _ = build.build_pathways(options(source=str(path)), GENES, go)
    assert sets.names == ["one"]
    assert sets.index[0].tolist() == [0, 1]


def test_indices_need_the_published_gene_list(tmp_path: Path, go: Path) -> None:
    path = tmp_path / "sets.json"
    path.write_text(json.dumps({"one": [0, 1]}))
    with pytest.raises(PathwayError, match=r"20,820 genes.* 6"):
        build.build_pathways(options(source=str(path)), GENES, go)


@pytest.mark.parametrize(
    ("source", "text", "message"),
    [
        ("nowhere.gmt", None, "no such file"),
        ("x.gmt", "one\tdescription\n", "line 1: .*three"),
        ("x.gmt", "one\td\tA\none\td\tB\n", "line 2: .*'one'"),
        ("x.gmt", "one\td\tQ\n", "no gene set"),
        ("x.json", "[1, 2]", "object of lists"),
        ("x.json", "{", "JSON object"),
    ],
)
def test_bad_sources(tmp_path: Path, go: Path, source: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / source).write_text(text)
        source = str(tmp_path / source)
    with pytest.raises(PathwayError, match=message):
        build.build_pathways(options(source=source), GENES, go)


def test_missing_snapshot(tmp_path: Path) -> None:
    with pytest.raises(PathwayError, match="resources/go"):
        build.build_pathways(options(), GENES, tmp_path)


def test_table_there_and_back(tmp_path: Path, go: Path) -> None:
    sets, names, _ = build.build_pathways(
        options(source=gmt(tmp_path, "b\td\tE\tA\na\td\tB\n")), GENES, go
    )
    path = tmp_path / "sets.parquet"
    build.pathways_table(sets, names, GENES).write_parquet(path)
    found = membership.read_pathways(path, GENES)
    assert found.names == ["b", "a"]
    assert [one.tolist() for one in found.index] == [[0, 4], [1]]
    with pytest.raises(PathwayError, match="1 genes"):
        membership.read_pathways(path, GENES[:4])
    with pytest.raises(PathwayError, match=r"scripts/pathways\.py"):
        membership.read_pathways(tmp_path / "absent.parquet", GENES)


def test_command(tmp_path: Path, repo: Path) -> None:
    import runpy

    table = pl.DataFrame({"sample_id": ["s"]} | {gene: [1.0] for gene in GENES})
    table.write_parquet(tmp_path / "expression.parquet")
    source = gmt(tmp_path, "one\td\tA\tB\n")
    out = tmp_path / "pathways" / "sets.parquet"
    main = runpy.run_path(str(repo / "scripts" / "pathways.py"))["main"]
    argv = ["--expression", str(tmp_path / "expression.parquet"), "--out", str(out)]
    main([*argv, "--settings", json.dumps({"source": source, "min_genes": 2})])
    assert pl.read_parquet(out).columns == ["pathway", "name", "gene"]
    assert json.loads(out.with_suffix(".json").read_text())["memberships"] == 2


def test_published_file(shared_data: Path, go: Path) -> None:
    """380 sets of up to 16,674 genes, 63 % of all pairs connected (SPEC item 7)."""
    genes = (shared_data / "genes" / "gene_list_20820.csv").read_text().split()[1:]
    source = str(shared_data / "published" / "all_gene_indices_molecular_function.json")
    wide = options(source=source, max_genes=20_000, max_jaccard=1)
    _, _, report = build.build_pathways(wide, genes, go)
    assert (report["P"], report["largest"], report["background"]) == (380, 16_674, 3_334)
    assert report["edge_density"] == pytest.approx(0.633, abs=1e-3)
