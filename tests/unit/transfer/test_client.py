"""The HTTP client against a real server on loopback: answers, waits, tokens and certificates."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fault_server import Fault, FaultServer, self_signed
from fetching import CONTENT, FAST, get
from slide2rna.core.errors import DownloadError
from slide2rna.transfer import client

TOKEN = "a-secret-token"


def test_retry_after_is_honoured(server: FaultServer, dest: Path) -> None:
    start = time.monotonic()
    get(server.add("/a", Fault("status 429", value="1")), dest)
    assert time.monotonic() - start >= 1


@pytest.mark.parametrize("status", ["204", "300", "400"])
def test_an_answer_without_the_file_is_refused(
    status: str, server: FaultServer, dest: Path
) -> None:
    with pytest.raises(DownloadError, match=f"HTTP status {status}"):
        get(server.add("/a", f"status {status}"), dest, md5=None, size=None)
    assert not dest.exists()


@pytest.mark.parametrize("status", ["404", "410", "403"])
def test_a_file_that_was_withdrawn_is_not_asked_for_again(
    status: str, server: FaultServer, dest: Path
) -> None:
    word = "token" if status == "403" else "withdrawn"
    with pytest.raises(DownloadError, match=rf"HTTP status {status}.*{word}"):
        get(server.add("/a", f"status {status}"), dest)
    assert len(server.requests) == 1


def test_the_token_goes_to_one_server_only(
    server: FaultServer, dest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with FaultServer({"/b": CONTENT}) as other:
        settings = replace(FAST, token=TOKEN, api=server.url(""))
        server.add("/a", Fault("redirect", value=other.url("/b")), "status 403")
        get(server.url("/a"), dest, settings)
        with pytest.raises(DownloadError) as error:
            get(server.url("/a"), dest.with_name("b"), settings)
        tokens = [headers.get("X-Auth-Token") for _, headers, _ in server.requests]
        assert tokens == [TOKEN, TOKEN]
        assert "X-Auth-Token" not in other.requests[0][1]
    assert TOKEN not in f"{caplog.text} {error.value} {settings!r}"


def test_a_token_is_read_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDC_TOKEN", f" {TOKEN}\n")
    assert client.read_token() == TOKEN
    (tmp_path / "token").write_text("from a file\n")
    assert client.read_token(tmp_path / "token") == "from a file"
    with pytest.raises(DownloadError, match="line") as error:
        client.ServerSettings(token=client.read_token(tmp_path / "token"))
    assert "from a file" not in str(error.value)
    monkeypatch.delenv("GDC_TOKEN")
    assert client.read_token() is None
    with pytest.raises(DownloadError, match="FileNotFoundError"):
        client.read_token(tmp_path / "gone")


def test_json_is_had_and_pages_are_refused(server: FaultServer) -> None:
    server.files |= {"/json": b'{"hits": [1]}', "/text": b"hits"}
    with client.session(FAST) as session:
        url = server.add("/json", "page", "status 502", "short", "drip")
        assert client.get_json(session, url, {"size": 1}) == {"hits": [1]}
        assert client.get_json(session, url, json={"size": 1}) == {"hits": [1]}
        for path, word in [("/text", "JSON.*4 times"), ("/gone", "status 404")]:
            with pytest.raises(DownloadError, match=word):
                client.get_json(session, server.url(path))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command")
def test_an_unknown_certificate_is_fatal(tmp_path: Path, dest: Path) -> None:
    pem = self_signed(tmp_path)
    with FaultServer({"/a": CONTENT}, certificate=pem) as server:
        with pytest.raises(DownloadError, match=r"certificate.*127\.0\.0\.1"):
            get(server.url("/a"), dest)
        assert (server.connections, server.requests) == (1, [])
        get(server.url("/a"), dest, replace(FAST, ca=str(pem)))
        assert dest.read_bytes() == CONTENT
    with pytest.raises(DownloadError, match="CA bundle"):
        client.session(replace(FAST, ca=str(tmp_path / "gone")))


@pytest.mark.parametrize("api", ["http://api.example.org", "http://10.0.0.1:8080", "ftp://a.org"])
def test_a_token_is_sent_over_https_only(api: str) -> None:
    with pytest.raises(DownloadError, match="https") as error:
        client.ServerSettings(token=TOKEN, api=api)
    assert TOKEN not in str(error.value)
    client.ServerSettings(token=None, api=api)
    for local in ("https://api.example.org", "http://127.0.0.1:9", "http://localhost:9"):
        client.ServerSettings(token=TOKEN, api=local)


def test_a_token_that_others_can_read_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    assert client.read_token(path) == TOKEN
    assert not caplog.text
    path.chmod(0o644)
    assert client.read_token(path) == TOKEN
    assert "chmod 600" in caplog.text
    assert TOKEN not in caplog.text
