"""Gene columns of an expression table: which columns are genes, and which names look damaged.

Tables carry more than genes: row numbers that pandas or R wrote, identifiers, clinical covariates,
and the summary rows of HTSeq and STAR. They are left out, with their names in the log. A name that
a spreadsheet turned into a date stays, with a warning: no gene set has a gene of that name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from slide2rna.core.errors import SheetError, has_control, list_names
from slide2rna.core.log import log
from slide2rna.storage.delimited import duplicates

# Row numbers and labels that pandas, polars and R write.
INDEX = re.compile(
    r"unnamed: ?\d+(_level_\d+)?|__index_level_\d+__|index|level_0|row(_?(names?|id|nr|num(ber)?))?"
    r"|\.\.\.\d+|#|no\.?",
    re.IGNORECASE,
)
IDENTIFIER = re.compile(
    r"((sample|submitter|patient|case|subject|slide|donor|aliquot|participant|file|bcr|tcga)"
    r"[ _.-]?)?"
    r"(ids?|uuid|barcode|identifier)|sample|patient|case|subject|slide|donor|patient_?(nr|no|number)",
    re.IGNORECASE,
)
# Last rows of htseq-count, first rows of STAR's ReadsPerGene.out.tab.
SUMMARY = re.compile(
    r"__\w+|N_(unmapped|multimapping|noFeature|ambiguous)"
    r"|no_?feature|too_low_aqual|not_aligned|alignment_not_unique",
    re.IGNORECASE,
)
COVARIATE = re.compile(
    r"age(_at_(diagnosis|index))?|sex|gender|race|ethnicity|bmi|height|weight|ploidy|batch|plate"
    r"|((tumou?r|pathologic)_)?(stage|grade|purity)|cent(er|re)|site|hospital|cohort|group|label"
    r"|class|target|fold|split|days|months|time|event|status|vital_status|dead|days_to_\w+"
    r"|(os|pfs|pfi|dfs|dfi|dss|survival)(_(time|days|months|event|status))?|rin|total(_\w+)?"
    r"|lib(rary)?_?size|size_?factors?|norm_factors|n_(counts|genes|reads)|pct_\w+|percent_mt",
    re.IGNORECASE,
)
MONTH = "(jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)"
DATE = re.compile(
    rf"\d{{1,2}}[-. /]{MONTH}([-. /]\d{{2,4}})?|{MONTH}[-. /]\d{{1,4}}"
    r"|\d{4}-\d{1,2}-\d{1,2}([ T]00:00(:00)?)?|\d{1,2}[./-]\d{1,2}[./-]\d{2,4}",
    re.IGNORECASE,
)
# Days since 1900 as a spreadsheet counts them, from 1980 to 2064.
SERIAL = re.compile(r"(29[2-9]|[345]\d{2})\d{2}(\.0+)?")


def check_printable(
    where: object, what: str, names: Iterable[str], remedy: str = "remove it from the name"
) -> None:
    """Raise SheetError if a name holds a control character; `what` says what it names."""
    if strange := next(filter(has_control, names), None):
        raise SheetError(where, f"the {what} {strange!a} holds a control character", remedy)


def clean_names(where: object, names: Sequence[str]) -> list[str]:
    """Return the column names without blanks around them.

    Raises
    ------
    SheetError
        Two names become one, a name is empty or holds a control character.
    """
    cleaned = [name.strip() for name in names]
    if "" in cleaned:
        cause = f"column {cleaned.index('') + 1} has no name"
        raise SheetError(where, cause, "name the gene or remove the column")
    check_printable(where, "column name", cleaned)
    if repeated := duplicates(cleaned):
        remedy = "keep one of them"
        raise SheetError(where, f"gene {list_names(repeated)} has several columns", remedy)
    return cleaned


def is_no_gene(name: str) -> bool:
    """Return whether a column's name is that of an index, identifier, summary or covariate."""
    kinds = (INDEX, IDENTIFIER, SUMMARY)
    joined = re.sub("[ .-]", "_", name)
    return any(kind.fullmatch(name) for kind in kinds) or bool(COVARIATE.fullmatch(joined))


def gene_columns(where: object, names: list[str], values: np.ndarray) -> np.ndarray:
    """Return which columns (G,) of a table are genes; name the others in the log.

    Parameters
    ----------
    names, values : names and numbers (samples x G) of all columns but the sample ids.
    """
    keep = np.array([not is_no_gene(name) for name in names], dtype=bool)
    if left_out := [name for name, kept in zip(names, keep, strict=True) if not kept]:
        log.warning(
            "warning: %s: %d columns aren't genes and are left out: %s",
            *(where, len(left_out), list_names(left_out)),
        )
    if rows := [names[i] for i in _row_numbers(values, keep)]:
        log.warning(
            "warning: %s: column %s counts the rows and is left out", where, list_names(rows)
        )
        keep &= ~np.isin(names, rows)
    kept = [name for name, one in zip(names, keep, strict=True) if one]
    warn_of_names(where, kept)
    return keep


def _row_numbers(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Return positions of columns that rise by 1 from row to row, from 0 or 1, in 8 rows or more.

    Counts of a gene don't do that; a row number in a table of expression does.
    """
    rows = len(values)
    if rows < 8:
        return np.empty(0, dtype=np.int64)
    numbers = np.arange(rows)[:, None]
    rising = (values == numbers).all(axis=0) | (values == numbers + 1).all(axis=0)
    return np.flatnonzero(rising & keep)


def warn_of_names(where: object, names: list[str]) -> None:
    """Log names that a spreadsheet turned into dates, and names of several genes."""
    # A table of Entrez ids is all numbers, and some of them look like a date's.
    serials = sum(SERIAL.fullmatch(name) is not None for name in names)
    numeric = sum(name.isdecimal() for name in names)
    dates = [name for name in names if DATE.fullmatch(name)]
    if serials and numeric <= len(names) / 2:
        dates += [name for name in names if SERIAL.fullmatch(name)]
    if dates:
        log.warning(
            "warning: %s: %d gene names look like dates that a spreadsheet made of names such as "
            "MARCHF1 and SEPTIN2: %s; no gene set has them: fix the names",
            *(where, len(dates), list_names(dates)),
        )
    if several := [name for name in names if "///" in name or any(map(str.isspace, name))]:
        log.warning(
            "warning: %s: %d gene names hold a blank or ///, so no gene set has them: %s",
            *(where, len(several), list_names(several)),
        )
