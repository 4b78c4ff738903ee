"""A stand-in for the command `conda`: what Snakemake asks of it, with py-rattler's real solver.

It knows the one channel that CONDA_STAND_IN names as <name>=<folder>, and refuses any other, so
that nothing is looked for on the net.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

import rattler
import yaml
from rattler.exceptions import SolverError

ROOT = Path(sys.argv[1])
NAME, _, FOLDER = os.environ["CONDA_STAND_IN"].partition("=")
CHANNEL = Path(FOLDER).resolve()
SUBDIRS = ("linux-64", "noarch")


async def solve(specs: list[str]) -> list[rattler.RepoDataRecord]:
    """The packages that fulfil the specs, on a machine as this one, or as CONDA_OVERRIDE_ says."""
    seen = rattler.VirtualPackage.detect(rattler.VirtualPackageOverrides.from_env())
    return await rattler.solve(
        [rattler.Channel(CHANNEL.as_uri())], specs, platforms=list(SUBDIRS), virtual_packages=seen
    )


def pinned(urls: list[str]) -> list[rattler.RepoDataRecord]:
    """The packages of a pin file; each must be in the channel."""
    found = []
    for subdir in SUBDIRS:
        path = CHANNEL / subdir / "repodata.json"
        found += rattler.RepoData.from_path(path).into_repo_data(rattler.Channel(CHANNEL.as_uri()))
    by_url = {record.url: record for record in found}
    if missing := [url for url in urls if url.split("#")[0] not in by_url]:
        raise SystemExit(f"PackagesNotFoundError: {missing[0]}")
    return [by_url[url.split("#")[0]] for url in urls]


def create(file: Path, prefix: Path) -> None:
    """Make an environment from a definition (YAML) or a pin file (lines of URLs).

    Archives go to a cache of packages; `clean` has none to delete.
    """
    lines = file.read_text().splitlines()
    if "@EXPLICIT" in lines:
        records = pinned([line for line in lines if line and line[0] not in "#@"])
    else:
        wanted = yaml.safe_load("\n".join(lines))
        if wanted["channels"] != [NAME]:
            raise SystemExit(f"UnavailableInvalidChannel: {wanted['channels']}")
        try:
            records = asyncio.run(solve(wanted["dependencies"]))
        except SolverError as error:
            raise SystemExit(str(error)) from error
    asyncio.run(rattler.install(records, prefix, cache_dir=ROOT / "pkgs", show_progress=False))


def explicit(prefix: Path) -> str:
    """An environment as a pin file."""
    records = [json.loads(path.read_text()) for path in prefix.glob("conda-meta/*.json")]
    return "\n".join(["@EXPLICIT", *sorted(f"{one['url']}#{one['md5']}" for one in records)])


def main(words: list[str]) -> None:
    if words[:2] == ["env", "create"]:
        words = words[1:]
    parser = argparse.ArgumentParser(prog="conda")
    parser.add_argument("--version", action="version", version="conda 26.1.0")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info").add_argument("--json", action="store_true", required=True)
    commands.add_parser("config").add_argument("--get", choices=["channel_priority"], required=True)
    commands.choices["config"].add_argument("--json", action="store_true", required=True)
    made = commands.add_parser("create")
    for flag in ("--quiet", "--yes", "--no-default-packages"):
        made.add_argument(flag, action="store_true")
    made.add_argument("--file", type=Path, required=True)
    made.add_argument("--prefix", type=Path, required=True)
    cleaned = commands.add_parser("clean")
    cleaned.add_argument("-y", action="store_true", required=True)
    cleaned.add_argument("--tarballs", action="store_true", required=True)
    listed = commands.add_parser("list")
    listed.add_argument("--explicit", action="store_true", required=True)
    listed.add_argument("--md5", action="store_true")
    listed.add_argument("--prefix", type=Path, required=True)
    args = parser.parse_args(words)
    if args.command == "info":
        print(json.dumps({"conda_prefix": str(ROOT), "platform": SUBDIRS[0]}))
    elif args.command == "config":
        print(json.dumps({"get": {"channel_priority": "strict"}}))
    elif args.command == "list":
        print(explicit(args.prefix))
    elif args.command == "create":
        create(args.file, args.prefix)


if __name__ == "__main__":
    main(sys.argv[2:])
    # py-rattler's threads now and then crash an interpreter that takes itself down under them.
    sys.stdout.flush()
    os._exit(0)
