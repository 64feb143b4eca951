"""``cbmir serve``: a page to look and ask on, and an API, over a warm model and an open index."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from cli.console import errors, messages, output
from cli.interruption import on_interruption
from cli.options import IndexOption, SearchRuntimeOption, ViewerUrlOption, option, parse_range
from model.errors import SettingError

if TYPE_CHECKING:
    from index.address import Address
    from workers.serving.settings import ServingSettings


def serve(
    index: IndexOption,
    model: Annotated[
        Path | None,
        option("--model", "-m", help="Model file; by default the one that made the index.", show_default=False),
    ] = None,
    host: Annotated[str, option("--host", help="Address to listen at; 0.0.0.0 is all of this machine.")] = "127.0.0.1",
    port: Annotated[int, option("--port", help="0 takes a free one.", min=0, max=65535)] = 8765,
    open_: Annotated[bool, option("--open", help="Open the page in the browser.")] = False,
    token: Annotated[
        str | None,
        option(
            "--token",
            help="Ask everybody for it [none on this machine alone, else one that is made and printed].",
            show_default=False,
        ),
    ] = None,
    user_header: Annotated[
        str, option("--user-header", help="Header in which a proxy says who asks.", metavar="NAME")
    ] = "",
    allow_host: Annotated[
        list[str] | None,
        option("--allow-host", help="A name by which browsers call this server; repeatable.", metavar="NAME"),
    ] = None,
    tls_certificate: Annotated[Path | None, option("--tls-certificate", help="PEM file.", show_default=False)] = None,
    tls_key: Annotated[Path | None, option("--tls-key", help="PEM file of its key.", show_default=False)] = None,
    max_upload: Annotated[int, option("--max-upload", help="Largest picture that may be brought, in MB.", min=1)] = 256,
    rate: Annotated[float, option("--rate", help="Requests with pictures a second of one client.", min=0.1)] = 50.0,
    viewer_url: ViewerUrlOption = "",
    audit_log: Annotated[
        Path | None,
        option("--audit-log", help="Write who asked what into this file, a line an answer.", show_default=False),
    ] = None,
    runtime: SearchRuntimeOption = "auto",
    device: Annotated[str, option("--device", help="Torch device.")] = "cpu",
    ray_address: Annotated[
        str | None,
        option(
            "--ray-address",
            help="Serve from this Ray cluster by Ray Serve; local starts a Ray here.",
            metavar="HOST:PORT|local",
            show_default=False,
        ),
    ] = None,
    replicas: Annotated[
        str, option("--ray-replicas", help="On Ray: how many, or least and most.", metavar="N|MIN:MAX")
    ] = "1",
    gpus: Annotated[float, option("--gpus", help="On Ray: GPUs of each replica, or a share of one.", min=0.0)] = 0.0,
) -> None:
    """Show a page to ask with pictures, and answer programs at /api/search, until Ctrl-C.

    The index stays open to jobs that write to it meanwhile. Only this machine can reach the server, unless --host says
    otherwise; then a token is asked for.
    """
    if None in map(find_spec, ("fastapi", "python_multipart", "uvicorn")):
        raise SettingError("the server is not installed: pip install 'cbmir[serve]'")
    from index.opening import describe_index
    from workers.serving.settings import Access, ServingSettings, check_settings, is_loopback, new_token

    if token == "":
        raise SettingError("--token is empty: leave it out, or give one that nobody guesses")
    made = token is None and not is_loopback(host)
    if made:
        token = new_token()
    access = Access(
        host=host,
        port=port,
        names=tuple(allow_host or ()),
        token=token or "",
        user_header=user_header,
        certificate=tls_certificate,
        key=tls_key,
        largest_upload=max_upload * 2**20,
        uploads_a_second=rate,
    )
    settings = ServingSettings(index, model, runtime, device, viewer_url, audit_log, access)
    check_settings(settings)
    settings = replace(settings, viewer_url=viewer_url or describe_index(index).viewer_url)

    def ready(address: str) -> None:
        _say_ready(index, address, token or "", made=made, open_=open_)

    if ray_address is None:
        from workers.serving.running import serve as serve_here

        serve_here(settings, ready)
    else:
        _serve_on_ray(settings, ray_address, replicas, gpus, ready)


def _serve_on_ray(
    settings: ServingSettings, ray_address: str, replicas: str, gpus: float, ready: Callable[[str], None]
) -> None:
    least, most = parse_range("--ray-replicas", replicas) or (1, 1)
    if settings.access.port == 0:
        raise SettingError("--port 0: on Ray the port must be named")
    if not 1 <= least <= most:
        raise SettingError(f"--ray-replicas {replicas} makes no sense: give at least 1, and the least first")
    if find_spec("ray.serve") is None or find_spec("opencensus") is None:
        raise SettingError("Ray Serve is not installed: pip install 'cbmir[serve-ray]'")
    from workers.serving.replicas import Replicas, serve_on_ray

    ended = threading.Event()
    with on_interruption(ended.set):
        serve_on_ray(
            settings,
            Replicas(least, most, gpus=gpus),
            None if ray_address == "local" else ray_address,
            ready=ready,
            ended=ended,
            debug=errors.debug,
        )


def _say_ready(index: Address, address: str, token: str, *, made: bool, open_: bool) -> None:
    """Say where the page is; a token that was given stays out of logs."""
    page = f"{address}/?token={quote(token, safe='')}" if token else address
    output.print(f"{index} is served at {page if made else address}", soft_wrap=True, markup=False, highlight=False)
    if token and not made:
        messages.print("a browser is let in by /?token= with the token that was given", markup=False)
    messages.print("Ctrl-C ends it. Not for diagnosis.", markup=False)
    if open_ and not webbrowser.open(page):
        messages.print("no browser could be opened here: open that address", markup=False)
