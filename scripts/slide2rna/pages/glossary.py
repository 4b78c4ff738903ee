"""Glossary of the HTML pages, for pathologists and statisticians."""

from __future__ import annotations

from typing import NamedTuple


class Term(NamedTuple):
    """A word as written on the page, and its meaning there."""

    word: str
    text: str


# In page order: from the slide to the numbers.
TERMS = {
    "tile": Term(
        "tile",
        "A small square of the slide, 128 µm a side unless configured otherwise. Tiles without "
        "tissue are left out; the model sees only the others.",
    ),
    "encoder": Term(
        "encoder",
        "A network that turns a tile into a list of numbers. It was trained on other images and is "
        "not changed here.",
    ),
    "bag": Term(
        "bag, cluster",
        "A slide's tiles sorted by k-means into k groups that look alike; each group is kept as "
        "its mean and its size. All models read this bag, not the picture.",
    ),
    "site": Term(
        "site",
        "The hospital or laboratory that a patient's slide comes from. Sites differ in patients, "
        "stain and scanner, so a model can score well just by recognising the site.",
    ),
    "fold": Term(
        "fold",
        "The patients are split several times, once per fold, into train, val, cal and test; each "
        "patient is in test once. Every fold has its own models.",
    ),
    "parts": Term(
        "train, val, cal, test",
        "The parts of a fold. Train fits the model; val stops the training, selects settings and "
        "ranks genes; cal sets the width of conformal intervals; test is held out and scored once.",
    ),
    "log2": Term(
        "log2(x+1)",
        "The scale of expression: one unit is a factor of about two. x is FPKM-UQ for TCGA, or "
        "what the cohort's own table holds.",
    ),
    "pcc": Term(
        "correlation, PCC",
        "Pearson correlation of predicted and measured values of a gene over the test patients "
        "of a fold: 1 is perfect agreement, 0 is none. A gene set's value is the mean "
        "over its genes, then over folds; a gene's own value combines folds by Fisher z with "
        "weight n − 3. A prediction without variance counts 0; genes that are constant in train "
        "are left out.",
    ),
    "draw-pcc": Term(
        "PCC of the mean of draws, of one draw",
        "The same for the mean of the draws and for one draw. For a calibrated model one draw's "
        "correlation is the square of the mean's.",
    ),
    "tk": Term(
        "T-k",
        "The k genes with the highest correlation in the fold's val part, scored on its test "
        "part. With fewer than 20 test patients in a fold, sets smaller than a twentieth of the "
        "genes are not shown.",
    ),
    "interval": Term(
        "95 % interval",
        "The range of a number that chance in the choice of patients may explain: over many "
        "cohorts, about 95 of 100 such ranges contain the true value. Basic bootstrap over "
        "patients within folds; the models are not refitted.",
    ),
    "null": Term(
        "null",
        "A prediction that uses no morphology: the mean of train (constant), the mean of the "
        "patient's site, six colour numbers of the slide, or a model trained on permuted "
        "profiles. A model that doesn't beat the nulls has learned nothing from the tissue.",
    ),
    "floor": Term(
        "noise floor",
        "The score by chance: the profiles of the test patients are permuted as whole vectors and "
        "scored by the same rule.",
    ),
    "ridge": Term(
        "ridge",
        "A linear regression on the mean of the slide's tiles, with a penalty selected on val: the "
        "simplest model that uses the tissue.",
    ),
    "fdr": Term(
        "FDR, false discovery rate",
        "Of the genes selected at FDR 5 %, about 5 in 100 are false positives "
        "(Benjamini–Hochberg over all genes).",
    ),
    "rmse": Term(
        "RMSE, ratio, NRMSE",
        "RMSE: root mean square error in log2(x+1). Ratio: RMSE divided by that of predicting the "
        "train mean, per gene set; below 1 is better than ignoring the slide. NRMSE: RMSE divided "
        "by the gene's train mean (as published), for genes with a mean of at least 0.1.",
    ),
    "draws": Term(
        "draws, point",
        "The model predicts a sample of possible profiles of a slide, the draws, instead of a "
        "single value. Their spread is its uncertainty; the point prediction is the mean of "
        "infinitely many draws.",
    ),
    "coverage": Term(
        "coverage, calibration",
        "The share of measured values inside an interval. 90 % intervals should hold 90 %: "
        "fewer is overconfident, more is vague. Central intervals come from order statistics of "
        "the draws at p(n+1).",
    ),
    "pit": Term(
        "rank of the measured value, PIT",
        "The position of the measured value among the draws, from 0 to 1. All ranks are equally "
        "frequent if the model is calibrated.",
    ),
    "nll": Term(
        "NLL",
        "Negative log likelihood of the measured value under a Gaussian with the mean and "
        "variance of the draws. Lower is better.",
    ),
    "crps": Term(
        "CRPS",
        "Continuous ranked probability score, unbiased: the error of the distribution of draws, in "
        "log2 units. Lower is better; narrow and accurate distributions score best. For the train "
        "mean, the train profiles serve as draws.",
    ),
    "conformal": Term(
        "conformal interval",
        "An interval whose width is set by calibration patients (cal), who are not used for "
        "training. Its coverage holds on average over patients like them even if the model is "
        "wrong.",
    ),
    "shift": Term(
        "shift",
        "A slide, site or cohort that is out-of-distribution: unlike those of the training. The "
        "results on this page may not hold for it.",
    ),
    "pathway": Term(
        "pathway, GO",
        "A set of genes that work together, usually a term of the Gene Ontology (GO) with all "
        "terms below it. Its score is one number per patient, computed from its genes' expression.",
    ),
    "variance-by-site": Term(
        "variance by site",
        "Share of a gene's measured variance that the patients' sites explain, adjusted for the "
        "number of sites.",
    ),
}
