"""Published checkpoints into folders and back: against the oracle, bit for bit, or refused."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import runpy
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flow_cohort
import numpy as np
import oracle
import polars as pl
import pytest
import torch
from slide2rna import checkpoint, cli, config, convert, io
from slide2rna.errors import UserError, WeightsError
from slide2rna.model import RNAFM
from slide2rna.pathways import Pathways
from test_model import CASES, build, difference, fast, inputs, pathways
from torch import Tensor

torch.set_num_threads(1)
REPO = Path(__file__).resolve().parents[2]
main: Callable[[list[str]], None] = runpy.run_path(str(REPO / "scripts" / "convert.py"))["main"]

D, K, H, BLOCKS, HEADS = 24, 5, 16, 2, 8
GENES = [f"G{i:02d}" for i in range(14)]
# Genes of a set aren't sorted, as in the published index files; 12, 13 and 5 are background.
INDEX = {
    "one": [7, 0, 3, 1],
    "UNMAPPED": [12, 13],
    "two": [3, 9, 2],
    "three": [11, 4],
    "UNCLASSIFIED": [5],
    "four": [10, 8, 6],
}
SETS = {name: genes for name, genes in INDEX.items() if name.islower()}
BACKGROUND = [12, 13, 5]


def weights(
    sets: list[list[int]], background: int, d: int = D, clusters: int = K, seed: int = 0
) -> dict[str, Tensor]:
    """A published state_dict with every number drawn at random, written down from the layout."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def draw(name: str, *shape: int) -> None:
        fan_in = shape[-1] if shape and shape[-1] else 1
        state[name] = torch.randn(shape, generator=generator) / fan_in**0.5

    def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        draw(f"{name}.weight", outputs, inputs)
        if bias:
            draw(f"{name}.bias", outputs)

    def norm(name: str, width: int) -> None:
        draw(f"{name}.weight", width)
        draw(f"{name}.bias", width)

    draw("empty_cond", 1, clusters, d)
    draw("cluster_index_emb", clusters, d)
    draw("gene_embedder.gene_pathway_ebd", len(sets), H)
    draw("gene_embedder.bg_gene_bias", 1, 1, H)
    linear("gene_embedder.bg_gene_count_ebd.0", background, H)
    linear("gene_embedder.bg_gene_count_ebd.2", H, H)
    for i, genes in enumerate(sets):
        linear(f"gene_embedder.gene_count_ebd.{i}.0", len(genes), H)
        linear(f"gene_embedder.gene_count_ebd.{i}.2", H, H)
        linear(f"final_layer.linear.{i}", H, len(genes))
        linear(f"final_layer.adaLN_modulation.{i}.1", H, 2 * H)
    blocked = torch.tensor([[not set(one) & set(other) for other in sets] for one in sets])
    state["pathway_graph.attn_mask"] = blocked
    state["pathway_graph.add_mask"] = torch.where(blocked, -1e4, 0.0)
    draw("pathway_graph.alpha")
    norm("pathway_graph.norm1", H)
    norm("pathway_graph.norm2", H)
    draw("pathway_graph.attn.in_proj_weight", 3 * H, H)
    draw("pathway_graph.attn.in_proj_bias", 3 * H)
    linear("pathway_graph.attn.out_proj", H, H)
    linear("pathway_graph.mlp.0", H, 4 * H)
    linear("pathway_graph.mlp.2", 4 * H, H)
    linear("t_embedder.mlp.0", 256, H)
    linear("t_embedder.mlp.2", H, H)
    for i in range(2):
        linear(f"transformer.layers.{i}.0.qkv", d, 3 * d, bias=False)
        linear(f"transformer.layers.{i}.0.proj", d, d)
        norm(f"transformer.layers.{i}.1.net.0", d)
        linear(f"transformer.layers.{i}.1.net.1", d, 4 * H)
        linear(f"transformer.layers.{i}.1.net.3", 4 * H, d)
    linear("image_embedder.0", d, d)
    linear("image_embedder.2", d, H)
    for i in range(BLOCKS):
        linear(f"blocks.{i}.attn.qkv", H, 3 * H)
        linear(f"blocks.{i}.attn.proj", H, H)
        linear(f"blocks.{i}.mlp.fc1", H, 4 * H)
        linear(f"blocks.{i}.mlp.fc2", 4 * H, H)
        linear(f"blocks.{i}.adaLN_modulation.1", H, 6 * H)
    linear("bg_head.ada.1", H, 2 * H)
    linear("bg_head.fc", H, background)
    return state


def stored_args(**changes: Any) -> argparse.Namespace:
    """What the published training keeps of its command line, numpy arrays included."""
    values = {
        "cohort": "LUAD",
        "lr": 1e-4,
        "train": True,
        "loss_weight": None,
        "path_type": "Linear",
        "prediction": "velocity",
        "num_heads": HEADS,
        "num_genes": len(GENES),
        "pathway_adj": torch.ones(4, 4),
        "pathway_gene_indices": [torch.tensor(genes) for genes in SETS.values()],
        "bg_gene": torch.tensor(BACKGROUND),
        "rna_data_mean": np.linspace(1, 9, len(GENES)).astype(np.float32),
        "rna_data_std": np.linspace(0, 2, len(GENES)).astype(np.float32),
    }
    return argparse.Namespace(**(values | changes))


def state_of(weights_of: str) -> dict[str, Tensor]:
    """The weights of the checkpoint in `files`."""
    seed = {"ema": 0, "model": 1}[weights_of]
    return weights(list(SETS.values()), len(BACKGROUND), seed=seed)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a checkpoint as the training writes it, its gene list and its index file."""
    whole = {name: state_of(name) for name in ("model", "ema")}
    more = {"opt": {"state": {}, "lr": 1e-4}, "args": stored_args()}
    torch.save(whole | more, tmp_path / "whole.pt")
    torch.save(whole["ema"], tmp_path / "bare.pt")
    (tmp_path / "genes.csv").write_text("gene\n" + "\n".join(GENES) + "\n")
    (tmp_path / "index.json").write_text(json.dumps(INDEX))
    return tmp_path


def forward(files: Path, source: str = "whole.pt", out: str = "model", *options: str) -> Path:
    """Run the command; options come after --genes and --pathways."""
    given = ["--genes", str(files / "genes.csv"), "--pathways", str(files / "index.json")]
    main([str(files / source), str(files / out), *given, *options])
    return files / out


def read(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def published_velocity(
    state: dict[str, Tensor], x: Tensor, t: Tensor, clusters: Tensor, outside: Sequence[int]
) -> Tensor:
    """The oracle on a published state_dict, gene lists in their published order."""
    plain = {"feature_mean": torch.zeros(D), "feature_scale": torch.ones(D)}
    rows = []
    for row in range(len(x)):
        y = oracle.image(state, clusters[row], torch.ones(K), HEADS, False, plain)
        sets = list(SETS.values())
        rows.append(oracle.velocity(state, sets, outside, x[row], t[row], y, HEADS, 4))
    return torch.stack(rows)


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
    # What was written back needs no --pathways, and gives the same folder but for statistics.
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
    published = convert.to_published(model)
    convert.from_published(other, published)
    back = convert.to_published(other)
    assert all(torch.equal(back[name], value) for name, value in published.items())
    args = inputs(model)
    with torch.no_grad():
        assert torch.equal(fast(model, *args), fast(other, *args))
    del published["blocks.0.mlp.fc1.weight"]
    with pytest.raises(WeightsError, match=r"blocks\.0\.mlp\.fc1\.weight is missing"):
        convert.from_published(other, published)


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
    with pytest.raises(UserError, match="gene G03 has no row or no valid mean and sd"):
        forward(files, "sd.pt", "sd")
    name = "gene_embedder.gene_pathway_ebd"
    for value, cause in (
        (torch.full_like(state[name], torch.nan), "isn't finite"),
        (torch.zeros(1).expand(4, 8_000_000), "a plain torch.float32 tensor is needed"),
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
        io.write_parquet(pl.DataFrame(rows), path)
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
        ("bare.pt", dict(reversed(INDEX.items())), r"set 'four' \(number 1\) has 3 .* are of 4"),
        (
            "bare.pt",
            {"one": SETS["one"], "four": SETS["four"], "three": SETS["three"], "two": SETS["two"]},
            "sets 'one' and 'four' share no gene, but not in the checkpoint's",
        ),
        (
            "bare.pt",
            index_with(four=None, UNMAPPED=[12, 13, 10, 8, 6]),
            "3 sets, the weights have 4",
        ),
        (
            "bare.pt",
            index_with(three=[11, 4, 5], UNCLASSIFIED=[]),
            "'three'.* has 3 of .* are of 2",
        ),
        ("bare.pt", index_with(UNMAPPED=[12]), "gene G13 is in no set and not in the background"),
        ("bare.pt", index_with(UNMAPPED=[12, 13, 7]), "the background has 4 .* are of 3"),
        ("bare.pt", index_with(three=[4, 4]), "three lists gene G04 twice"),
        ("bare.pt", index_with(three=[4, 14]), "three has a gene beyond the 14"),
        ("bare.pt", index_with(three=[]), "three has none of these genes"),
        ("whole.pt", index_with(three=[10, 4], four=[11, 8, 6]), "'three'.*differ in 2 genes.*G10"),
        ("whole.pt", index_with(four=None, UNMAPPED=[12, 13, 10, 8, 6]), "3 sets.*trained with 4"),
        ("bare.pt", {"one": 3}, "not an object of lists"),
    ],
)
def test_wrong_sets_are_named(files: Path, source: str, index: Any, message: str) -> None:
    (files / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=message):
        forward(files, source)
    assert not (files / "model").exists()


class Touch:
    """Makes a file when it is unpickled as usual."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def evil(files: Path, target: Path) -> None:
    torch.save({"model": {}, "ema": Touch(files / "run"), "args": None}, target)


def evil_args(files: Path, target: Path) -> None:
    torch.save({"ema": {}, "args": stored_args(cohort=Touch(files / "run"))}, target)


def evil_pickle(files: Path, target: Path) -> None:
    target.write_bytes(pickle.dumps(Touch(files / "run")))


def evil_legacy(files: Path, target: Path) -> None:
    content = {"ema": Touch(files / "run")}
    torch.save(content, target, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [evil, evil_args, evil_pickle, evil_legacy])
def test_nothing_in_a_file_is_run(files: Path, write: Callable[[Path, Path], None]) -> None:
    write(files, files / "evil.pt")
    with pytest.raises(WeightsError, match=r"mkdir.*could run code|not a torch checkpoint"):
        forward(files, "evil.pt")
    assert not (files / "run").exists()
    with open(files / "evil.pt", "rb") as handle:
        if write is evil_pickle:  # it does run where it is trusted
            pickle.load(handle)
            assert (files / "run").exists()


@pytest.mark.parametrize("odd", [np.array([None], object), torch.ones(14).to_sparse(), "8", None])
def test_args_of_other_kinds_are_left_out(files: Path, odd: Any) -> None:
    """Then the sets are the file's, the heads 8, and there are no statistics."""
    names = ("rna_data_mean", "rna_data_std", "num_heads", "bg_gene", "pathway_gene_indices")
    args = stored_args(**dict.fromkeys(names, odd))
    torch.save({"ema": state_of("ema"), "args": args}, files / "odd.pt")
    model, meta = checkpoint.load_model(forward(files, "odd.pt"))
    assert meta["settings"]["model"]["heads"] == 8
    assert (model.gene_sd == 1).all()


def changed(**changes: Tensor | None) -> Callable[[Path, Path], None]:
    """A bare state_dict with tensors replaced (`__` for a dot), or removed."""

    def write(files: Path, target: Path) -> None:
        state = read(files / "bare.pt") | {k.replace("__", "."): v for k, v in changes.items()}
        torch.save({name: value for name, value in state.items() if value is not None}, target)

    return write


def with_args(**changes: Any) -> Callable[[Path, Path], None]:
    def write(files: Path, target: Path) -> None:
        torch.save({"ema": read(files / "bare.pt"), "args": stored_args(**changes)}, target)

    return write


def cut(share: float) -> Callable[[Path, Path], None]:
    def write(files: Path, target: Path) -> None:
        whole = (files / "whole.pt").read_bytes()
        target.write_bytes(whole[: int(share * len(whole))])

    return write


def flipped(files: Path, target: Path) -> None:
    """One bit of a weight is another: only the archive's checksum can tell."""
    whole = bytearray((files / "whole.pt").read_bytes())
    weight = state_of("ema")["bg_head.ada.1.weight"]
    place = whole.index(weight.numpy().tobytes())
    whole[place] ^= 1
    target.write_bytes(whole)


def other_zip(files: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as handle:
        handle.writestr("slide.txt", "nothing")


BAD: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "text": (lambda _, target: target.write_text("gene\nTP53\n"), "not a torch checkpoint"),
    "empty": (lambda _, target: target.write_bytes(b""), "not a torch checkpoint"),
    "cut-short": (cut(0.6), "a zip file, but no whole checkpoint"),
    "cut-at-start": (cut(0.01), "a zip file, but no whole checkpoint"),
    "flipped": (flipped, "a zip file, but no whole checkpoint: .*damaged"),
    "other-zip": (other_zip, "a zip file, but no whole checkpoint"),
    "list": (lambda _, target: torch.save([1, 2], target), "holds a list, no weights"),
    "no-ema": (lambda _, target: torch.save({"model": {}}, target), "no entry 'ema', but model"),
    "other-model": (
        lambda _, target: torch.save(torch.nn.Linear(2, 2).state_dict(), target),
        "tensor gene_embedder.gene_pathway_ebd is missing",
    ),
    "missing": (changed(bg_head__fc__bias=None), "tensor bg_head.fc.bias is missing"),
    "missing-null": (changed(empty_cond=None), "tensor empty_cond is missing"),
    "missing-mask": (changed(pathway_graph__add_mask=None), "add_mask is missing"),
    "unknown": (changed(blocks__0__extra=torch.zeros(2)), "tensor blocks.0.extra is unknown"),
    "shape": (
        changed(t_embedder__mlp__0__weight=torch.zeros(16, 128)),
        r"t_embedder.mlp.0.weight has the shape \(16, 128\), needed \(16, 256\)",
    ),
    "mask": (
        changed(pathway_graph__attn_mask=torch.zeros(4, 4, dtype=torch.bool)),
        "sets 'one' and 'three' share no gene, but not in the checkpoint's pathway_graph.attn_mask",
    ),
    "half": (changed(bg_head__fc__bias=torch.zeros(3).half()), "bg_head.fc.bias.*torch.float16"),
    "value": (changed(bg_head__fc__bias=torch.zeros(3).to_sparse()), "bg_head.fc.bias: a plain"),
    "mask-kind": (
        changed(pathway_graph__attn_mask=torch.zeros(4, 4)),
        "attn_mask: a plain torch.bool tensor is needed, found torch.float32",
    ),
    "path": (with_args(path_type="VP"), "path_type VP, which has no counterpart"),
    "genes": (with_args(num_genes=20820), "14 genes, the checkpoint was trained with 20820"),
    "statistics": (
        with_args(rna_data_mean=np.zeros(3), rna_data_std=np.ones(3)),
        "its statistics are of 3 genes, the gene list has 14",
    ),
}


def refused(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with status 2 and one line that matches."""
    with pytest.raises(SystemExit) as stop:
        cli.run(main, argv)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert re.search(message, line), line


@pytest.mark.parametrize("case", BAD)
def test_bad_checkpoint_is_one_line(
    files: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write, message = BAD[case]
    write(files, files / "in.pt")
    given = ["--genes", str(files / "genes.csv"), "--pathways", str(files / "index.json")]
    refused([str(files / "in.pt"), str(files / "model"), *given], message, capsys)
    assert not (files / "model").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("whole.pt full --genes genes.csv", "full: exists and isn't an empty folder; give a new"),
        ("whole.pt genes.csv --genes genes.csv", "genes.csv: exists and isn't an empty folder"),
        ("nowhere.pt new --genes genes.csv", "nowhere.pt: no such file or folder"),
        ("whole.pt new", "--genes: is needed"),
        ("bare.pt new --genes genes.csv", "bare.pt: holds weights alone.*add --pathways"),
        ("whole.pt new --genes nowhere.csv", "nowhere.csv: no such file"),
        ("whole.pt new --genes empty.txt", "empty.txt: .*empty"),
        ("whole.pt new --genes twice.txt", "twice.txt: gene A is there twice"),
        ("whole.pt new --genes genes.csv --pathways no.json", "no.json: no such file"),
        ("whole.pt new --genes genes.csv --pathways empty.txt", "empty.txt"),
        ("whole.pt new --genes genes.csv --pathways bad.json", "bad.json: can't be read"),
        ("whole.pt new --genes genes.csv --pathways bad.parquet", "bad.parquet: .*scripts/pathw"),
        ("whole.pt new --genes genes.csv --heads 4", "--heads: 4, the checkpoint has 8"),
        (
            "bare.pt new --genes genes.csv --pathways index.json --heads 5",
            "5 attention heads don't",
        ),
        ("bare.pt new --genes genes.csv --pathways index.json --heads 0", "model: heads: 0 is not"),
        ("whole.pt new --genes genes.csv --statistics genes.csv", "genes.csv: can't be read"),
        ("whole.pt new --genes genes.csv --statistics short.csv", "gene G01 has no row.*12 such"),
        ("full new.pt", "full: no model to read"),
        ("full new.pt --heads 4", "--heads: has no meaning on the way back"),
        ("full nowhere/new.pt", "new.pt: there is no folder .*nowhere; make it first"),
        ("full bare.pt", "bare.pt: exists"),
    ],
)
def test_bad_command_is_one_line(
    files: Path,
    argv: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files)
    (files / "full").mkdir()
    (files / "full" / "notes.txt").write_text("mine")
    (files / "empty.txt").write_text("")
    (files / "twice.txt").write_text("A\nB\nA\n")
    (files / "bad.json").write_text("{")
    (files / "bad.parquet").write_text("{")
    (files / "short.csv").write_text("gene,mean,sd\nG00,1,1\nG05,1,1\n")
    before = sorted(files.rglob("*"))
    refused(argv.split(), message, capsys)
    assert sorted(files.rglob("*")) == before


def save(folder: Path, interpolant: str = "linear", features: int = D, **changes: Any) -> RNAFM:
    """A model of this package under the published settings but for `changes`."""
    small = {"hidden": H, "blocks": 1, "skip": "none", "cluster_weights": False}
    settings = config.defaults("model", **(small | changes))
    sets = Pathways(list(SETS), [np.sort(genes) for genes in SETS.values()], len(GENES))
    model = RNAFM(sets, features, K, settings, interpolant)
    meta = {"genes": GENES, "features": features, "clusters": K, "interpolant": interpolant}
    checkpoint.save_model(folder, model, meta | {"settings": {"model": settings}})
    return model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skip": "gaussian"}, "counterpart of model.skip gaussian, a null condition"),
        ({"cluster_weights": True}, "model.cluster_weights true"),
        ({"graph": False}, "model.graph false"),
        ({"graph_heads": 2}, "model.graph_heads 2"),
        ({"mlp_ratio": 2}, "model.mlp_ratio 2"),
        ({"cluster_layers": 1}, "model.cluster_layers 1"),
        ({"interpolant": "logistic"}, "train.interpolant logistic"),
        ({"features": 30}, "a projection of the features"),
        ({}, "counterpart of a null condition that was learned as a vector"),
    ],
)
def test_without_counterpart(
    tmp_path: Path, changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "model", **changes)
    refused([str(tmp_path / "model"), str(tmp_path / "out.pt")], message, capsys)
    assert not (tmp_path / "out.pt").exists()


def test_standardised_features_have_no_counterpart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save(tmp_path / "model")
    model.condition.feature_scale.fill_(2)
    checkpoint.save_model(tmp_path / "model", model, checkpoint.load_model(tmp_path / "model")[1])
    refused([str(tmp_path / "model"), str(tmp_path / "out.pt")], "features standardised", capsys)


def test_extra_file_of_another_model(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = forward(files)
    model, meta = checkpoint.load_model(folder)
    meta["pathways"]["index"] = []
    turned = Pathways(model.pathways.names, model.pathways.index[::-1], len(GENES))
    other = RNAFM(turned, D, K, meta["settings"]["model"])
    checkpoint.save_model(folder, other, meta)
    refused([str(folder), str(files / "out.pt")], "published.safetensors: isn't of this", capsys)
    (folder / "published.safetensors").write_text("{")
    refused([str(folder), str(files / "out.pt")], "published.safetensors: can't be read", capsys)
