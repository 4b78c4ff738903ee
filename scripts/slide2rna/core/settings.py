"""Sections of the configuration as types; a test holds them equal to the schema.

What each key means is in workflow/schemas/config.schema.yaml. The lists `search` of train and of
the baselines are missing here: they are read while the Snakefile is parsed, not by a network.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

EmbeddingRule = Literal["cls", "cls+mean"]


class FoldsSettings(TypedDict):
    """Section folds."""

    n: int
    by: Literal["site", "patient", "leave-site-out"]
    val_share: float
    cal_share: float


class TilesSettings(TypedDict):
    """Section tiles."""

    tile_px: int
    mpp: float
    max_background: float
    min_contrast: float
    max_tiles: int
    min_tiles: int
    mask_um_px: float


class FeaturesSettings(TypedDict):
    """Section features."""

    encoder: str | list[str]
    weights: str | dict[str, str] | None
    revision: str | dict[str, str] | None
    embedding: EmbeddingRule | dict[str, EmbeddingRule] | None
    path: str | None
    level: Literal["tile", "slide"]
    scale: Literal["zscore", "signed_log", "rank"]
    batch: int


class EncoderSettings(TypedDict):
    """Section features of one of its encoders; see `encoder_names.of_one`."""

    encoder: str
    weights: str | None
    revision: str | None
    embedding: EmbeddingRule | None
    batch: int


class BagsSettings(TypedDict):
    """Section bags."""

    k: int
    iterations: int
    resamples: int
    resample_share: float


class PathwaysSettings(TypedDict):
    """Section pathways."""

    source: str
    min_genes: int
    max_genes: int
    max_jaccard: float
    max_sets: int | None


class ModelSettings(TypedDict):
    """Section model."""

    hidden: int
    blocks: int
    heads: int
    graph: bool
    graph_heads: int
    mlp_ratio: int
    dropout: float
    cluster_layers: int
    cluster_weights: bool
    skip: Literal["ridge", "gaussian", "none"]
    rank: Literal["low", "full"]
    head: Literal["pooled", "none"]
    gene_slopes: bool
    outside: bool
    mixture: int
    target: Literal["auto", "zscore", "normal_scores"]
    factors: int
    condition_dropout: float


class TrainSettings(TypedDict):
    """Section train."""

    learning_rate: float
    beta1: float
    beta2: float
    weight_decay: float
    clip: float
    batch: int
    epochs: int
    patience: int
    val_noise: int
    checkpoint_epochs: int
    interpolant: Literal["linear", "logistic"]
    precision: Literal["auto", "float32", "bfloat16"]
    fused: bool
    compile: Literal["none", "compile", "graphs"]
    recompute: bool


class SampleSettings(TypedDict):
    """Section sample."""

    draws: int
    steps: int
    solver: Literal["exponential", "euler", "heun", "midpoint"]
    guidance: float
    mean_pairs: int
    keep: Literal["draws", "summary"]
    memory_mb: int
    precision: Literal["float32", "bfloat16"]
    compile: Literal["none", "compile", "graphs"]


class ConformalSettings(TypedDict):
    """Section evaluate.conformal."""

    by: Literal["none", "site"]


class EvaluateSettings(TypedDict):
    """Section evaluate."""

    top: list[int]
    levels: list[float]
    bootstrap: int
    permutations: int
    conformal: ConformalSettings
    pathway_score: Literal["zscore", "ssgsea"]


class ShiftSettings(TypedDict):
    """Section shift."""

    components: int
    clusters: int
    alpha: float
    bootstrap: int
    permutations: int


class StainSettings(TypedDict):
    """Section stain."""

    slides: int
    tiles: int


class LeakAuditSettings(TypedDict):
    """Section leak_audit."""

    models: list[str]


class StudentSettings(TypedDict):
    """Section samplers.student."""

    steps: int
    pairs: int
    learning_rate: float
    epochs: int
    patience: int


class SamplersSettings(TypedDict):
    """Section samplers."""

    variants: list[dict[str, Any]]
    reference: str
    draws: int
    one_step: bool
    student: StudentSettings


class ThreadsSettings(TypedDict):
    """Section threads."""

    tiles: int
    features: int
    bags: int
    train: int
    sample: int
    evaluate: int


class NetworkTraining(TypedDict):
    """Training keys that every section of baselines has."""

    learning_rate: float
    weight_decay: float
    batch: int
    epochs: int
    patience: int


class He2rnaSettings(NetworkTraining):
    """Section baselines.he2rna."""

    layers: list[int]
    ks: list[int]
    dropout: float


class TrnasformerSettings(NetworkTraining):
    """Section baselines.trnasformer."""

    hidden: int
    blocks: int
    heads: int
    mlp_ratio: int
    position: bool
    ks: list[int]
    dropout: float


class SequoiaSettings(NetworkTraining):
    """Section baselines.sequoia."""

    width: int | None
    blocks: int
    heads: int
    head_size: int
    position: bool


class AbmilSettings(NetworkTraining):
    """Section baselines.abmil."""

    hidden: int
    attention: int
    cluster_weights: bool
    dropout: float
