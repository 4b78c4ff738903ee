"""Patients of a mixture law other than those of its reference."""

from __future__ import annotations

from slide2rna.core import seeds
from slide2rna.simulate import mixture_patients
from slide2rna.simulate.mixture_law import MixtureLaw
from slide2rna.simulate.mixture_patients import Tissue


def draw(law: MixtureLaw, count: int) -> Tissue:
    """Tissue of this many patients, as their tiles came out."""
    rng = seeds.rng_for(1, "test", "population")
    patients = mixture_patients.draw_patients(law.spec, count, rng)
    return mixture_patients.draw_tiles(law.spec, patients, rng).summary()
