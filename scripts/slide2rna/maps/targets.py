"""What to map: genes by name, gene sets by id or name, and their scores in many profiles."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from slide2rna.core.errors import ConfigError, listing
from slide2rna.pathways import activity


@dataclass(frozen=True)
class Targets:
    """Genes first, then gene sets.

    Attributes
    ----------
    genes : names.
    rows : (n,) where they are among the model's G genes.
    pathways : ids of the gene sets.
    scorer : scores those sets in profiles (G, n).
    titles : what people read, by kind and name; a gene and a gene set may have the same name.
    """

    genes: list[str]
    rows: NDArray[np.int64]
    pathways: list[str]
    scorer: activity.Method
    titles: dict[tuple[str, str], str]

    @property
    def names(self) -> list[str]:
        return self.genes + self.pathways

    @property
    def kinds(self) -> list[str]:
        return ["gene"] * len(self.genes) + ["pathway"] * len(self.pathways)

    @property
    def keys(self) -> list[tuple[str, str]]:
        """Kind and name of each."""
        return list(zip(self.kinds, self.names, strict=True))

    def values(self, profiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """From profiles (..., G) in log2(x+1) units to the targets (..., T)."""
        found = profiles[..., self.rows]
        if not self.pathways:
            return found
        flat = profiles.reshape(-1, profiles.shape[-1])
        scores = np.asarray(self.scorer.score(flat.T), np.float32).T
        return np.concatenate([found, scores.reshape(*profiles.shape[:-1], -1)], axis=-1)


def choose(
    gene_table: pl.DataFrame,
    pathway_table: pl.DataFrame,
    genes: Sequence[str],
    pathways: Sequence[str],
    score: str = "zscore",
) -> Targets:
    """Find the wanted names.

    Parameters
    ----------
    gene_table
        gene, and mean and sd of the train samples, which are the units of z scores.
    pathway_table
        pathway, name, genes (list of names).
    genes, pathways
        What the user wrote; a gene set goes by id or name. Case doesn't matter where only one
        name fits.
    score
        zscore or ssgsea.

    Raises
    ------
    ConfigError
        Nothing is wanted, or a name is unknown; the message has near ones.
    """
    if not "".join([*genes, *pathways]).replace(",", "").strip():
        raise ConfigError("--genes", "nothing to map", "name genes, or gene sets with --pathways")
    known = gene_table["gene"].to_list()
    own = resolve_names(known, separate(genes, known), "--genes", "gene")
    named = dict(pathway_table.select("pathway", "name").iter_rows())
    hints = [*named, *named.values()]
    wanted = _ids(separate(pathways, hints), named)
    chosen = resolve_names(list(named), wanted, "--pathways", "gene set", hints)
    of = dict(pathway_table.select("pathway", "genes").iter_rows())
    position = {gene: row for row, gene in enumerate(known)}
    index = [[position[gene] for gene in of[one] if gene in position] for one in chosen]
    mean, sd = (gene_table[name].to_numpy() for name in ("mean", "sd"))
    sets = _members(index, len(known))
    scorer = activity.scoring_method(score, mean, sd, sd > 0, sets, np.float32)
    flat = [one for one, fine in zip(chosen, scorer.known, strict=True) if not fine]
    if flat:
        cause = f"no gene of {listing(flat)} varies among the training samples"
        raise ConfigError("--pathways", cause, "leave it out")
    titles = {("gene", gene): gene for gene in own}
    for one in chosen:
        alone = f"{one} (gene set)" if one in own else one
        titles["pathway", one] = f"{named[one]} ({one})" if named[one] != one else alone
    return Targets(
        genes=own,
        rows=np.array([position[gene] for gene in own], np.int64),
        pathways=chosen,
        scorer=scorer,
        titles=titles,
    )


def _members(index: list[list[int]], genes: int) -> sparse.csr_matrix:
    """Sets as rows that sum to 1 over their genes."""
    lengths = np.array([len(found) for found in index], np.int64)
    columns = np.array([row for found in index for row in found], np.int64)
    shares = np.repeat(1 / np.maximum(lengths, 1), lengths).astype(np.float32)
    return sparse.csr_matrix((shares, columns, np.cumsum([0, *lengths])), shape=(len(index), genes))


def separate(texts: Sequence[str], known: Sequence[str]) -> list[str]:
    """Split at commas what isn't a known name itself: names of gene sets may have commas."""
    whole = {name.casefold() for name in known}
    found = []
    for text in texts:
        parts = [text] if text.strip().casefold() in whole else text.split(",")
        found += [part.strip() for part in parts if part.strip()]
    return found


def _ids(texts: Sequence[str], named: dict[str, str]) -> list[str]:
    """Names of gene sets replaced by their ids, where only one set has the name."""
    found = []
    for text in texts:
        hits = [one for one, name in named.items() if name.casefold() == text.casefold()]
        found.append(hits[0] if len(hits) == 1 else text)
    return found


def resolve_names(
    known: Sequence[str],
    wanted: Sequence[str],
    option: str,
    what: str,
    hints: Sequence[str] | None = None,
) -> list[str]:
    """The wanted names as `known` writes them, each once.

    Raises
    ------
    ConfigError
        Some are unknown; names the first few, with near matches among `hints` or `known`.
    """
    exact = set(known)
    folded: dict[str, list[str]] = {}
    for name in known:
        folded.setdefault(name.casefold(), []).append(name)
    found, unknown = [], []
    for text in wanted:
        alike = folded.get(text.casefold(), [])
        if text in exact:
            found.append(text)
        elif len(alike) == 1:
            found.append(alike[0])
        else:
            unknown.append(text)
    if unknown:
        near = {text: _near(text, hints or known) for text in unknown}
        told = [f"{text} (near: {', '.join(near[text])})" if near[text] else text for text in near]
        plural = "s" if len(unknown) > 1 else ""
        cause = f"the model has no {what}{plural} {listing(told)}"
        remedy = f"choose among its {len(known)} {what}s"
        raise ConfigError(option, cause, f"{remedy}, listed in the model's folder")
    return list(dict.fromkeys(found))


def _near(text: str, names: Sequence[str]) -> list[str]:
    folded = {name.casefold(): name for name in names}
    hits = difflib.get_close_matches(text.casefold(), list(folded), n=3, cutoff=0.6)
    return [folded[hit] for hit in hits]


def of_genes(genes: Sequence[str], rows: NDArray[np.int64]) -> Targets:
    """Genes alone, where they are known already."""
    nothing = activity.SsGsea(sparse.csr_matrix((0, 0), dtype=np.float32))
    return Targets(list(genes), rows, [], nothing, {("gene", gene): gene for gene in genes})
