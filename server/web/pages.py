"""The files of the page, read once: a page is never half of one version and half of the next."""

import hashlib
from http import HTTPStatus
from pathlib import Path

import msgspec

from server.settings import Kiosk
from server.web.http import JSON, Answer, Request, listed

FOLDER = Path(__file__).parents[1] / "page"
PAGES = {"": "index.html", "kiosk": "kiosk.html"}
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": JSON,
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".wav": "audio/wav",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""Our own: on some systems the table of the system calls a script plain text, and browsers then
refuse to run it."""


class Pages:
    """What a browser loads, by its address."""

    def __init__(self, kiosk: Kiosk):
        files = {path.name: path for path in FOLDER.iterdir() if path.suffix in TYPES}
        self._files = {
            f"page/{name}": _file(path.read_bytes(), TYPES[path.suffix])
            for name, path in files.items()
        }
        self._files |= {where: self._files[f"page/{name}"] for where, name in PAGES.items()}
        self._files["page/kiosk.json"] = _file(msgspec.json.encode(kiosk), JSON)

    def find(self, request: Request) -> Answer | None:
        """The file at an address, or word that the browser has it already."""
        *_, folder, name = ("", *request.path.split("/"))
        answer = self._files.get(f"page/{name}" if folder == "page" else name)
        if answer is None or (not name and (folder == "kiosk" or "/v1/" in request.path)):
            return None
        [(_, tag), *_] = answer.headers
        known = {each.removeprefix("W/") for each in listed(request.headers, "If-None-Match")}
        if tag in known or "*" in known:
            return Answer(HTTPStatus.NOT_MODIFIED, headers=answer.headers)
        return answer


def _file(body: bytes, kind: str) -> Answer:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return Answer(HTTPStatus.OK, body, kind, (("ETag", tag), ("Cache-Control", "no-cache")))
