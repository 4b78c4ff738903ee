"""How to talk to servers: how patiently, how many files at a time, and with which token."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from slide2rna.errors import DownloadError

GDC = "https://api.gdc.cancer.gov"


@dataclass(frozen=True)
class Settings:
    """How to talk to servers.

    `token` goes to the scheme, host and port of `api` alone, in X-Auth-Token
    (https://docs.gdc.cancer.gov/API/Users_Guide/Getting_Started/#authentication), also after a
    redirect. `timeout_s` bounds the wait for a connection and for the next bytes; a body that
    comes slower than 1 kB/s over that time counts as stalled. `ca` is a PEM file of trusted roots.
    """

    token: str | None = field(default=None, repr=False)
    parallel: int = 4
    timeout_s: float = 60.0
    tries: int = 8
    backoff_s: float = 1.0
    ca: str | None = None
    api: str = GDC

    def __post_init__(self) -> None:
        # Checked here, since http.client quotes a malformed header in its error.
        if self.token is not None and not re.fullmatch(r"[\x21-\x7e]+", self.token):
            raise DownloadError("the token", "it isn't one line of letters", "get a new one")


def read_token(token_file: str | Path | None = None) -> str | None:
    """The token from the file, else from the environment's GDC_TOKEN, else None.

    Raises
    ------
    DownloadError
        The file can't be read.
    """
    if token_file is None:
        return os.environ.get("GDC_TOKEN", "").strip() or None
    try:
        return Path(token_file).read_text(encoding="ascii").strip() or None
    except (OSError, ValueError) as error:
        cause = f"the token can't be read ({type(error).__name__})"
        raise DownloadError(token_file, cause, "mend token_file or its permissions") from None
