"""Running the application in this process, by uvicorn."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from model.errors import CbmirError, SettingError
from workers.serving.application import make_application
from workers.serving.retrieval import Retrieval
from workers.serving.settings import ServingSettings


def serve(settings: ServingSettings, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; requests that are under way are answered first.

    Args:
        settings: what to serve.
        ready: called with the server's address once it answers.

    Raises:
        CbmirError: the port is taken, or the model or the index cannot be opened.
    """
    access = settings.access
    with _listening(access.host, access.port) as listener, Retrieval(settings) as retrieval:
        app = make_application(settings, lambda _: retrieval)
        config = uvicorn.Config(
            app,
            ssl_certfile=access.certificate,
            ssl_keyfile=access.key,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(access.user_header),
            timeout_graceful_shutdown=10,
        )
        try:
            config.load()
        except (ssl.SSLError, OSError) as error:
            raise SettingError(f"--tls-certificate {access.certificate}: {error}") from error
        scheme = "https" if access.certificate else "http"
        name = f"[{access.host}]" if ":" in access.host else access.host
        ready(f"{scheme}://{name}:{listener.getsockname()[1]}")
        with suppress(KeyboardInterrupt):  # the way in which a server is ended
            uvicorn.Server(config).run([listener])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(256)
    except (OSError, OverflowError) as error:
        listener.close()
        raise CbmirError(
            f"nothing can listen at {host}, port {port}: {error}; name another --port or --host"
        ) from error
    return listener
