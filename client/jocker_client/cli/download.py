"""What `import` takes from a URL: http and https, also after redirections, by the proxies that the environment names."""

from __future__ import annotations

import base64
import contextlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import IO, Any

import click

_SILENCE = 60.0
"""Seconds that a server may say nothing."""
_CHUNK = 1 << 19
_SCHEMES = ("http://", "https://")


def is_url(source: str) -> bool:
    """Whether it is to be got from somewhere."""
    return "://" in source


class _OnlyHttp(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith(_SCHEMES):
            raise urllib.error.URLError(f"it redirects to {newurl}, which is neither http nor https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextlib.contextmanager
def opened(url: str) -> Iterator[Iterator[bytes]]:
    """Its content, piece by piece. Raises ClickException with one line."""
    shown = without_password(url)
    if not url.lower().startswith(_SCHEMES):
        raise click.ClickException(
            f"{shown}: only http:// and https:// are imported, files, and - for standard input"
        )
    opener = urllib.request.build_opener(_OnlyHttp)
    opener.addheaders = [("User-Agent", "jocker"), ("Accept", "*/*"), ("Accept-Encoding", "identity")]
    try:
        with opener.open(_request(url), timeout=_SILENCE) as response:
            yield _pieces(response, shown)
    except urllib.error.HTTPError as error:
        why = f"HTTP status {error.code}: {' '.join(str(error.reason).split())}"
    except urllib.error.URLError as error:
        why = str(getattr(error.reason, "strerror", None) or error.reason)
    except (http.client.HTTPException, TimeoutError, UnicodeError, ValueError) as error:
        why = str(error) or type(error).__name__
    else:
        return
    raise click.ClickException(f"{shown}: {why}")


def _request(url: str) -> urllib.request.Request:
    """A user and password in the URL are for the server that it names, not for one it redirects to (RFC 7617)."""
    parts = urllib.parse.urlsplit(url)
    request = urllib.request.Request(without_password(url))
    if parts.username is not None:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    return request


def _pieces(response: http.client.HTTPResponse, shown: str) -> Iterator[bytes]:
    expected, size = response.length, 0
    while piece := response.read(_CHUNK):
        size += len(piece)
        yield piece
    if expected is not None and size < expected:
        raise click.ClickException(f"{shown}: ended after {size} of {expected} bytes")


def without_password(url: str) -> str:
    """For people, and for an image's history."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
