"""What the converter refuses: in one line, with nothing of the file run."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published_files import (
    GENES,
    SETS,
    D,
    H,
    K,
    files,
    forward,
    main,
    read,
    state_of,
    stored_args,
)
from slide2rna.core import cli, config
from slide2rna.core.errors import WeightsError
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.pathways.membership import Pathways
from torch import Tensor

torch.set_num_threads(1)
__all__ = ["files"]  # the fixture


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
    with pytest.raises(WeightsError, match=r"mkdir|torch checkpoint"):
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
    "text": (lambda _, target: target.write_text("gene\nTP53\n"), "torch checkpoint"),
    "empty": (lambda _, target: target.write_bytes(b""), "torch checkpoint"),
    "cut-short": (cut(0.6), "zip file"),
    "cut-at-start": (cut(0.01), "zip file"),
    "flipped": (flipped, "zip file.*damaged"),
    "other-zip": (other_zip, "zip file"),
    "list": (lambda _, target: torch.save([1, 2], target), "a list"),
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
    "path": (with_args(path_type="VP"), "path_type VP"),
    "genes": (with_args(num_genes=20820), "14 genes, the checkpoint was trained with 20820"),
    "statistics": (
        with_args(rna_data_mean=np.zeros(3), rna_data_std=np.ones(3)),
        "statistics .*3 genes.* 14",
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
        ("whole.pt full --genes genes.csv", "full: .*empty folder"),
        ("whole.pt genes.csv --genes genes.csv", "genes.csv: .*empty folder"),
        ("nowhere.pt new --genes genes.csv", "nowhere.pt: no such file or folder"),
        ("whole.pt new", "--genes: "),
        ("bare.pt new --genes genes.csv", "bare.pt: .*weights.*--pathways"),
        ("whole.pt new --genes nowhere.csv", "nowhere.csv: no such file"),
        ("whole.pt new --genes empty.txt", "empty.txt: .*empty"),
        ("whole.pt new --genes twice.txt", "twice.txt: gene A .*twice"),
        ("whole.pt new --genes genes.csv --pathways no.json", "no.json: no such file"),
        ("whole.pt new --genes genes.csv --pathways empty.txt", "empty.txt"),
        ("whole.pt new --genes genes.csv --pathways bad.json", "bad.json: can't be read"),
        ("whole.pt new --genes genes.csv --pathways bad.parquet", "bad.parquet: .*scripts/pathw"),
        ("whole.pt new --genes genes.csv --heads 4", "--heads: 4.* 8"),
        (
            "bare.pt new --genes genes.csv --pathways index.json --heads 5",
            "5 attention heads don't",
        ),
        ("bare.pt new --genes genes.csv --pathways index.json --heads 0", "model: heads: 0 is not"),
        ("whole.pt new --genes genes.csv --statistics genes.csv", "genes.csv: can't be read"),
        ("whole.pt new --genes genes.csv --statistics short.csv", "gene G01 .*12 such"),
        ("full new.pt", "full: no model"),
        ("full new.pt --heads 4", "--heads: "),
        ("full nowhere/new.pt", "new.pt: .*nowhere;"),
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
    """A model of this package under the published settings, with `changes`."""
    small = {"hidden": H, "blocks": 1, "skip": "none", "cluster_weights": False}
    settings = config.defaults("model", **(small | changes))
    sets = Pathways(list(SETS), [np.sort(genes) for genes in SETS.values()], len(GENES))
    model = RNAFM(sets, features, K, settings, interpolant)
    meta = {"model": "flow", "genes": GENES, "features": features, "clusters": K}
    meta |= {"interpolant": interpolant, "settings": {"model": settings}}
    checkpoint.save_model(folder, model, meta)
    return model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skip": "gaussian"}, "model.skip gaussian, a null condition"),
        ({"cluster_weights": True}, "model.cluster_weights true"),
        ({"graph": False}, "model.graph false"),
        ({"graph_heads": 2}, "model.graph_heads 2"),
        ({"mlp_ratio": 2}, "model.mlp_ratio 2"),
        ({"cluster_layers": 1}, "model.cluster_layers 1"),
        ({"interpolant": "logistic"}, "train.interpolant logistic"),
        ({"features": 30}, "a projection of the features"),
        ({}, "null condition .*vector"),
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
    refused([str(folder), str(files / "out.pt")], r"published\.safetensors: ", capsys)
    (folder / "published.safetensors").write_text("{")
    refused([str(folder), str(files / "out.pt")], "published.safetensors: can't be read", capsys)
