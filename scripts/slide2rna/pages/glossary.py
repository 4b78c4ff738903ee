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
        "tissue are left out; the rest is all that a model sees of a slide.",
    ),
    "encoder": Term(
        "encoder",
        "A network, trained on other images, that turns a tile into a list of numbers. It is used "
        "as it is and not trained here.",
    ),
    "bag": Term(
        "bag, cluster",
        "A slide's tiles sorted by k-means into k groups that look alike; each group is kept as "
        "its mean and its size. All models read this bag, not the picture.",
    ),
    "site": Term(
        "site",
        "The hospital or laboratory that a patient's slide comes from. Sites differ in patients, "
        "stain and scanner, so a model can look good by telling sites apart.",
    ),
    "fold": Term(
        "fold",
        "The patients are split several times, once per fold, into train, val, cal and test; each "
        "patient is in test once. Every fold has its own models.",
    ),
    "parts": Term(
        "train, val, cal, test",
        "The parts of a fold. Train fits the model; val stops the training, picks settings and "
        "ranks genes; cal sets the width of conformal intervals; test is scored once and "
        "chooses nothing.",
    ),
    "log2": Term(
        "log2(x+1)",
        "The scale of expression: one unit is a factor of about two. x is FPKM-UQ for TCGA, or "
        "what the cohort's own table holds.",
    ),
    "pcc": Term(
        "correlation, PCC",
        "Pearson correlation of predicted and measured values of a gene over the test patients "
        "of a fold: 1 follows every rise and fall, 0 none. A gene set's value is the mean "
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
        "How far chance in who the patients are may move a number: of ranges made like this, in "
        "cohort after cohort, about 95 of 100 hold the true value. Basic bootstrap over patients "
        "within folds; the models themselves are not refitted.",
    ),
    "null": Term(
        "null",
        "A prediction that uses no morphology: the mean of train (constant), the mean of the "
        "patient's site, six colour numbers of the slide, or a model trained on permuted "
        "profiles. What doesn't beat them has learned nothing from the tissue.",
    ),
    "floor": Term(
        "noise floor",
        "What chance alone gives: the profiles of the test patients permuted as whole vectors "
        "and scored under the same rule.",
    ),
    "ridge": Term(
        "ridge",
        "A linear regression on the mean of the slide's tiles with a penalty that val picks: the "
        "simplest model that does look at the tissue.",
    ),
    "fdr": Term(
        "FDR, false discovery rate",
        "Of the genes called at FDR 5 %, about 5 in 100 are there by chance "
        "(Benjamini–Hochberg over all genes).",
    ),
    "rmse": Term(
        "RMSE, ratio, NRMSE",
        "Root mean square error in log2(x+1); divided by that of predicting the train mean, set "
        "by set, so that below 1 is better than knowing no slide; divided by the gene's train "
        "mean (as published), for genes with a mean of at least 0.1.",
    ),
    "draws": Term(
        "draws, point",
        "The model gives no single value but a sample of possible profiles of a slide, the draws. "
        "Their spread is its uncertainty; the point prediction is their mean in the long run.",
    ),
    "coverage": Term(
        "coverage, calibration",
        "The share of measured values inside an interval. Intervals of 90 % should hold 90 %: "
        "fewer is overconfident, more is vague. Central intervals come from order statistics of "
        "the draws at p(n+1).",
    ),
    "pit": Term(
        "rank of the measured value, PIT",
        "Where the measured value stands among the draws, from 0 to 1. All ranks are equally "
        "frequent if the model is calibrated.",
    ),
    "nll": Term(
        "NLL",
        "Negative log likelihood of the measured value under a Gaussian with the mean and "
        "variance of the draws. Lower is better.",
    ),
    "crps": Term(
        "CRPS",
        "Continuous ranked probability score, unbiased: the error of the whole distribution of "
        "draws, in log2 units, which rewards being both right and narrow. For the train mean: of "
        "the train profiles taken as draws. Lower is better.",
    ),
    "conformal": Term(
        "conformal interval",
        "An interval whose width is set by patients who trained nothing (cal), so that its "
        "coverage holds on average over patients like them even if the model is wrong.",
    ),
    "shift": Term(
        "shift",
        "A slide, site or cohort that is unlike what the model was trained on. Nothing that was "
        "measured on this page need hold there.",
    ),
    "pathway": Term(
        "pathway, GO",
        "A set of genes that work together, usually a term of the Gene Ontology (GO) with all "
        "terms below it. Its score is one number per patient made of its genes' expression.",
    ),
    "variance-by-site": Term(
        "variance by site",
        "Share of a gene's measured variance that the patients' sites explain, adjusted for the "
        "number of sites.",
    ),
}
