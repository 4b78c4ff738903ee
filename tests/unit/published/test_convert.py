"""Published checkpoints into folders and back: against the oracle, and bit for bit."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import flow_cohort
import numpy as np
import polars as pl
import pytest
import torch
from numerics import difference
from published_files import (
    BACKGROUND,
    GENES,
    HEADS,
    INDEX,
    REPO,
    SETS,
    D,
    K,
    files,
    forward,
    main,
    published_velocity,
    read,
    state_of,
    stored_args,
    weights,
)
from slide2rna.core.errors import UserError, WeightsError
from slide2rna.models import checkpoint
from slide2rna.published import weight_names
from slide2rna.storage import parquet
from velocity_models import CASES, build, fast, inputs, pathways

torch.set_num_threads(1)
__all__ = ["files"]  # the fixture


@pytest.mark.parametrize(
    ("source", "options"),
    [("whole.pt", ()), ("whole.pt", ("--weights", "model")), ("bare.pt", ("--heads", str(HEADS)))],
    ids=["ema", "raw", "bare"],
)
def test_converted_folder_equals_oracle(files: Path, source: str, options: tuple[str, ...]) -> None:
    model, meta = checkpoint.load_model(forward(files, source, "model", *options))
    state = state_of("model" if "model" in options else "ema")
    generator = torch.Generator().manual_seed(2)
    x, t = torch.randn(3, 14, generator=generator), torch.rand(3, generator=generator)
    y = torch.randn(3, K, D, generator=generator)
    null = state["empty_cond"].expand(3, -1, -1)
    with torch.no_grad():
        image = model.encode_image(y, torch.ones(3, K))
        for clusters, condition in ((y, image), (null, model.null_condition(3))):
            expected = published_velocity(state, x, t, clusters, BACKGROUND)
            assert expected.abs().max() > 0.3
            assert difference(model.velocity(x, t, condition), expected) < 1e-5
    assert meta["genes"] == GENES
    assert meta["pathways"]["names"] == list(SETS)
    assert (meta["features"], meta["clusters"], meta["interpolant"]) == (D, K, "linear")
    assert meta["settings"]["model"]["heads"] == HEADS


@pytest.mark.parametrize("weights_of", ["ema", "model"])
def test_there_and_back_is_exact(files: Path, weights_of: str) -> None:
    folder = forward(files, "whole.pt", "model", "--weights", weights_of)
    main([str(folder), str(files / "back.pt")])
    source, back = state_of(weights_of), read(files / "back.pt")
    for entry in ("model", "ema"):
        assert back[entry].keys() == source.keys()
        for name, value in source.items():
            assert back[entry][name].dtype == value.dtype
            assert torch.equal(back[entry][name], value), name
    # A checkpoint written back needs no --pathways and differs only in its statistics.
    main([str(files / "back.pt"), str(files / "again"), "--genes", str(files / "genes.csv")])
    (one, _), (other, _) = (checkpoint.load_model(path) for path in (folder, files / "again"))
    assert all(
        torch.equal(value, other.state_dict()[name])
        for name, value in one.state_dict().items()
        if name not in ("gene_mean", "gene_sd")
    )


def test_conversion_there_and_back() -> None:
    sets = pathways(*CASES["ragged"])
    model, other = (
        build(sets, skip="none", cluster_weights=False),
        build(sets, seed=5, skip="none", cluster_weights=False),
    )
    other.condition.load_state_dict(
        model.condition.state_dict()
        | {
            name: value
            for name, value in other.condition.state_dict().items()
            if not name.startswith("feature")
        }
    )
    published = weight_names.to_published(model)
    weight_names.from_published(other, published)
    back = weight_names.to_published(other)
    assert all(torch.equal(back[name], value) for name, value in published.items())
    args = inputs(model)
    with torch.no_grad():
        assert torch.equal(fast(model, *args), fast(other, *args))
    del published["blocks.0.mlp.fc1.weight"]
    with pytest.raises(WeightsError, match=r"blocks\.0\.mlp\.fc1\.weight"):
        weight_names.from_published(other, published)


@pytest.mark.parametrize("stored", [True, False], ids=["args", "bare"])
def test_background_that_shares_genes_with_sets(files: Path, stored: bool) -> None:
    """The published index file of molecular functions has 311 such genes."""
    torch.manual_seed(0)
    outside = [12, 8, 13, 3, 5]
    state = weights(list(SETS.values()), len(outside))
    whole = {"ema": state, "args": stored_args(bg_gene=torch.tensor(outside))}
    torch.save(whole if stored else state, files / "in.pt")
    (files / "index.json").write_text(json.dumps(SETS | {"UNCLASSIFIED": outside}))
    model, meta = checkpoint.load_model(forward(files, "in.pt"))
    assert meta["pathways"]["outside"] == sorted(outside)
    x, t, y = torch.randn(2, 14), torch.rand(2), torch.randn(2, K, D)
    with torch.no_grad():
        expected = published_velocity(state, x, t, y, outside)
        velocity = model.velocity(x, t, model.encode_image(y, torch.ones(2, K)))
    assert difference(velocity, expected) < 1e-5
    main([str(files / "model"), str(files / "back.pt")])
    back = read(files / "back.pt")["ema"]
    assert all(torch.equal(back[name], value) for name, value in state.items())


def test_no_background_goes_there_and_back(files: Path) -> None:
    """The published background layers are then there without columns, and are kept."""
    sets = {"a": [4, 0, 1], "b": [2, 1], "c": [5, 3]}
    state = weights(list(sets.values()), 0)
    torch.save(state, files / "none.pt")
    (files / "genes.csv").write_text("\n".join(GENES[:6]))
    (files / "index.json").write_text(json.dumps(sets))
    folder = forward(files, "none.pt", "none")
    assert checkpoint.load_model(folder)[0].final_layer.background is None
    main([str(folder), str(files / "back.pt")])
    back = read(files / "back.pt")["ema"]
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())


def test_a_converted_model_samples(tmp_path: Path) -> None:
    cohort = flow_cohort.make(tmp_path, {"train": 2, "val": 1, "cal": 1, "test": 1})
    table = pl.read_parquet(cohort.inputs.pathways)
    genes = [name for name in pl.read_parquet_schema(cohort.inputs.expression) if name[0] == "G"]
    sets = [group["gene"].to_list() for _, group in table.group_by("pathway", maintain_order=True)]
    index = [[genes.index(gene) for gene in members] for members in sets]
    outside = len(genes) - len(set(table["gene"]))
    torch.save(weights(index, outside, d=12, clusters=6), tmp_path / "in.pt")
    (tmp_path / "genes.txt").write_text("\n".join(genes))
    statistics = pl.DataFrame({"gene": genes[::-1], "mean": 7.5, "sd": 0.0})
    statistics.write_csv(tmp_path / "statistics.tsv", separator="\t")
    main(
        [
            *(str(tmp_path / "in.pt"), str(tmp_path / "model"), "--heads", "4"),
            *("--genes", str(tmp_path / "genes.txt")),
            *("--pathways", str(cohort.inputs.pathways)),
            *("--statistics", str(tmp_path / "statistics.tsv")),
        ]
    )
    names = ("bags", "slides", "splits")
    paths = [part for name in names for part in (f"--{name}", str(getattr(cohort.inputs, name)))]
    runpy.run_path(str(REPO / "scripts" / "sample.py"))["main"](
        [
            *("--model", str(tmp_path / "model"), *paths, "--fold", "0"),
            *("--out", str(tmp_path / "draws.zarr"), "--summary", str(tmp_path / "draws.parquet")),
            *("--settings", json.dumps({"draws": 3, "steps": 2, "mean_pairs": 1, "guidance": 2})),
        ]
    )
    drawn = pl.read_parquet(tmp_path / "draws.parquet").filter(pl.col("part") == "test")
    assert len(drawn) == 2 * len(genes)
    # A gene of sd 0 is its mean: the statistics were read by name.
    assert (drawn["mean"] == 7.5).all()


def test_statistics(files: Path) -> None:
    model, meta = checkpoint.load_model(forward(files))
    args = stored_args()
    assert torch.equal(model.gene_mean, torch.from_numpy(args.rna_data_mean))
    assert torch.equal(model.gene_sd[1:], torch.from_numpy(args.rna_data_std)[1:])
    # As the published code has it, noise of a gene without variance still enters the network.
    assert model.gene_sd[0] == torch.tensor(1e-10)
    assert meta["constant_genes"] == 1
    assert "whole cohort" in meta["converted"]["statistics"]
    model, meta = checkpoint.load_model(forward(files, "bare.pt", "bare"))
    assert not model.gene_mean.any()
    assert (model.gene_sd == 1).all()
    assert meta["converted"]["statistics"].startswith("none")


def test_values_that_no_model_has_are_refused(files: Path) -> None:
    args = stored_args()
    args.rna_data_std[3] = np.nan
    state = torch.load(files / "bare.pt", weights_only=True)
    torch.save({"ema": state, "args": args}, files / "sd.pt")
    with pytest.raises(UserError, match="gene G03"):
        forward(files, "sd.pt", "sd")
    name = "gene_embedder.gene_pathway_ebd"
    for value, cause in (
        (torch.full_like(state[name], torch.nan), "finite"),
        (torch.zeros(1).expand(4, 8_000_000), "torch.float32"),
    ):
        torch.save(state | {name: value}, files / "bad.pt")
        with pytest.raises(UserError, match=f"tensor {name}.*{cause}"):
            forward(files, "bad.pt", "bad")


@pytest.mark.parametrize("kind", ["gmt", "parquet", "json"])
def test_sets_come_in_other_files(files: Path, kind: str) -> None:
    path = files / f"sets.{kind}"
    named = {name: [GENES[i] for i in genes] for name, genes in SETS.items()}
    if kind == "gmt":
        lines = ["\t".join([name, "", *genes, "unmeasured"]) for name, genes in named.items()]
        path.write_text("\n".join(lines))
    elif kind == "parquet":
        rows = [{"pathway": n, "name": n, "gene": g} for n, genes in named.items() for g in genes]
        parquet.write(pl.DataFrame(rows), path)
    else:
        path.write_text(json.dumps(named))
    (one, _), (other, meta) = (
        checkpoint.load_model(forward(files, "whole.pt", out, *options))
        for out, options in (("a", ()), ("b", ("--pathways", str(path))))
    )
    assert meta["pathways"]["source"] == "sets"
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def index_with(**changes: list[int] | None) -> dict[str, list[int]]:
    merged = INDEX | changes
    return {name: genes for name, genes in merged.items() if genes is not None}


@pytest.mark.parametrize(
    ("source", "index", "message"),
    [
        ("bare.pt", dict(reversed(INDEX.items())), r"set 'four' \(number 1\).* 3 .* 4"),
        (
            "bare.pt",
            {"one": SETS["one"], "four": SETS["four"], "three": SETS["three"], "two": SETS["two"]},
            "'one' and 'four'",
        ),
        (
            "bare.pt",
            index_with(four=None, UNMAPPED=[12, 13, 10, 8, 6]),
            "3 sets.* 4",
        ),
        (
            "bare.pt",
            index_with(three=[11, 4, 5], UNCLASSIFIED=[]),
            "'three'.* 3 .* 2",
        ),
        ("bare.pt", index_with(UNMAPPED=[12]), "gene G13"),
        ("bare.pt", index_with(UNMAPPED=[12, 13, 7]), "background.* 4 .* 3"),
        ("bare.pt", index_with(three=[4, 4]), "three .*G04 twice"),
        ("bare.pt", index_with(three=[4, 14]), "three .* 14"),
        ("bare.pt", index_with(three=[]), "three .*genes"),
        ("whole.pt", index_with(three=[10, 4], four=[11, 8, 6]), "'three'.* 2 genes.*G10"),
        ("whole.pt", index_with(four=None, UNMAPPED=[12, 13, 10, 8, 6]), "3 sets.* 4"),
        ("bare.pt", {"one": 3}, "object of lists"),
    ],
)
def test_wrong_sets_are_named(files: Path, source: str, index: Any, message: str) -> None:
    (files / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=message):
        forward(files, source)
    assert not (files / "model").exists()
