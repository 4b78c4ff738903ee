"""References of a run: this software, the method, the encoder, gene sets, data and networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from slide2rna import __version__
from slide2rna.core.root import ROOT


@dataclass(frozen=True)
class Reference:
    """A work to cite.

    Attributes
    ----------
    key : key of the BibTeX entry.
    role : part of the run that the work is cited for.
    kind : BibTeX type.
    fields : fields of the entry, in order, under BibTeX's names.
    """

    key: str
    role: str
    kind: str
    fields: dict[str, str]

    @property
    def link(self) -> str:
        """Address of the work, or an empty string."""
        doi = self.fields.get("doi")
        return f"https://doi.org/{doi}" if doi else self.fields.get("url", "")

    @property
    def text(self) -> str:
        """Authors, title, place and year, in one line."""
        names = self.fields["author"].split(" and ")
        first = [name.partition(", ")[0].strip("{}") for name in names]
        others = names[-1] == "others" or len(names) > 2
        authors = f"{first[0]} et al." if others else " and ".join(first)
        place = self.fields.get("journal") or self.fields.get("booktitle")
        parts = [self.fields["title"].replace("{", "").replace("}", ""), place]
        return f"{authors}: {'. '.join(part for part in parts if part)}, {self.fields['year']}"

    @property
    def bibtex(self) -> str:
        rows = [f"  {name} = {{{value}}}" for name, value in self.fields.items()]
        return f"@{self.kind}{{{self.key},\n" + ",\n".join(rows) + "\n}"


SOURCE = ROOT / "resources" / "references.yaml"


@cache
def _works() -> dict[str, Any]:
    """Read the works, by group and name."""
    works: dict[str, Any] = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    return works


def _reference(role: str, entry: dict[str, Any]) -> Reference:
    fields = {name: str(value) for name, value in entry.items() if name not in ("key", "type")}
    return Reference(entry["key"], role, entry["type"], fields)


def _ours() -> Reference:
    return _reference(
        "this software", {**_works()["software"]["slide2rna"], "version": __version__}
    )


def references(
    cohort: dict[str, Any], models: list[str], encoder: str, pathway_set: str
) -> list[Reference]:
    """Return the works that a run builds on, each once, this software first.

    Parameters
    ----------
    cohort : cohort.json.
    models : all models on the page; a variant (`flow.seed-2`) counts as its base.
    encoder, pathway_set : names of the features and of the gene sets.
    """
    found = _works()
    works = [_ours()]
    bases = dict.fromkeys(name.partition(".")[0] for name in models)
    networks = found["networks"]
    works += [_reference(f"the model {name}", networks[name]) for name in bases if name in networks]
    # Several encoders are joined by hyphens: uni2-virchow2.
    parts = {encoder, *encoder.split("-")}
    named = [entry for name, entry in found["encoders"].items() if name in parts]
    works += [_reference("the encoder", entry) for entry in named]
    if pathway_set.startswith("go-"):
        works += [_reference("the gene sets", entry) for entry in found["gene_sets"]["go"]]
    works += _data(cohort)
    return list({work.key: work for work in works}.values())


def _data(cohort: dict[str, Any]) -> list[Reference]:
    """Choose by source and cohort name; for GDC only the name identifies the project."""
    source, name = str(cohort.get("source", "")), str(cohort.get("name", "")).upper()
    projects, sources = _works()["projects"], _works()["sources"]
    if source == "her2st":
        return [_reference("the data", sources["her2st"])]
    if source != "gdc":
        return []
    works = [
        _reference("the data", work)
        for project, work in projects.items()
        if name in (project, project[5:])
    ]
    if "CPTAC" in name:
        works.append(_reference("where the slides come from", sources["tcia"]))
    return [*works, _reference("where the data come from", sources["gdc"])]
