"""Conversion of a published checkpoint into a model folder, and back.

In addition to the files of every model folder, `published.safetensors` holds the data without a
place in our network: the clusters of the null condition and the order of the genes in each set.
With it, the conversion back gives identical tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from slide2rna import __version__
from slide2rna.core import files
from slide2rna.core.errors import SheetError, WeightsError
from slide2rna.core.log import log
from slide2rna.flow.velocity import RNAFM
from slide2rna.models import checkpoint
from slide2rna.pathways.membership import Pathways
from slide2rna.published import checkpoint_file, training_data, weight_names
from slide2rna.published.checkpoint_file import Checkpoint
from slide2rna.published.settings import (
    NULL,
    check_path,
    check_sets,
    extra_tensors,
    model_settings,
    tensor_shape,
    unsupported_settings,
)
from slide2rna.published.training_data import TrainedSets
from slide2rna.published.weight_names import State
from slide2rna.storage import tensors

EXTRA = "published.safetensors"
# The published code standardises by sd + 1e-10, genes without variance included.
SD_ADDED = 1e-10


@dataclass(frozen=True)
class ConversionInputs:
    """Inputs that a checkpoint doesn't or may not contain.

    Attributes
    ----------
    genes
        Gene list, in the order of the training.
    pathways
        Gene sets of the training; needed for a bare state_dict.
    statistics
        Table gene, mean, sd; by default those in the checkpoint, or 0 and 1.
    weights
        `ema` or `model`.
    heads
        Attention heads; None takes the checkpoint's.
    encoder
        Name of the tile encoder, for model.json.
    """

    genes: Path
    pathways: Path | None = None
    statistics: Path | None = None
    weights: str = "ema"
    heads: int | None = None
    encoder: str = "unknown"


def to_folder(source: str | Path, out: str | Path, inputs: ConversionInputs) -> None:
    """Convert a published checkpoint into a model folder.

    Raises
    ------
    WeightsError
        The file can't be read or holds another model, or `out` isn't empty.
    PathwayError, SheetError, ConfigError
        The sets, the gene list, the statistics or the heads don't match the checkpoint.
    """
    source, out = Path(source), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WeightsError(out, "exists and isn't an empty folder", "give a new folder")
    published = checkpoint_file.read(source, inputs.weights)
    state = published.state
    check_path(published, source)
    genes = training_data.read_genes(inputs.genes)
    stored = published.number("num_genes")
    if stored not in (None, len(genes)):
        cause = f"{len(genes)} genes, the checkpoint was trained with {stored}"
        raise SheetError(inputs.genes, cause, "give the gene list of the training")
    sets = _read_sets(published, genes, source, inputs.pathways)
    pathways = sets.pathways(len(genes))
    check_sets(state, sets, pathways, inputs.pathways or source, source)
    clusters, features = tensor_shape(state, "cluster_index_emb", 2, source)
    settings = model_settings(published, features, source, inputs.heads)
    model = RNAFM(pathways, features, clusters, settings).eval()
    rest = extra_tensors(model, state, source)
    mean, sd, origin = _read_statistics(published, genes, source, inputs.statistics)
    with torch.no_grad():
        orders = [np.argsort(members) for members in sets.members]
        ordered = weight_names.reorder(state, orders, np.argsort(sets.background))
        weight_names.from_published(model, ordered)
        model.null.copy_(model.encode_image(rest[NULL], torch.ones(1, clusters))[0])
        model.gene_mean.copy_(torch.tensor(mean))
        model.gene_sd.copy_(torch.tensor(sd + SD_ADDED))
    extra = rest | {
        "members": torch.from_numpy(np.concatenate(sets.members)),
        "background": torch.from_numpy(sets.background),
    }
    tensors.write(save_file, {name: value.clone() for name, value in extra.items()}, out / EXTRA)
    meta: dict[str, Any] = {
        "version": __version__,
        "torch": torch.__version__,
        "model": "flow",
        "settings": {"model": settings},
        "interpolant": "linear",
        "genes": genes,
        "constant_genes": int((sd == 0).sum()),
        "pathways": {"source": sets.source},
        "encoder": inputs.encoder,
        "features": features,
        "clusters": clusters,
        "parameters": model.parameter_count,
        "converted": {
            "file": source.name,
            "sha256": files.sha256sum(source),
            "weights": inputs.weights,
            "statistics": origin,
        },
    }
    checkpoint.save_model(out, model, meta)
    log.info(
        "%s weights: %d genes, %d sets, %d background genes, hidden %d, %d blocks, %d heads, "
        "bags of %d x %d; statistics: %s",
        *(inputs.weights, len(genes), len(sets.names), len(sets.background), settings["hidden"]),
        *(settings["blocks"], settings["heads"], clusters, features, origin),
    )


def to_file(folder: str | Path, out: str | Path) -> None:
    """Write a converted model folder as a published checkpoint {"model", "ema", "args"}.

    The first two are both the folder's weights; `args` (plain values) holds the sets and heads.

    Raises
    ------
    WeightsError
        The folder holds no model, or one without a published counterpart, or `out` can't be
        written.
    """
    folder, out = Path(folder), Path(out)
    if not out.parent.is_dir():
        raise WeightsError(out, f"no folder {out.parent}", "create it first")
    if out.exists():
        raise WeightsError(out, "exists", "give a new name or remove it")
    model, meta = checkpoint.load_model(folder)
    if not isinstance(model, RNAFM):
        cause = f"it is a model {meta['model']}; the published layout is that of the flow"
        raise WeightsError(folder, cause, "give the folder of a flow")
    missing = unsupported_settings(model, meta)
    if not (folder / EXTRA).is_file():
        missing.append("a null condition that was learned as a vector")
    if missing:
        cause = f"the published layout doesn't support {', '.join(missing)}"
        raise WeightsError(folder, cause, "give a folder that was made from a published checkpoint")
    rest, members, background = _read_extra(folder, model.pathways)
    orders = [np.argsort(np.argsort(genes)) for genes in members]
    state = weight_names.reorder(
        weight_names.to_published(model), orders, np.argsort(np.argsort(background))
    )
    state |= weight_names.masks(model.pathways) | rest
    args = {
        "num_genes": len(meta["genes"]),
        "num_heads": meta["settings"]["model"]["heads"],
        "pathway_gene_indices": [torch.from_numpy(genes) for genes in members],
        "bg_gene": torch.from_numpy(background),
    }
    with files.atomic(out) as partial:
        torch.save({"model": state, "ema": state, "args": args}, partial)
    log.info("%d tensors written to %s", len(state), out)


def _read_sets(
    published: Checkpoint, genes: list[str], source: Path, path: Path | None
) -> TrainedSets:
    stored = training_data.from_args(published, genes, source)
    if path is None:
        if stored is None:
            cause = "has only weights, not their gene sets"
            raise WeightsError(source, cause, "add --pathways with the sets of the training")
        return stored
    named = training_data.read_sets(path, genes)
    if stored is None:
        log.warning(
            "the order of the genes in each set comes from %s and can't be checked", path.name
        )
        return named
    return training_data.require_same_sets(named, stored, genes, path)


def _read_statistics(
    published: Checkpoint, genes: list[str], source: Path, path: Path | None
) -> tuple[np.ndarray, np.ndarray, str]:
    """Return mean and sd per gene, and their origin."""
    if path is not None:
        return *training_data.read_statistics(path, genes), path.name
    mean, sd = published.values("rna_data_mean"), published.values("rna_data_std")
    if mean is None or sd is None:
        log.warning(
            "no gene means and sds: draws are standardised and clipped at 0; see --statistics"
        )
        return np.zeros(len(genes)), np.ones(len(genes)), "none: 0 and 1"
    if not len(mean) == len(sd) == len(genes):
        cause = f"its statistics have {len(mean)} genes, the gene list has {len(genes)}"
        raise WeightsError(source, cause, "give the gene list of the training")
    training_data.check_statistics(mean, sd, genes, source, "give them by --statistics")
    return mean, sd, "checkpoint (the published code takes the whole cohort, test included)"


def _read_extra(folder: Path, pathways: Pathways) -> tuple[State, list[np.ndarray], np.ndarray]:
    """Read `published.safetensors`: extra tensors, members per set, background."""
    path = folder / EXTRA
    try:
        rest, _ = tensors.read_all(path, "pt")
        flat, background = rest.pop("members").numpy(), rest.pop("background").numpy()
    except (OSError, KeyError, SafetensorError) as error:
        raise WeightsError(
            path, f"can't be read ({error})", "convert the checkpoint again"
        ) from error
    members = np.split(flat, np.cumsum(pathways.sizes)[:-1])
    pairs = zip([*members, background], [*pathways.index, pathways.background], strict=True)
    if not all(np.array_equal(np.sort(genes), indices) for genes, indices in pairs):
        raise WeightsError(path, "belongs to another model", "convert the checkpoint again")
    return rest, members, background
