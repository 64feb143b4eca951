"""Who may ask, from where and how much: what every request passes before anything of it is looked at."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workers.serving.settings import Access, is_loopback

_SAVED_SECONDS = 10.0
_MOST_CLIENTS = 10_000

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; style-src 'self'; script-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}


class Guard:
    """ASGI middleware: the Host header, tokens, cross-site requests, and the number and size of uploads.

    Args:
        app: what is guarded.
        access: who may ask.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access
        self._names = {name.lower() for name in (access.host, *access.names)}
        # Listening at all addresses of a machine, it is called by any of them.
        self._everywhere = _is_number(access.host) and ipaddress.ip_address(access.host).is_unspecified
        # Browsers give a cookie to all ports of a host.
        self._cookie = f"cbmir-{hashlib.blake2b(access.token.encode(), digest_size=4).hexdigest()}"
        self._budgets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on with ``user`` in its state."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    given.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send_guarded)
            return
        await self._app(scope, self._limited(receive), send_guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """What is answered instead, if the request may not pass."""
        if not self._is_named(headers.get("host", "")):
            return _refused(scope, "this server is not called so: --allow-host NAME lets it be", 421)
        if scope["path"] == "/healthz":
            return None
        user, refusal = self._user(scope, headers)
        scope.setdefault("state", {})["user"] = user
        if refusal is None and scope["method"] not in {"GET", "HEAD"}:
            refusal = self._refusal_of_upload(scope, headers, user or _client(scope))
        return refusal

    def _refusal_of_upload(self, scope: Scope, headers: Headers, client: str) -> Response | None:
        """What is answered instead of taking what is sent."""
        if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"} or not _is_own(headers):
            return _refused(scope, "this was sent by a page of another site", 403)
        if not headers.get("content-type", "").startswith("multipart/form-data"):
            return _refused(scope, "pictures come as multipart/form-data", 415)
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._access.largest_upload:
            largest = self._access.largest_upload / 2**20
            return _refused(scope, f"more than {largest:,.0f} MB: --max-upload sets the limit", 413)
        if wait := self._wait(client):
            return _refused(scope, "too many pictures at once", 429, {"Retry-After": str(wait)})
        return None

    def _is_named(self, host: str) -> bool:
        """Whether a Host header names this server: by another name a page elsewhere may have found its way here."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or is_loopback(name) or (self._everywhere and _is_number(name))

    def _user(self, scope: Scope, headers: Headers) -> tuple[str, Response | None]:
        """Who asks, and what is answered to somebody who may not."""
        access = self._access
        user = headers.get(access.user_header, "") if access.user_header else ""
        if access.user_header and not user:
            return "", _refused(scope, f"the proxy before this server names nobody in {access.user_header}", 401)
        if not access.token:
            return user, None
        given = QueryParams(scope["query_string"]).get("token", "")
        if scope["method"] == "GET" and hmac.compare_digest(given.encode(), access.token.encode()):
            return user, self._let_in(scope)
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        for one in (bearer, cookie_parser(headers.get("cookie", "")).get(self._cookie, "")):
            if hmac.compare_digest(one.encode(), access.token.encode()):
                return user, None
        text = "a token is needed: open the address that cbmir serve printed, or send 'Authorization: Bearer TOKEN'"
        return "", _refused(scope, text, 401, {"WWW-Authenticate": "Bearer"})

    def _let_in(self, scope: Scope) -> Response:
        """The same address without the token in it, which is a cookie from then on."""
        rest = [pair for pair in QueryParams(scope["query_string"]).multi_items() if pair[0] != "token"]
        response = RedirectResponse(f"{scope['path']}?{QueryParams(rest)}" if rest else scope["path"], 303)
        secure = self._access.certificate is not None
        # Not strict: a link in a message to a colleague would come without it.
        response.set_cookie(self._cookie, self._access.token, httponly=True, samesite="lax", secure=secure)
        return response

    def _wait(self, client: str) -> int:
        """Seconds for which a client has to wait with its next upload; 0 if it need not."""
        rate, now = self._access.uploads_a_second, time.monotonic()
        most = max(1.0, rate * _SAVED_SECONDS)
        saved, since = self._budgets.pop(client, (most, now))
        saved = min(most, saved + (now - since) * rate)
        self._budgets[client] = (saved - 1 if saved >= 1 else saved, now)
        while len(self._budgets) > _MOST_CLIENTS:
            self._budgets.popitem(last=False)
        return 0 if saved >= 1 else int((1 - saved) / rate) + 1

    def _limited(self, receive: Receive) -> Receive:
        """What a client sends, cut off where it is more than may be, whatever its headers say."""
        left = self._access.largest_upload

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                return {"type": "http.disconnect"}
            return message

        return counted


def _is_own(headers: Headers) -> bool:
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def _refused(scope: Scope, sentence: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """One sentence: as JSON for programs."""
    if scope["path"].startswith("/api/"):
        return JSONResponse({"error": sentence}, status, headers)
    return PlainTextResponse(sentence, status, headers)


def _client(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
