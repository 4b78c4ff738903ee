"""A local server that speaks GDC's API and PathDB's, for tests: real HTTP on loopback.

GDC's answers have the form of those recorded in its documentation (shared/data/gdc): `data.hits`
with the fields asked for and an `id`, `data.pagination`, `warnings`. PathDB's follow TCIA's own
client; no recorded answer of it was at hand.
"""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from slide2rna.cohort import pathdb

RELEASE = "Data Release 45.0 - December 04, 2025"
STAR_HEAD = (
    "# gene-model: GENCODE v36\n"
    "gene_id\tgene_name\tgene_type\tunstranded\tstranded_first\tstranded_second\t"
    "tpm_unstranded\tfpkm_unstranded\tfpkm_uq_unstranded\n"
    "N_unmapped\t\t\t5\t5\t5\t\t\t\nN_multimapping\t\t\t6\t6\t6\t\t\t\n"
    "N_noFeature\t\t\t7\t9\t9\t\t\t\nN_ambiguous\t\t\t8\t2\t2\t\t\t\n"
)
CPTAC_HEAD = ",".join((*pathdb.COLUMNS, "Tumor"))


def star_text(values: dict[str, float]) -> bytes:
    """A STAR-counts file with these values in fpkm_uq_unstranded, and one PAR_Y copy."""
    rows = [
        f"ENSG{i:011d}.1\t{gene}\tprotein_coding\t{int(value)}\t0\t0\t{value}\t{value}\t{value}"
        for i, (gene, value) in enumerate(values.items())
    ]
    rows.append("ENSG00000002586.20_PAR_Y\tCD99\tprotein_coding\t0\t0\t0\t0\t0\t0")
    return (STAR_HEAD + "\n".join(rows) + "\n").encode()


class GdcServer:
    """Serves what was added; `asked` lists every request as (method, path, body)."""

    def __init__(self, page_limit: int = 10_000) -> None:
        self.page_limit = page_limit
        self.files: list[dict[str, Any]] = []
        self.bodies: dict[str, bytes] = {}
        self.cases: dict[str, str] = {}
        self.collections: dict[str, list[dict[str, Any]]] = {}
        self.cptac_rows: list[str] = []
        self.asked: list[tuple[str, str, Any]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> GdcServer:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add_patient(self, patient: str, project: str) -> None:
        self.cases[patient] = project

    def add_file(
        self,
        name: str,
        body: bytes,
        project: str,
        patient: str,
        specimen: str,
        sample_type: str,
        aliquot: str | None = None,
        **fields: Any,
    ) -> str:
        """Add a file of one sample; returns its uuid, which follows from the name."""
        identity = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        sample: dict[str, Any] = {"submitter_id": specimen, "sample_type": sample_type}
        if aliquot:
            analyte = {"aliquots": [{"submitter_id": aliquot}]}
            sample["portions"] = [{"analytes": [analyte]}]
        case = {"submitter_id": patient, "project": {"project_id": project}, "samples": [sample]}
        hit = {
            "id": identity,
            "file_id": identity,
            "file_name": name,
            "file_size": len(body),
            "md5sum": hashlib.md5(body).hexdigest(),
            "state": "released",
            "access": "open",
            "cases": [case],
        }
        self.files.append(hit | fields)
        self.bodies[f"/data/{identity}"] = body
        self.add_patient(patient, project)
        return identity

    def add_slide(
        self, name: str, body: bytes, project: str, sample_type: str, **fields: Any
    ) -> str:
        """Add a TCGA slide; patient, sample and kind are in its name."""
        strategy = "Diagnostic Slide" if "-DX" in name else "Tissue Slide"
        kinds = {"data_type": "Slide Image", "experimental_strategy": strategy}
        kinds |= {"data_category": "Biospecimen", "data_format": "SVS"}
        return self.add_file(
            name, body, project, name[:12], name[:16], sample_type, **(kinds | fields)
        )

    def add_star(
        self,
        aliquot: str,
        values: dict[str, float],
        project: str,
        sample_type: str,
        patient: str | None = None,
        specimen: str | None = None,
    ) -> str:
        """Add a STAR-counts file of an aliquot; of TCGA patient and sample are in its barcode."""
        kinds: dict[str, Any] = {"data_type": "Gene Expression Quantification"}
        kinds |= {"data_category": "Transcriptome Profiling", "experimental_strategy": "RNA-Seq"}
        kinds |= {"analysis": {"workflow_type": "STAR - Counts"}}
        stem = uuid.uuid5(uuid.NAMESPACE_DNS, aliquot)
        return self.add_file(
            f"{stem}.rna_seq.augmented_star_gene_counts.tsv",
            star_text(values),
            project,
            patient or aliquot[:12],
            specimen or aliquot[:16],
            sample_type,
            aliquot,
            **kinds,
        )

    def add_cptac_slide(
        self, slide: str, body: bytes, collection: str, patient: str, kind: str, medium: str
    ) -> None:
        """Add a slide to a PathDB collection and to its slide table."""
        path = f"/system/files/wsi/{slide}.svs"
        self.bodies[path] = body
        values = {"imageid": slide, "clinicaltrialsubjectid": patient, "studyid": collection}
        item: dict[str, Any] = {key: [{"value": value}] for key, value in values.items()}
        item["field_wsiimage"] = [{"url": self.url + path}]
        self.collections.setdefault(collection, []).append(item)
        self.cptac_rows.append(f"{patient},{slide},{slide}-S,{kind},{medium},LUAD")

    def answer(self, path: str, query: dict[str, list[str]], body: Any) -> Any:
        """JSON of an endpoint, or bytes of a file; None where there is nothing."""
        if path == "/status":
            release = {"data_release": RELEASE, "status": "OK", "tag": "8.5.0", "version": 1}
            return release | {"commit": "0" * 40}
        if path == "/files":
            return self._page(self.files, body)
        if path == "/cases":
            cases = [
                {
                    "id": f"case-{patient}",
                    "case_id": f"case-{patient}",
                    "submitter_id": patient,
                    "project": {"project_id": project},
                }
                for patient, project in self.cases.items()
            ]
            return self._page(cases, body)
        if path == "/collections":
            return [
                {"name": [{"value": name}], "tid": [{"value": str(100 + i)}]}
                for i, name in enumerate(self.collections)
            ]
        if path.startswith("/listofimages/"):
            name = list(self.collections)[int(path.rsplit("/", 1)[1]) - 100]
            page, size = int(query["page"][0]), min(self.page_limit, 1000)
            return self.collections[name][page * size : (page + 1) * size]
        if path == f"/{pathdb.TABLE}":
            return "\n".join([CPTAC_HEAD, *self.cptac_rows, ""]).encode()
        return self.bodies.get(path)

    def _page(self, hits: list[dict[str, Any]], body: Any) -> dict[str, Any]:
        found = [hit for hit in hits if _matches(hit, body["filters"])]
        key, _, _ = body["sort"].partition(":")
        found.sort(key=lambda hit: hit[key])
        start, size = int(body["from"]), min(int(body["size"]), self.page_limit)
        fields = body["fields"].split(",")
        page = [{"id": hit["id"]} | _project(hit, fields) for hit in found[start : start + size]]
        pagination = {
            "count": len(page),
            "total": len(found),
            "size": size,
            "from": start,
            "sort": body["sort"],
            "page": start // size + 1,
            "pages": -(-len(found) // size),
        }
        return {"data": {"hits": page, "pagination": pagination}, "warnings": {}}


def _values(node: Any, path: list[str]) -> Iterator[Any]:
    if isinstance(node, list):
        for item in node:
            yield from _values(item, path)
    elif not path:
        yield node
    elif isinstance(node, dict) and path[0] in node:
        yield from _values(node[path[0]], path[1:])


def _matches(hit: dict[str, Any], filters: dict[str, Any]) -> bool:
    if filters["op"] == "and":
        return all(_matches(hit, part) for part in filters["content"])
    assert filters["op"] == "in"
    content = filters["content"]
    return any(v in content["value"] for v in _values(hit, content["field"].split(".")))


def _project(node: Any, fields: list[str]) -> Any:
    """The named fields alone, nested as they are; GDC leaves out what a file doesn't have."""
    if isinstance(node, list):
        return [_project(item, fields) for item in node]
    heads: dict[str, list[str]] = {}
    for field in fields:
        head, _, rest = field.partition(".")
        heads.setdefault(head, []).append(rest)
    return {
        head: node[head] if "" in rests else _project(node[head], rests)
        for head, rests in heads.items()
        if head in node
    }


def _handler(world: GdcServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(None)

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, body: Any) -> None:
            parts = urlsplit(self.path)
            world.asked.append((self.command, self.path, body))
            found = world.answer(parts.path, parse_qs(parts.query), body)
            kind = "application/octet-stream" if isinstance(found, bytes) else "application/json"
            status = 200 if found is not None else 404
            data = found if isinstance(found, bytes) else json.dumps(found).encode()
            start = self.headers.get("Range", "")
            if status == 200 and start.startswith("bytes="):
                offset = int(start.removeprefix("bytes=").partition("-")[0])
                status, total = 206, len(data)
                data = data[offset:]
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            if status == 206:
                self.send_header("Content-Range", f"bytes {offset}-{total - 1}/{total}")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
