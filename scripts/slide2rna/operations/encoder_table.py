"""Encoder table: the rows of the registry with what this machine has of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from slide2rna.core import encoder_names
from slide2rna.core.config import Settings
from slide2rna.core.errors import UserError
from slide2rna.features import encoder_specs, encoder_weights, torch_encoders
from slide2rna.features.encoder_specs import EncoderSpec
from slide2rna.operations.doctor_config import Finding

HEAD = ("name", "vector", "tiles", "licence", "access", "here")
# Package that shows whether a loader's needs are installed.
PACKAGES = {"transformers": "transformers", "remote": "transformers", "package": None}


def missing_package(spec: EncoderSpec) -> str | None:
    """Return the package that an encoder lacks on this machine."""
    name = PACKAGES.get(spec.loader, "") or (spec.model if spec.loader == "package" else None)
    return name if name and find_spec(name) is None else None


def availability(spec: EncoderSpec, revision: str | None = None) -> str:
    """Return one or two words: what this machine has of an encoder."""
    if spec.loader == "files":
        return "files only"
    if spec.loader == "builtin":
        return "weights"
    if package := missing_package(spec):
        return f"no {package}"
    return "weights" if encoder_weights.cached(spec, revision) else "to download"


def tiles(spec: EncoderSpec) -> str:
    """Return the tiles that an encoder was trained on."""
    return "any" if spec.loader == "builtin" else f"{spec.tile_px} px at {spec.mpp:g}"


def row(spec: EncoderSpec) -> tuple[str, ...]:
    """Return the cells of an encoder without those of this machine."""
    access = "request" if spec.gated else "open"
    return spec.name, str(spec.dim or "?"), tiles(spec), spec.licence, access


def table() -> list[str]:
    """Return the lines of the table of all encoders, and those of slide encoders."""
    rows = [(*row(spec), availability(spec)) for spec in encoder_specs.encoders().values()]
    slides = [
        (spec.name, str(spec.dim), f"by {spec.tiles}", spec.licence)
        for spec in encoder_specs.slide_encoders().values()
    ]
    return [
        *_aligned([HEAD, *rows]),
        "",
        "of whole slides, from files (features.level: slide)",
        *_aligned([("name", "vector", "tiles", "licence"), *slides]),
    ]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in rows
    ]


def about(name: str) -> Iterator[str]:
    """Yield lines about an encoder: its page, its input, and how to get it.

    Raises
    ------
    ConfigError
        The name is another tool's, or no repository's.
    """
    spec = encoder_specs.find(name)
    yield f"{spec.name}: {spec.licence}" + (f" ({spec.note})" if spec.note else "")
    if spec.url:
        yield f"page     {spec.url}"
    yield f"tiles    {tiles(spec)}"
    if spec.input_px:
        mean, sd = (", ".join(f"{value:g}" for value in values) for values in (spec.mean, spec.sd))
        yield f"input    {spec.input_px} px, {spec.interpolation}, mean {mean}, sd {sd}"
    yield f"vector   {spec.dim or '?'} numbers, rule {spec.embedding}"
    if spec.aliases:
        yield f"also     {', '.join(spec.aliases)}"
    yield f"here     {availability(spec)}"
    for finding in findings(spec, None):
        if finding.status != "ok":
            yield finding.line()


def check_encoders(settings: Settings) -> list[Finding]:
    """Check the encoders of each cohort: name, package, weights, access and tiles."""
    from slide2rna.core import config

    found: dict[str, list[Finding]] = {}
    for cohort in settings["cohorts"]:
        own = config.for_cohort(settings, cohort)
        if settings["cohorts"][cohort]["source"] in ("law", "law2"):
            continue
        for name in encoder_names.names(own["features"]):
            if name == "files":
                continue
            one = encoder_names.of_one(own["features"], name)
            try:
                spec = torch_encoders.of_timm(encoder_specs.find(name), one["weights"])
            except UserError as error:
                found[name] = [Finding("fail", f"encoder {name}", error.cause, error.remedy)]
                continue
            found[name] = findings(spec, one["weights"], one["revision"])
            edge, mpp = own["tiles"]["tile_px"], own["tiles"]["mpp"]
            if warning := encoder_specs.tile_warning(name, edge, mpp):
                detail, remedy = warning.removeprefix(f"encoder {name}: ").split("; ")
                found[name].append(Finding("warn", f"tiles of {cohort}", detail, remedy))
    return [finding for rows in found.values() for finding in rows]


def findings(spec: EncoderSpec, weights: str | None, revision: str | None = None) -> list[Finding]:
    """Return what an encoder lacks on this machine, or that it lacks nothing."""
    subject = f"encoder {spec.name}"
    if spec.loader == "builtin":
        return [Finding("ok", subject, "no download needed")]
    if spec.loader == "files":
        return [Finding("fail", subject, spec.note, encoder_specs.FROM_FILES)]
    if package := missing_package(spec):
        return [Finding("fail", subject, f"package {package} is missing", spec.install_line)]
    if spec.loader == "remote" and not encoder_specs.COMMIT.fullmatch(revision or ""):
        detail = "it runs code of its repository, and no commit is pinned"
        return [Finding("fail", subject, detail, "set features.revision to a commit")]
    if weights is not None:
        return [Finding("ok", subject, f"weights in {weights}")]
    if path := encoder_weights.cached(spec, revision):
        return [Finding("ok", subject, f"weights in the hub's cache, {path.name}")]
    from huggingface_hub import get_token

    if spec.gated and not get_token():
        remedy = f"ask for access at {spec.url} and set HF_TOKEN, or set features.weights"
        return [Finding("warn", subject, "access on request, and no token here", remedy)]
    return [Finding("ok", subject, f"to download from {spec.url}")]
