"""Targets of a map: genes by name, gene sets by id or name, and their values in profiles."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from slide2rna.core.errors import ConfigError, list_names
from slide2rna.pathways import activity


@dataclass(frozen=True)
class Targets:
    """Genes and gene sets to map, in this order.

    Attributes
    ----------
    genes : names.
    rows : (n,) their indices among the model's G genes.
    pathways : ids of the gene sets.
    scorer : scores those sets in profiles (G, n).
    titles : for display, by kind and name; a gene and a gene set may have the same name.
    """

    genes: list[str]
    rows: NDArray[np.int64]
    pathways: list[str]
    scorer: activity.ScoringMethod
    titles: dict[tuple[str, str], str]

    @property
    def names(self) -> list[str]:
        return self.genes + self.pathways

    @property
    def kinds(self) -> list[str]:
        return ["gene"] * len(self.genes) + ["pathway"] * len(self.pathways)

    @property
    def keys(self) -> list[tuple[str, str]]:
        """Kind and name of each target."""
        return list(zip(self.kinds, self.names, strict=True))

    def values(self, profiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the targets' values (..., T) in profiles (..., G), in log2(x+1) units."""
        expression = profiles[..., self.rows]
        if not self.pathways:
            return expression
        flat = profiles.reshape(-1, profiles.shape[-1])
        scores = np.asarray(self.scorer.score(flat.T), np.float32).T
        return np.concatenate([expression, scores.reshape(*profiles.shape[:-1], -1)], axis=-1)


def choose_targets(
    gene_table: pl.DataFrame,
    pathway_table: pl.DataFrame,
    genes: Sequence[str],
    pathways: Sequence[str],
    score: str = "zscore",
) -> Targets:
    """Resolve the user's names among the model's genes and gene sets.

    Parameters
    ----------
    gene_table
        gene, and mean and sd of the train samples, which are the units of z scores.
    pathway_table
        pathway, name, genes (list of names).
    genes, pathways
        From the command line; a gene set by id or name. Case is ignored if only one name matches.
    score
        zscore or ssgsea.

    Raises
    ------
    ConfigError
        No name was passed, or one is unknown; the message suggests close matches.
    """
    if not "".join([*genes, *pathways]).replace(",", "").strip():
        raise ConfigError("--genes", "nothing to map", "name genes, or gene sets with --pathways")
    model_genes = gene_table["gene"].to_list()
    names = resolve_names(model_genes, separate(genes, model_genes), "--genes", "gene")
    name_by_id = dict(pathway_table.select("pathway", "name").iter_rows())
    hints = [*name_by_id, *name_by_id.values()]
    requested = _replace_names(separate(pathways, hints), name_by_id)
    ids = resolve_names(list(name_by_id), requested, "--pathways", "gene set", hints)
    genes_by_id = dict(pathway_table.select("pathway", "genes").iter_rows())
    gene_index = {gene: row for row, gene in enumerate(model_genes)}
    rows = [[gene_index[gene] for gene in genes_by_id[key] if gene in gene_index] for key in ids]
    mean, sd = (gene_table[name].to_numpy() for name in ("mean", "sd"))
    sets = _membership(rows, len(model_genes))
    scorer = activity.scoring_method(score, mean, sd, sd > 0, sets, np.float32)
    constant = [key for key, scorable in zip(ids, scorer.scorable, strict=True) if not scorable]
    if constant:
        cause = f"no gene of {list_names(constant)} varies among the training samples"
        raise ConfigError("--pathways", cause, "leave it out")
    titles = {("gene", gene): gene for gene in names}
    for key in ids:
        title = f"{key} (gene set)" if key in names else key
        titles["pathway", key] = f"{name_by_id[key]} ({key})" if name_by_id[key] != key else title
    return Targets(
        genes=names,
        rows=np.array([gene_index[gene] for gene in names], np.int64),
        pathways=ids,
        scorer=scorer,
        titles=titles,
    )


def _membership(sets: list[list[int]], genes: int) -> sparse.csr_matrix:
    """Return sets of gene indices as rows that sum to 1 over their genes."""
    lengths = np.array([len(rows) for rows in sets], np.int64)
    columns = np.array([row for rows in sets for row in rows], np.int64)
    shares = np.repeat(1 / np.maximum(lengths, 1), lengths).astype(np.float32)
    return sparse.csr_matrix((shares, columns, np.cumsum([0, *lengths])), shape=(len(sets), genes))


def separate(texts: Sequence[str], names: Sequence[str]) -> list[str]:
    """Split texts at commas, except those in `names`: names of gene sets may have commas."""
    folded = {name.casefold() for name in names}
    items = []
    for text in texts:
        parts = [text] if text.strip().casefold() in folded else text.split(",")
        items += [part.strip() for part in parts if part.strip()]
    return items


def _replace_names(texts: Sequence[str], name_by_id: dict[str, str]) -> list[str]:
    """Replace names of gene sets by their ids, where only one set has the name."""
    ids = []
    for text in texts:
        matches = [key for key, name in name_by_id.items() if name.casefold() == text.casefold()]
        ids.append(matches[0] if len(matches) == 1 else text)
    return ids


def resolve_names(
    names: Sequence[str],
    requested: Sequence[str],
    option: str,
    noun: str,
    hints: Sequence[str] | None = None,
) -> list[str]:
    """Return the requested names in the spelling of `names`, each once.

    Raises
    ------
    ConfigError
        Some are unknown; the message lists the first ones, with close matches among `hints` or
        `names`.
    """
    exact = set(names)
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(name.casefold(), []).append(name)
    resolved, unknown = [], []
    for text in requested:
        matches = folded.get(text.casefold(), [])
        if text in exact:
            resolved.append(text)
        elif len(matches) == 1:
            resolved.append(matches[0])
        else:
            unknown.append(text)
    if unknown:
        near = {text: _close_matches(text, hints or names) for text in unknown}
        items = [f"{text} (near: {', '.join(near[text])})" if near[text] else text for text in near]
        plural = "s" if len(unknown) > 1 else ""
        cause = f"the model has no {noun}{plural} {list_names(items)}"
        remedy = f"choose among its {len(names)} {noun}s"
        raise ConfigError(option, cause, f"{remedy}, listed in the model's folder")
    return list(dict.fromkeys(resolved))


def _close_matches(text: str, names: Sequence[str]) -> list[str]:
    folded = {name.casefold(): name for name in names}
    matches = difflib.get_close_matches(text.casefold(), list(folded), n=3, cutoff=0.6)
    return [folded[match] for match in matches]


def gene_targets(genes: Sequence[str], rows: NDArray[np.int64]) -> Targets:
    """Return targets of genes only, by names and indices."""
    no_sets = activity.SsGsea(sparse.csr_matrix((0, 0), dtype=np.float32))
    return Targets(list(genes), rows, [], no_sets, {("gene", gene): gene for gene in genes})
