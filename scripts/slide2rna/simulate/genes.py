"""Genes of the demo: real symbols in modules from GO, so that pathways carry signal.

`python -m slide2rna.simulate.genes OBO ANNOTATIONS GENES OUT` (in scripts/) wrote
resources/demo/genes.tsv; a test repeats it.
"""

from __future__ import annotations

import csv
import gzip
import lzma
import sys
from collections import Counter, defaultdict
from pathlib import Path

from slide2rna.core import files

# Module: its GO roots and its number of genes. Six modules follow a tissue class, one follows
# the hidden subtype, `none` follows neither. 922 of 2,048 genes (45 %) follow a class.
MODULES: dict[str, tuple[tuple[str, ...], int]] = {
    "tumour": (("mitotic cell cycle", "DNA replication", "chromosome segregation"), 222),
    "stroma": (
        ("extracellular matrix organization", "collagen fibril organization", "ossification"),
        180,
    ),
    "fat": (("lipid metabolic process", "fat cell differentiation", "lipid storage"), 170),
    "lumen": (("gland development", "digestion", "epithelial cell differentiation"), 60),
    "lymphocytes": (("adaptive immune response", "lymphocyte activation"), 190),
    "necrosis": (("response to hypoxia", "glycolytic process", "acute inflammatory response"), 100),
    "subtype": (("cellular response to hormone stimulus",), 150),
}
N_GENES = 2048


def choose(obo: Path, annotations: Path, gene_list: Path) -> list[tuple[str, str]]:
    """Choose genes and modules.

    A gene's score in a module is the number of its direct annotations below the module's roots.
    It belongs to the module with the largest share of its annotations, and each module takes the
    highest scores first. The module `none` is filled up with genes below no root, most annotated
    first. Ties are broken by symbol.

    Parameters
    ----------
    obo : Path
        GO as OBO, xz-compressed.
    annotations : Path
        Gzipped table symbol, go_id, evidence with direct biological-process annotations.
    gene_list : Path
        CSV with the column `gene`; only its genes are chosen.

    Returns
    -------
    list of (gene, module)
        `N_GENES` rows sorted by gene.
    """
    names, ancestors = _read_obo(obo)
    roots = {
        module: {term for term, name in names.items() if name in root_names}
        for module, (root_names, _) in MODULES.items()
    }
    with open(gene_list, encoding="utf-8", newline="") as handle:
        allowed = {row["gene"] for row in csv.DictReader(handle)}
    terms: dict[str, set[str]] = defaultdict(set)
    with gzip.open(annotations, "rt", encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            if row["symbol"] in allowed and row["evidence"] != "ND":
                terms[row["symbol"]].add(row["go_id"])
    ranked: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for gene, gene_terms in terms.items():
        score = Counter(
            module
            for term in gene_terms
            for module, module_roots in roots.items()
            if module_roots & ancestors.get(term, frozenset())
        )
        # the first of MODULES wins a tie: Counter keeps insertion order, max is stable by key
        best = max(MODULES, key=lambda module: score[module])
        module = best if score[best] else "none"
        ranked[module].append((-(score[best] or len(gene_terms)), gene))
    chosen = [
        (gene, module)
        for module, (_, size) in MODULES.items()
        for _, gene in sorted(ranked[module])[:size]
    ]
    rest = sorted(ranked["none"])[: N_GENES - len(chosen)]
    return sorted(chosen + [(gene, "none") for _, gene in rest])


def _read_obo(path: Path) -> tuple[dict[str, str], dict[str, frozenset[str]]]:
    """Read names and ancestors (the term included, by is_a and all relationships) of all terms."""
    names: dict[str, str] = {}
    parents: dict[str, set[str]] = defaultdict(set)
    term = ""
    with lzma.open(path, "rt", encoding="utf-8") as handle:
        for line in handle:
            key, _, value = line.rstrip("\n").partition(": ")
            if line.startswith("["):
                term = ""
            elif key == "id" and value.startswith("GO:"):
                term = value
            elif term and key == "name":
                names[term] = value
            elif term and key == "is_a":
                parents[term].add(value[:10])
            elif term and key == "relationship":
                parents[term].add(value.split()[1])
    ancestors: dict[str, frozenset[str]] = {}

    def climb(term: str) -> frozenset[str]:
        if term not in ancestors:
            ancestors[term] = frozenset({term}).union(*(climb(up) for up in parents[term]))
        return ancestors[term]

    for term in list(names):
        climb(term)
    return names, ancestors


def main(obo: str, annotations: str, gene_list: str, out: str) -> None:
    """Write the chosen genes as TSV."""
    rows = choose(Path(obo), Path(annotations), Path(gene_list))
    files.write_text("gene\tmodule\n" + "".join(f"{g}\t{m}\n" for g, m in rows), out)


if __name__ == "__main__":
    main(*sys.argv[1:])
