"""Troubles of the troubleshooting page with tables, provoked for real in the working folder.

Each function is called in an empty folder and must end with an error of the program, or log one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import yaml
from slide2rna.cohort import freeze, leak_guard, star_counts
from slide2rna.commands import cohort
from slide2rna.core import config
from slide_factory import shard

TROUBLES: list[Callable[[], object]] = []
SHEET = {"slide_id": list("ABCDEF"), "patient_id": list("ABCDEF"), "slide": [""] * 6}
GENES = {"G1": [1.0, 2, 3, 4, 5, 6], "G2": [6.0, 5, 4, 3, 2, 1]}


def trouble(function: Callable[[], object]) -> Callable[[], object]:
    TROUBLES.append(function)
    return function


def from_sheet(
    sheet: dict[str, object] | str | None = None,
    expression: dict[str, object] | str | None = None,
    folds: dict[str, object] | None = None,
    **block: object,
) -> None:
    """Build a cohort from small tables, as `slide2rna cohort` and the workflow do."""
    for name, table, default in (
        ("slides.tsv", sheet, SHEET),
        ("expression.csv", expression, {"sample_id": SHEET["slide_id"], **GENES}),
    ):
        separator = "\t" if name.endswith("tsv") else ","
        if isinstance(table, str):
            Path(name).write_text(table)
        else:
            pl.DataFrame(table or default).write_csv(name, separator=separator)
    source = {"source": "sheet", "sheet": "slides.tsv", "expression": "expression.csv"} | block
    full = config.validate({"cohorts": {"mine": source}})["cohorts"]["mine"]
    freeze.freeze_cohort("mine", full, config.defaults("folds", **(folds or {})), 1, "out")


def from_config(text: str, *arguments: str) -> None:
    Path("config.yaml").write_text(text)
    cohort.main(["mine", *arguments])


MINE = "source: sheet, sheet: slides.tsv, expression: expression.csv"


@trouble
def unknown_key() -> None:
    from_config(f"cohorts: {{mine: {{{MINE}}}}}\nmodles: [flow]\n")


@trouble
def key_twice() -> None:
    from_config(f"cohorts: {{mine: {{{MINE}}}}}\ncohorts: {{}}\n")


@trouble
def unknown_value() -> None:
    from_config(f"cohorts: {{mine: {{{MINE}}}}}\ndevice: gpu\n")


@trouble
def missing_key() -> None:
    from_config("cohorts: {mine: {source: sheet, sheet: slides.tsv}}\n")


@trouble
def no_such_cohort() -> None:
    from_config(f"cohorts: {{yours: {{{MINE}}}}}\n")


@trouble
def no_config() -> None:
    cohort.main(["mine"])


@trouble
def search_too_long() -> None:
    from slide2rna.plan import runs

    text = "cohorts: {mine: {source: demo}}\nmodels: [abmil]\nsearch: 9\n"
    full = config.validate(yaml.safe_load(text))
    runs.model_runs(full, "mine")[0].search()


@trouble
def column_is_missing() -> None:
    from_sheet({"slide": ["a.svs"], "patient": ["P1"], "slide_id": ["A"]})


@trouble
def slide_is_no_file() -> None:
    from_sheet(SHEET | {"slide": ["", "", "scans/C.svs", "", "", ""]})


@trouble
def slide_is_there_twice() -> None:
    from_sheet(SHEET | {"slide_id": list("ABCDEA")})


@trouble
def a_spreadsheet() -> None:
    from_sheet("PK\x03\x04")


@trouble
def decimal_comma() -> None:
    from_sheet(SHEET | {"mpp": ["0,5"] * 6})


@trouble
def sample_of_two_patients() -> None:
    from_sheet(SHEET | {"sample_id": list("SSCDEF")})


@trouble
def too_many_cells() -> None:
    from_sheet("slide_id\tpatient_id\tslide\nA\tA\t\nB\tB\t\tsecond biopsy\n")


@trouble
def unsafe_name() -> None:
    from_sheet(SHEET | {"slide_id": ["block 7/1", *"BCDEF"]})


@trouble
def samples_without_expression() -> None:
    from_sheet(expression={"sample_id": list("ABCD"), "G1": [1.0] * 4})


@trouble
def not_log2() -> None:
    from_sheet(expression={"sample_id": list("ABCDEF"), "G1": [5.0, 812, 3, 4, 5, 6]})


@trouble
def z_scores() -> None:
    from_sheet(expression={"sample_id": list("ABCDEF"), "G1": [-1.0, 2, 3, 4, 5, 6]})


@trouble
def genes_are_rows() -> None:
    from_sheet(expression={"gene": ["TP53", "EGFR"], **{name: [1.0, 2.0] for name in "ABCDEF"}})


@trouble
def text_among_numbers() -> None:
    from_sheet(expression="sample_id,G1\nA,1\nB,n.d.\nC,1\nD,1\nE,1\nF,1\n")


@trouble
def listed_gene_is_missing() -> None:
    Path("genes.txt").write_text("G1\nG3\n")
    from_sheet(genes="genes.txt")


@trouble
def too_many_folds() -> None:
    three = {key: values[:3] for key, values in SHEET.items()}
    from_sheet(three, {"sample_id": list("ABC"), "G1": [1.0, 2, 3]})


@trouble
def site_is_unknown() -> None:
    from_sheet(SHEET | {"site": ["x", "y", None, "x", "y", "x"]}, folds={"by": "leave-site-out"})


@trouble
def split_forgets_a_patient() -> None:
    parts = ["train", "train", "train", "val", "test"]
    rows = [f"{name}\t0\t{part}" for name, part in zip("ABCDE", parts, strict=True)]
    Path("splits.tsv").write_text("patient_id\tfold\tpart\n" + "\n".join(rows))
    from_sheet(folds={"n": 1}, splits="splits.tsv")


@trouble
def control_character() -> None:
    from_sheet(SHEET | {"site": ["Bonn\u202e", *"bcdef"]})


@trouble
def ids_in_two_cases() -> None:
    from_sheet(SHEET | {"slide_id": list("AaCDEF")})


@trouble
def gene_name_with_a_control_character() -> None:
    from_sheet(expression={"sample_id": SHEET["slide_id"], "G\x1b[1m": [1.0] * 6})


@trouble
def star_gene_twice() -> None:
    Path("star").mkdir()
    rows = ["gene_id\tgene_name\tgene_type\tfpkm_uq_unstranded", *["E1\tG1\tx\t1.0"] * 2]
    for name in "ABCDEF":
        Path(f"star/{name}.tsv").write_text("\n".join(rows))
    star_counts.read_star(Path("star"), "fpkm_uq_unstranded")


@trouble
def cohorts_in_two_cases() -> None:
    from_config(f"cohorts: {{mine: {{{MINE}}}, Mine: {{{MINE}}}}}\n")


@trouble
def results_with_braces() -> None:
    from slide2rna.plan import plan

    plan.Plan.of({"cohorts": {"mine": {"source": "demo"}}, "results": "r{x}"})


def guarded(md5s: list[str], parts: list[str]) -> None:
    slides = shard(Path("shard.parquet"), {name: None for name in "ABC"}, md5=md5s)
    table = {"unit": list("ABC"), "fold": [0] * 3, "part": parts}
    pl.DataFrame(table).write_csv("splits.tsv", separator="\t")
    leak_guard.guard_cohort([slides], "splits.tsv", "guard.json")


@trouble
def the_same_file_twice() -> None:
    guarded(["x", "y", "x"], ["train", "val", "test"])
