"""The mean of the slide's site, without a look at the slide.

Expression and staining both differ between hospitals, so a model can score by recognising the
hospital (Howard et al. 2021, doi:10.1038/s41467-021-24698-1). This is what that alone gives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slide2rna.models.base import Fitted, Unavailable
from slide2rna.patients import Part


def fit(train: Part, val: Part, seed: int, fold: int) -> Fitted:
    """Mean of the train samples of each site; a site not in train gets the mean of all.

    Raises
    ------
    Unavailable
        Train has fewer than two sites.
    """
    known = sorted({site for site in train.sites if site is not None})
    if len(known) < 2:
        raise Unavailable("fewer than two sites among the train slides")
    overall = train.truth.mean(axis=0, dtype=np.float64)
    means = {}
    for site in known:
        here = np.array([name == site for name in train.sites])
        samples = (train.pool[:, here] > 0).any(axis=1)
        means[site] = train.truth[samples].mean(axis=0, dtype=np.float64)

    def predict(part: Part) -> NDArray[np.float32]:
        rows = [means.get(site, overall) if site else overall for site in part.sites]
        return np.array(rows, dtype=np.float32)

    return Fitted("mean of the site's train samples, no image", predict)
