"""Random seeds and shards derived from names, independent of order and of the machine."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def seed_for(seed: int, *names: object) -> int:
    """Derive a 63-bit seed from the run's seed and from names (stage, slide, fold ...).

    Named streams don't depend on order, sharding or the number of workers.
    """
    text = "\x1f".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rng_for(seed: int, *names: object) -> np.random.Generator:
    """Return a random generator seeded with `seed_for`."""
    import numpy as np  # not above: the Snakefile needs `shard_of` and no numpy

    return np.random.default_rng(seed_for(seed, *names))


def shard_of(slide_id: str, shards: int) -> int:
    """Return a slide's shard, a hash of its id, so that new slides don't move old ones."""
    return int.from_bytes(hashlib.sha256(slide_id.encode()).digest()[:8], "big") % shards
