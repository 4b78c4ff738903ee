"""Cohort `demo`: simulated slides (painted), and expression that follows their tissue.

The law is that of mixture_law.py with the parameters of resources/demo/demo.yaml. A patient's
random streams depend on its name only, so it is the same in a cohort of another size. One more
patient is in no table of the cohort: its slide and its profile, in new/, are for prediction.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from slide2rna.core import files, process, seeds
from slide2rna.core.log import progress
from slide2rna.core.root import ROOT
from slide2rna.simulate import mixture_patients
from slide2rna.simulate.ground_truth import CLASSES, SITES, Floats
from slide2rna.simulate.mixture_law import TUMOUR, MixtureLaw, load_mixture_law
from slide2rna.simulate.mixture_patients import Tissue
from slide2rna.simulate.paint import Plan
from slide2rna.simulate.painted_slide import SimulatedSlide, paint_slide
from slide2rna.simulate.textures import PAINTED
from slide2rna.storage import parquet

FILE = ROOT / "resources" / "demo" / "demo.yaml"
NEW, NEW_SITE = "NEW-001", SITES[0]  # the patient who is in no table of the cohort
PARTS = 20  # equal parts of a slide's tumour, each with a state
COVER, SCRAP = 0.84, 0.03  # tissue's share of a slide, and of the slide with too little of it


@dataclass(frozen=True)
class Layout:
    """Size of the cohort, and places in its list of slides, second slides last, of odd ones."""

    patients: int
    second: int  # number of patients with two slides
    edge_px: tuple[int, int]  # both ends included
    scanned_40x: tuple[int, ...] = (3, 17, 29)
    pen: int = 6
    no_mpp: int = 11
    scrap: int = 4  # among the second slides, so that the patient's other slide is good

    @classmethod
    def of(cls, spec: dict[str, Any]) -> Self:
        """Return the layout that demo.yaml describes."""
        low, high = spec["slides"]["edge_px"]
        return cls(spec["patients"], spec["slides"]["second"], (low, high))


def load_demo_law() -> MixtureLaw:
    """Return the demo's law, whose tissues are those that can be painted."""
    law = load_mixture_law(FILE)
    assert (*CLASSES, *law.spec["niches"]["names"]) == PAINTED, (
        "demo.yaml must name the painted tissues"
    )
    return law


def make(out: Path, seed: int, workers: int = 1, layout: Layout | None = None) -> None:
    """Write the cohort.

    Parameters
    ----------
    out
        Folder for sheet.tsv, expression.parquet, slides/, truth.parquet (shares, mean `m` and
        variance `V` of the state, per patient, as painted), truth_genes.parquet (module, home,
        attainable correlation and linear limit, per gene) and new/ (slide, expression.parquet and
        truth.parquet of one more patient). Existing slides aren't painted again. done.json comes
        last.
    seed
        The run's seed; the law has a separate seed.
    workers
        Number of processes; the result doesn't depend on it.
    layout
        None takes that of demo.yaml.
    """
    (out / "done.json").unlink(missing_ok=True)
    law = load_demo_law()
    layout = layout or Layout.of(law.spec)
    names = [f"DEMO-{i + 1:03d}" for i in range(layout.patients)]
    sites = mixture_patients.draw_sites(law.spec, len(names), seeds.rng_for(seed, "demo", "sites"))
    slides = plan(law, names, sites, layout, seed)
    new = plan_slide(law, NEW, 1, NEW_SITE, layout, seed)
    folders = [*[out / "slides"] * len(slides), out / "new"]
    parent = (os.getpid(),)
    with ProcessPoolExecutor(workers, initializer=process.end_with_parent, initargs=parent) as pool:
        work = pool.map(partial(paint_slide, seed=seed), [*slides, new], folders)
        painted = list(progress(work, "painting", total=len(folders)))
    # The scrap has too little tissue to describe its patient.
    whole = [place for place, slide in enumerate(slides) if slide.plan.cover > SCRAP]
    own = [[i for i in whole if slides[i].patient_id == name] for name in names]
    tissue = _of_patients([[painted[i] for i in places] for places in own])
    files.write_text(_sheet(slides).write_csv(separator="\t"), out / "sheet.tsv")
    _write_patients(law, names, sites, tissue, out, seed)
    _write_patients(law, [NEW], [NEW_SITE], _of_patients([painted[-1:]]), out / "new", seed)
    genes = {
        "gene": list(law.genes),
        "module": list(law.modules),
        "home": [PAINTED[k] if k >= 0 else None for k in law.effects.home],
        "attainable": law.attainable,
        "linear_limit": law.linear_limit,
    }
    parquet.write(pl.DataFrame(genes), out / "truth_genes.parquet")
    counts = {"kind": "demo", "slides": len(slides), "patients": len(names)}
    law_facts = {"genes": len(law.genes), "law": law.version, "seed": seed}
    files.write_json(counts | law_facts, out / "done.json")


def plan(
    law: MixtureLaw, names: list[str], sites: list[str], layout: Layout, seed: int
) -> list[SimulatedSlide]:
    """Plan the slides: each patient's first slide, then the second slides."""
    order = seeds.rng_for(seed, "demo", "second").permutation(len(names))[: layout.second]
    numbered = [(i, 1) for i in range(len(names))] + [(int(i), 2) for i in sorted(order)]
    return [
        plan_slide(law, names[i], number, sites[i], layout, seed, place)
        for place, (i, number) in enumerate(numbered)
    ]


def plan_slide(
    law: MixtureLaw,
    patient_id: str,
    number: int,
    site: str,
    layout: Layout,
    seed: int,
    place: int | None = None,
) -> SimulatedSlide:
    """Plan one slide of a patient; its `place` in the list decides its artefact, if any."""
    patient = mixture_patients.draw_patients(law.spec, 1, seeds.rng_for(seed, "demo", patient_id))
    slide_id = f"{patient_id}-S{number}"
    rng = seeds.rng_for(seed, "demo", slide_id)
    pieces = mixture_patients.draw_tiles(law.spec, patient, rng)
    states = (0.5,)
    if len(pieces.states):
        quantiles = np.quantile(pieces.states, (np.arange(PARTS) + 0.5) / PARTS)
        states = tuple(quantiles.round(3).tolist())
    low, high = layout.edge_px
    width, height = rng.integers(low, high + 1, 2).tolist()
    scrap = place == layout.patients + layout.scrap
    return SimulatedSlide(
        patient_id,
        Plan(
            slide_id,
            *(width, height, tuple(pieces.summary().shares[0].tolist()), site),
            cover=SCRAP if scrap else COVER,
            pen=place == layout.pen,
            states=states,
        ),
        power=40 if place in layout.scanned_40x else 20,
        says_mpp=place != layout.no_mpp,
    )


def _of_patients(painted: Sequence[Sequence[Tissue]]) -> Tissue:
    """Return the tissue of patients from that of their slides (one row each).

    Shares are means over slides; the state's mean and variance are over the tumour of all slides.
    """
    shares, states, variances = [], [], []
    for slides in painted:
        own = np.concatenate([slide.shares for slide in slides])
        state = np.concatenate([slide.state for slide in slides])
        square = np.concatenate([slide.variance for slide in slides]) + np.square(state)
        weight = own[:, TUMOUR] if own[:, TUMOUR].any() else np.ones(len(own))
        mean = np.average(state, weights=weight)
        shares.append(own.mean(0))
        states.append(mean)
        variances.append(max(np.average(square, weights=weight) - mean**2, 0.0))
    return Tissue(np.stack(shares), np.array(states), np.array(variances))


def _sheet(slides: list[SimulatedSlide]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "slide_id": [slide.plan.slide_id for slide in slides],
            "patient_id": [slide.patient_id for slide in slides],
            "slide": [f"slides/{slide.plan.slide_id}.svs" for slide in slides],
            "site": [slide.plan.site for slide in slides],
            "mpp": [None if slide.says_mpp else 0.5 for slide in slides],
        },
        schema_overrides={"mpp": pl.Float64},
    )


def _write_patients(
    law: MixtureLaw, names: list[str], sites: list[str], tissue: Tissue, out: Path, seed: int
) -> None:
    """Draw the patients' profiles and write them, and the tissue that they follow."""
    rows = zip(names, tissue.shares, tissue.state, tissue.variance, sites, strict=True)
    x: Floats = np.stack(
        [
            law.draw(shares, m, v, seeds.rng_for(seed, "demo", name, "expression"), site)
            for name, shares, m, v, site in rows
        ]
    )
    table = pl.DataFrame(x.astype(np.float32), schema=list(law.genes))
    parquet.write(table.insert_column(0, pl.Series("sample_id", names)), out / "expression.parquet")
    truth = pl.DataFrame({"patient_id": names, "site": sites}).with_columns(
        *(pl.Series(name, tissue.shares[:, k]) for k, name in enumerate(PAINTED)),
        pl.Series("m", tissue.state),
        pl.Series("V", tissue.variance),
    )
    parquet.write(truth, out / "truth.parquet")
