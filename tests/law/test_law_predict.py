"""New patients of the known law, predicted by the packaged fold models; `make law` first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from law_results import RUN, Array
from slide2rna.core import seeds
from slide2rna.evaluation.metrics import gene_metrics
from slide2rna.package import predictor
from slide2rna.predict import encode_slide, predict
from slide2rna.simulate import generate
from slide2rna.simulate.ground_truth import load_law

NEW, SEED = 100, 20_26
LEVELS = (0.5, 0.8, 0.9)


@dataclass(frozen=True)
class New:
    """Patients that no fold model has seen: truth (n, G), and their predictions.

    Attributes
    ----------
    ends : by level, (2, n, G) of the ensemble's conformal intervals.
    point, mean : (n, G); quantiles (2, n, G) are the 5th and 95th percentiles of all draws.
    best : (n, G) the law's own conditional mean.
    p : combined p-values (n,) of the bags and of the predicted profiles.
    shifted : (n,) what the rule says of each.
    """

    truth: Array
    point: Array
    quantiles: Array
    ends: dict[float, Array]
    best: Array
    p: dict[str, Array]
    shifted: Array


@pytest.fixture(scope="module")
def new(law: Path, tmp_path_factory: pytest.TempPathFactory) -> New:
    return predicted(law, tmp_path_factory.mktemp("new"), NEW)


def predicted(results: Path, folder: Path, count: int) -> New:
    """Draw patients by another seed than the cohort's, write their features, predict them."""
    of_law = load_law()
    pi, sites = of_law.patients(count, seeds.rng_for(SEED, "new", "patients"))
    names = [f"NEW-{i + 1:03d}" for i in range(count)]
    generate._law_features(of_law, names, pi, sites, folder, SEED, 1)
    measured, _ = of_law.sample(pi, np.array(sites), 1, seeds.rng_for(SEED, "new", "expression"))
    model = predictor.load(results / "models" / RUN, "cpu")
    position = {gene: index for index, gene in enumerate(of_law.genes)}
    order = np.array([position[gene] for gene in model.genes])
    tables, verdicts = [], []
    for name in names:
        encoded = encode_slide.encode_slide(folder / "features" / f"{name}-S1.h5", model)
        found = predict.predict(model, encoded)
        tables.append(found.genes)
        verdicts.append(found.shift)

    def column(key: str) -> Array:
        return np.array([table[key].to_numpy() for table in tables])

    return New(
        truth=measured[:, 0, order],
        point=column("point"),
        quantiles=np.stack([column("q05"), column("q95")]),
        ends={
            level: np.stack([column(f"{end}{100 * level:g}") for end in ("low", "high")])
            for level in LEVELS
        },
        best=of_law.mean(pi, np.array(sites))[:, order],
        p={kind: np.array([one[kind] for one in verdicts]) for kind in ("bag_p", "expression_p")},
        shifted=np.array([one["shifted"] for one in verdicts]),
    )


def covered(new: New, ends: Array) -> tuple[float, float]:
    """Share inside, and its standard error over patients; genes of one aren't independent."""
    inside = ((ends[0] <= new.truth) & (new.truth <= ends[1])).mean(axis=1)
    return float(inside.mean()), float(inside.std(ddof=1) / np.sqrt(len(inside)))


@pytest.mark.timeout(3600)
def test_ensemble_intervals_cover_new_patients(new: New) -> None:
    for level in LEVELS:
        share, error = covered(new, new.ends[level])
        width = float((new.ends[level][1] - new.ends[level][0]).mean())
        print(
            f"{level:.0%} conformal: {share:.2%} ({error:.2%}) of new patients, width {width:.3f}"
        )
        assert abs(share - level) < 0.03
    share, error = covered(new, new.quantiles)
    print(f"90% of the pooled draws: {share:.2%} ({error:.2%})")
    assert abs(share - 0.9) < 0.03


def test_points_of_the_ensemble_correlate(new: New) -> None:
    """Above every fold model's test patients' 0.27, and below what the law itself attains."""
    r, best = (np.nanmean(gene_metrics.pcc(of, new.truth)[0]) for of in (new.point, new.best))
    print(
        f"PCC over {len(new.truth)} new patients: {r:.3f}; of the true conditional mean: {best:.3f}"
    )
    assert 0.2 < r < best


def test_new_patients_of_the_cohort_are_rarely_called_strange(new: New) -> None:
    """The combined p-value is conservative: at most alpha of them, and chance on top."""
    for kind, p in new.p.items():
        share = float((p <= 0.05).mean())
        print(f"{kind} at most 0.05: {share:.1%} of new patients")
        assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(p))


def test_the_rule_rarely_warns_of_new_patients(new: New) -> None:
    """Tiles or profile, each at alpha: at most twice alpha, and chance on top."""
    assert all(isinstance(one, bool) for one in new.shifted.tolist())
    share, bound = float(new.shifted.mean()), 0.1
    print(f"called unlike the training slides: {share:.1%} of new patients, at most {bound:.0%}")
    assert share <= bound + 3 * np.sqrt(bound * (1 - bound) / len(new.shifted))


def test_genes_called_good_depend_on_morphology(law: Path) -> None:
    """Those that depend on the site alone must not be; the law knows which they are."""
    of_law = load_law()
    depends = dict(zip(of_law.genes, (module != "none" for module in of_law.modules), strict=True))
    table = pl.read_parquet(law / "models" / RUN / "genes.parquet").select(
        "reliability", pl.col("gene").replace_strict(depends).alias("depends")
    )
    for word in ("good", "weak", "none"):
        own = table.filter(reliability=word)["depends"]
        print(f"{word}: {len(own)} genes, {own.mean():.1%} depend on morphology")
    good = table.filter(reliability="good")["depends"]
    assert len(good) > 500
    assert good.mean() > 0.95
    assert table.filter(reliability="weak")["depends"].mean() < 0.8
