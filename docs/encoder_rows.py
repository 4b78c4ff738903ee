"""Tables of encoders as Markdown, from resources/encoders.yaml."""

from __future__ import annotations

from slide2rna.features import encoder_specs
from slide2rna.features.encoder_specs import EncoderSpec, SlideEncoderSpec
from slide2rna.operations import encoder_table

NEEDS = {"transformers": "`transformers`", "package": "its package", "remote": "its code"}


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _licence(spec: EncoderSpec | SlideEncoderSpec) -> str:
    text = f"{spec.licence}; {spec.note}" if spec.note else spec.licence
    return f"[{text}]({spec.url})" if spec.url else text


def tiles() -> str:
    """Return the table of tile encoders."""
    rows = ["name", "numbers", "tiles trained on", "rule", "access", "needs", "licence"]
    lines = [_row(*rows), "|---" * len(rows) + "|"]
    for spec in encoder_specs.encoders().values():
        name, dim, tile, _, access = encoder_table.row(spec)
        needs = "only from files" if spec.loader == "files" else NEEDS.get(spec.loader, "")
        lines.append(_row(f"`{name}`", dim, tile, spec.embedding, access, needs, _licence(spec)))
    return "\n" + "\n".join(lines) + "\n"


def slides() -> str:
    """Return the table of slide encoders."""
    lines = [_row("name", "numbers", "tiles by", "licence"), "|---|---|---|---|"]
    for spec in encoder_specs.slide_encoders().values():
        lines.append(_row(f"`{spec.name}`", str(spec.dim), f"`{spec.tiles}`", _licence(spec)))
    return "\n" + "\n".join(lines) + "\n"
