"""Gene names: from the names of a table to the current symbols that gene sets use.

Symbols change: SKIV2L became SKIC2, MARCH1 MARCHF1. A gene is looked up by its Ensembl id where
there is one, then as a current symbol, then as an Entrez id or an alias of one gene, all in the
pinned tables of resources/go (Bioconductor's org.Hs.eg.db 3.16).
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import polars as pl

from slide2rna.core.errors import PathwayError, list_names
from slide2rna.core.log import log
from slide2rna.core.root import ROOT
from slide2rna.core.types import Row

FOLDER = ROOT / "resources" / "go"
SYMBOLS, ALIASES = "symbol_ensembl_entrez.tsv.gz", "symbol_alias.tsv.gz"
ENSEMBL = re.compile(r"(ENSG\d{11})(\.\d+)?(_PAR_Y)?")
UNKNOWN_SHARE = 0.05


@dataclass(frozen=True)
class NameTables:
    """Current symbols, and the symbol of each Ensembl id, Entrez id and alias."""

    symbols: frozenset[str]
    ensembl: Mapping[str, str]
    entrez: Mapping[str, str]
    aliases: Mapping[str, str]

    def find(self, name: str, ensembl: str | None = None) -> tuple[str, str]:
        """Return a gene's symbol and how it was found; an unknown name stays as it is."""
        for text in (ensembl, name):
            found = ENSEMBL.fullmatch(text or "")
            if found and found[1] in self.ensembl:
                return self.ensembl[found[1]], "ensembl"
        if name in self.symbols:
            return name, "symbol"
        if name in self.entrez:
            return self.entrez[name], "entrez"
        if name in self.aliases:
            return self.aliases[name], "alias"
        return name, "unknown"


@cache
def tables(folder: Path = FOLDER) -> NameTables:
    """Read the pinned tables.

    Raises
    ------
    PathwayError
        A table is missing or damaged.
    """
    try:
        rows, aliases = _read(folder / SYMBOLS), _read(folder / ALIASES)
    except (OSError, EOFError) as error:
        cause = f"the table of gene names can't be read ({error})"
        raise PathwayError(folder, cause, "restore resources/go") from error
    return NameTables(
        frozenset(row["symbol"] for row in rows),
        {row["ensembl"]: row["symbol"] for row in rows if row["ensembl"]},
        {row["entrez"]: row["symbol"] for row in rows if row["entrez"]},
        {row["alias"]: row["symbol"] for row in aliases},
    )


def _read(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def symbols_of(
    genes: Sequence[str], ensembl: Mapping[str, str] | None = None, folder: Path = FOLDER
) -> list[str]:
    """Return the current symbol of each gene; `ensembl` has ids by name, where they are known."""
    found, known = tables(folder), ensembl or {}
    return [found.find(gene, known.get(gene))[0] for gene in genes]


def name_table(genes: Sequence[str], ensembl: Mapping[str, str]) -> pl.DataFrame:
    """Return gene, ensembl (null where unknown), symbol and found, a row per gene."""
    known = tables()
    rows = [(gene, ensembl.get(gene), *known.find(gene, ensembl.get(gene))) for gene in genes]
    names = ("gene", "ensembl", "symbol", "found")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def name_facts(where: object, table: pl.DataFrame) -> Row:
    """Count how the names were found; warn if more than 5 % are unknown.

    Returns
    -------
    dict
        Number of genes per way of `NameTables.find`, and the first unknown names.
    """
    counts = dict(table.group_by("found").len().sort("found").iter_rows())
    unknown = table.filter(found="unknown")["gene"].to_list()
    if len(unknown) > UNKNOWN_SHARE * table.height:
        log.warning(
            "warning: %s: %d of %d gene names aren't known as a symbol, an alias or an id, so no "
            "gene set has them: %s",
            *(where, len(unknown), table.height, list_names(unknown)),
        )
    return {"found": counts, "unknown": unknown[:20]}
