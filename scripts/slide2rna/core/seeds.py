"""Files that are either whole or not there, and random streams that don't depend on order."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_for(seed: int, *names: object) -> int:
    """A 63-bit seed derived from the run's seed and from names (stage, slide, fold ...).

    Streams named by what they are for don't depend on order, sharding or the number of workers.
    """
    text = "\x1f".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rng_for(seed: int, *names: object) -> np.random.Generator:
    return np.random.default_rng(seed_for(seed, *names))


def shard_of(slide_id: str, shards: int) -> int:
    """The shard of a slide: a hash of its name, so that new slides don't move old ones."""
    return int.from_bytes(hashlib.sha256(slide_id.encode()).digest()[:8], "big") % shards
