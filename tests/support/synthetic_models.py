"""Further models' files for the cohort of `synthetic_cohort`, in the layout of the stage sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import synthetic_cohort
import zarr


def add_model(
    made: synthetic_cohort.Synthetic,
    label: str,
    noise: float,
    draws: bool = False,
    reverse: bool = False,
    seed: int = 3,
) -> list[Path]:
    """Write the evaluated model's points with noise added, as another model's.

    Parameters
    ----------
    noise : in units of the noise in the truth.
    draws : whether the model gives draws; with the same noise, so they stay calibrated.
    reverse : write the slides in the opposite order.
    """
    paths = []
    for number, source in enumerate(made.inputs.draws):
        rng = np.random.default_rng([seed, number])
        old = zarr.open_group(source, mode="r")
        ids, parts = list(old.attrs["slide_ids"]), list(old.attrs["parts"])
        order = np.arange(len(ids))[:: -1 if reverse else 1]
        off = noise * made.noise_sd * rng.normal(size=old["point"].shape)
        off[:, 0] = 0
        values = {"point": (old["point"][:] + off).astype(np.float32)}
        if draws:
            values["point_spread"] = old["point_spread"][:]
            values["draws"] = (old["draws"][:] + off[:, None]).clip(0).astype(np.float16)
        run = f"{synthetic_cohort.ENCODER}-{label}-{synthetic_cohort.SET}"
        path = made.folder / f"draws/{run}/fold-{number}.zarr"
        store = zarr.open_group(path, mode="w")
        for name, array in values.items():
            chunks = (min(3, len(ids)), *array.shape[1:])
            new = store.create_array(name, shape=array.shape, dtype=array.dtype, chunks=chunks)
            new[:] = array[order]
        store.attrs.update(
            {
                "slide_ids": [ids[i] for i in order],
                "parts": [parts[i] for i in order],
                "genes": list(old.attrs["genes"]),
                "fold": number,
                "model": label,
                "guidance": 1.0,
            }
        )
        paths.append(path)
    return paths
