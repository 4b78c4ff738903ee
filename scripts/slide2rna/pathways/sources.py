"""Gene-set sources: the pinned GO snapshot, a GMT file, or an index JSON."""

from __future__ import annotations

import csv
import gzip
import hashlib
import lzma
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from slide2rna.core import files
from slide2rna.core.delimited_text import read_text
from slide2rna.core.errors import PathwayError, has_control
from slide2rna.core.log import log
from slide2rna.pathways import gene_names

OBO = "go-2022-07-01.obo.xz"
# Source of gene sets: annotations, and the aspect's name in the ontology.
ASPECTS = {
    "go-bp": ("human_gene2go_bp_direct.tsv.gz", "biological_process"),
    "go-mf": ("human_gene2go_mf_direct.tsv.gz", "molecular_function"),
}
# sha256 of the sorted 20,820 names, one per line: the list of the published indices.
PUBLISHED_SHA256 = "de9c397d6ed4201a26234207ea17058df4a4b7e7c262bc32c5e3d037ba802e34"
WEIGHT = re.compile(r",\s*[+-]?\d+(\.\d+)?([eE][+-]?\d+)?$")
# Entries of a published index file that form the background and are not sets.
BACKGROUND = ("UNMAPPED", "UNCLASSIFIED")


@dataclass(frozen=True)
class GeneSets:
    """Named sets of gene indices (sorted, int64) and their release."""

    names: list[str]
    descriptions: list[str]
    index: list[np.ndarray]
    release: str

    def take(self, positions: np.ndarray) -> GeneSets:
        """Return the sets at these positions, in this order."""
        return GeneSets(
            [self.names[i] for i in positions],
            [self.descriptions[i] for i in positions],
            [self.index[i] for i in positions],
            self.release,
        )


def gene_ontology(
    folder: Path, genes: Sequence[str], source: str, symbols: Sequence[str] | None = None
) -> GeneSets:
    """Read GO terms of one aspect (a key of ASPECTS), with genes propagated up all relations.

    Direct annotations (symbol, GO id, evidence) go up along is_a, part_of and the three
    regulates relations (goatools `get_all_upper`); evidence ND (no data) and the root are
    dropped.

    Parameters
    ----------
    genes : names as in the expression table: symbols, old symbols, Ensembl or Entrez ids.
    symbols : their current symbols, if they are known; looked up by default (gene_names.py).

    Raises
    ------
    PathwayError
        A file of the snapshot is missing or can't be read.
    """
    # Importing goatools takes a quarter of a second, and only GO needs it.
    from goatools.obo_parser import GODag

    annotations, namespace = ASPECTS[source]
    try:
        with tempfile.NamedTemporaryFile(suffix=".obo") as plain:
            plain.write(lzma.decompress((folder / OBO).read_bytes()))
            plain.flush()
            dag = GODag(plain.name, optional_attrs={"relationship"}, prt=None)
        direct = _read_annotations(folder / annotations)
        if symbols is None:
            symbols = gene_names.symbols_of(genes, folder=folder)
    except (OSError, lzma.LZMAError, EOFError) as error:
        raise PathwayError(
            folder, f"the GO snapshot can't be read ({error})", "restore resources/go"
        ) from error
    terms = sorted({term for gene in direct.values() for term in gene if term in dag})
    upper = {term: {term, *dag[term].get_all_upper()} for term in terms}
    targets = sorted(
        term
        for term in set().union(*upper.values())
        if dag[term].namespace == namespace and dag[term].level > 0
    )
    target_column = {term: i for i, term in enumerate(targets)}
    ancestors = _binary_matrix(
        [[target_column[t] for t in upper[term] if t in target_column] for term in terms],
        len(targets),
    )
    term_row = {term: i for i, term in enumerate(terms)}
    direct_matrix = _binary_matrix(
        [[term_row[t] for t in direct.get(symbol, ()) if t in term_row] for symbol in symbols],
        len(terms),
    )
    members = (direct_matrix @ ancestors).T.tocsr()
    members.sort_indices()
    index = [part.astype(np.int64) for part in np.split(members.indices, members.indptr[1:-1])]
    return GeneSets(targets, [dag[t].name for t in targets], index, _release_name(str(dag.version)))


def _release_name(version: str) -> str:
    """Return the release in an OBO version, or the file name if it has none."""
    match = re.search(r"rel\(([^)]*)\)", version)
    return f"GO {match[1]}" if match else OBO


def _binary_matrix(rows: Iterable[list[int]], width: int) -> sparse.csr_array:
    """Return a 0/1 matrix with ones in these columns of each row."""
    lists = list(rows)
    pointer = np.cumsum([0, *map(len, lists)])
    columns = np.array([i for row in lists for i in row], dtype=np.int64)
    ones = np.ones(len(columns), dtype=np.int32)
    return sparse.csr_array((ones, columns, pointer), shape=(len(lists), width))


def _read_annotations(path: Path) -> dict[str, set[str]]:
    """Read the GO ids of each gene symbol, without evidence ND."""
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        direct: dict[str, set[str]] = {}
        for row in csv.DictReader(handle, delimiter="\t"):
            if row["evidence"] != "ND":
                direct.setdefault(row["symbol"], set()).add(row["go_id"])
    return direct


def read_gmt(path: Path, genes: Sequence[str], symbols: Sequence[str] | None = None) -> GeneSets:
    """Read the sets of a GMT file over these genes, by name, or else by current symbol."""
    names, descriptions, gene_lists = read_gmt_lists(path)
    by_name = {gene: i for i, gene in enumerate(genes)}
    known = gene_names.tables()
    by_symbol: dict[str, int] = {}
    for i, symbol in enumerate(gene_names.symbols_of(genes) if symbols is None else symbols):
        by_symbol.setdefault(symbol, i)

    def position(member: str) -> int | None:
        at = by_name.get(member)
        return by_symbol.get(known.find(member)[0]) if at is None else at

    index = []
    for line in gene_lists:
        found = {position(member) for member in line}
        index.append(np.array(sorted(i for i in found if i is not None), dtype=np.int64))
    return GeneSets(names, descriptions, index, f"sha256:{files.sha256sum(path)[:16]}")


def read_gmt_lists(path: Path) -> tuple[list[str], list[str], list[list[str]]]:
    """Read names, descriptions and gene symbols of a GMT file, line by line.

    Blanks around a field are dropped, and so is a weight behind a gene (Enrichr's `GENE,1.0`). A
    probe set of several genes counts as each of them.

    Raises
    ------
    SheetError
        The file isn't text; see `read_text`.
    PathwayError
        A line has fewer than three fields separated by tabs, or repeats a set's name.
    """
    names: list[str] = []
    descriptions: list[str] = []
    gene_lists: list[list[str]] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) < 3:
            raise PathwayError(
                f"{path} line {number}",
                "fewer than three fields",
                "a GMT line is a name, a description and genes, separated by tabs",
            )
        if strange := [field for field in fields if has_control(field)]:
            cause = f"{strange[0][:60]!a} holds a control character"
            raise PathwayError(f"{path} line {number}", cause, "remove it from the name")
        if fields[0] in names:
            raise PathwayError(
                f"{path} line {number}", f"set '{fields[0]}' occurs twice", "give each set one name"
            )
        names.append(fields[0])
        descriptions.append(fields[1])
        members = [WEIGHT.sub("", field) for field in fields[2:] if field]
        gene_lists.append([gene for member in members for gene in split_probe(member)])
    blank = sorted({gene for line in gene_lists for gene in line if " " in gene})
    if blank:
        log.warning(
            "warning: %s: %d names hold a blank, such as '%s', and are no gene of the cohort",
            *(path, len(blank), blank[0]),
        )
    return names, descriptions, gene_lists


def split_probe(member: str) -> list[str]:
    """Return the genes of a probe set's name, such as `HLA-A /// HLA-B` (Affymetrix)."""
    return [gene for part in member.split("///") if (gene := part.strip())]


def read_index_lists(path: Path) -> dict[str, list[Any]]:
    """Read the lists of an index file, {name: [gene index or name, ...]}.

    Raises
    ------
    ValueError
        Not JSON.
    PathwayError
        Not an object of lists.
    """
    content = files.parse_json(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise PathwayError(path, "not an object of lists", "give {set name: [genes]}")
    for name, members in content.items():
        genes = [gene for gene in members if isinstance(gene, str) or type(gene) is int]
        if len(genes) < len(members) or any(has_control(str(text)) for text in (name, *genes)):
            cause = f"set {name[:60]!a} has a member that is no gene"
            raise PathwayError(path, cause, "give names, or the published positions")
    return content


def read_index_json(path: Path, genes: Sequence[str]) -> GeneSets:
    """Read the sets of a published index file: {name: [gene index or name, ...]}.

    Indices are positions in the 20,820-gene list of the published code (sorted by name), so they
    need an expression table with exactly those genes. The entries UNMAPPED and UNCLASSIFIED are
    the background, not sets.

    Raises
    ------
    PathwayError
        Not an index file, or its indices belong to another gene list.
    """
    try:
        content = read_index_lists(path)
    except ValueError as error:
        raise PathwayError(path, str(error), "give a JSON object of gene lists") from error
    position = {gene: i for i, gene in enumerate(genes)}
    numbers = any(isinstance(member, int) for members in content.values() for member in members)
    if numbers:
        published = hashlib.sha256("\n".join(sorted(genes)).encode()).hexdigest()
        if published != PUBLISHED_SHA256:
            raise PathwayError(
                path,
                f"its indices are for the published list of 20,820 genes, not these {len(genes)}",
                "use that gene list (cohorts.<name>.genes), or a GMT file",
            )
        position = {i: position[gene] for i, gene in enumerate(sorted(genes))}  # type: ignore[misc]
    names = [name for name in content if name not in BACKGROUND]
    index = [
        np.array(sorted({position[g] for g in content[name] if g in position}), dtype=np.int64)
        for name in names
    ]
    return GeneSets(names, names, index, f"sha256:{files.sha256sum(path)[:16]}")
