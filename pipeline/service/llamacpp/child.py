"""The child process: looks at the files, loads the model, serves until its parent ends.

Reads one line of JSON (`Orders`) from stdin, which the parent keeps open; writes one line of JSON
(`Report`) to stdout: an address, or why there is none. llama.cpp's own log goes to stderr.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.service.llamacpp.fit import Fit, TooLittle, fit, free_memory
from pipeline.service.llamacpp.header import Header, NotGguf, read_header

_PR_SET_PDEATHSIG = 1
_LONG = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What the parent wants."""

    model: str
    mmproj: str
    #: What the server calls the model.
    name: str
    #: What a request must bring, so that nobody else on this machine is served.
    key: str
    concurrency: int
    #: 0: any free one.
    port: int
    parent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of it."""

    url: str | None = None
    slots: int = 0
    context: int = 0
    #: Why nothing is served, for people.
    refused: str | None = None


def main() -> int:
    """Serve until the parent is gone; 1 when that cannot be."""
    orders = Orders(**json.loads(sys.stdin.readline()))
    _end_with_parent(orders.parent)
    report, server = _served(orders)
    print(json.dumps(asdict(report)), flush=True)  # noqa: T201 - the parent reads it
    while server is not None:  # it ends with its last reference
        time.sleep(_LONG)
    return 1


def _end_with_parent(parent: int) -> None:
    """By the kernel where it can (a model that is loading holds Python up), and by the pipe."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)
    threading.Thread(target=_end_with_pipe, daemon=True).start()


def _end_with_pipe() -> None:
    sys.stdin.read()
    os._exit(0)


def _served(orders: Orders) -> tuple[Report, Any]:
    """What to report, and the server; None when there is none."""
    try:
        model = _header(orders.model, "endpoint.model")
        projector = _header(orders.mmproj, "endpoint.mmproj")
        _see_that_they_fit(orders, model, projector)
        import xllamacpp

        cards = any("GPU" in str(device.get("type")) for device in xllamacpp.get_device_info())
        # A graphics card has a memory of its own, which llama.cpp itself looks after.
        free = None if cards else free_memory()
        size = fit(model, projector, free, concurrency=orders.concurrency)
        server = xllamacpp.Server(_params(xllamacpp, orders, size))
    except _Refused as refused:
        return Report(refused=str(refused)), None
    except TooLittle as short:
        message = (
            f"too little memory for {orders.model}: it takes about {short.needed / 1e9:.1f} GB and "
            f"{short.free / 1e9:.1f} GB are free; take a smaller quantization or model"
        )
        return Report(refused=message), None
    except ImportError as error:
        return Report(refused=f"xllamacpp cannot be loaded on this machine ({error})"), None
    except RuntimeError:
        return Report(), None  # why stands in its log
    url = f"{server.listening_address}/v1"
    return Report(url=url, slots=size.slots, context=size.context), server


class _Refused(Exception):
    """A file is not what it should be."""


def _header(path: str, key: str) -> Header:
    try:
        return read_header(Path(path))
    except FileNotFoundError:
        raise _Refused(f"{key}: {path}: no such file; write the path of a .gguf file") from None
    except NotGguf as error:
        raise _Refused(f"{key}: {path} is broken: {error}") from None
    except OSError as error:
        raise _Refused(f"{key}: {path} cannot be read ({error.strerror})") from None


def _see_that_they_fit(orders: Orders, model: Header, projector: Header) -> None:
    if model.architecture == "clip":
        raise _Refused(
            f"endpoint.model: {orders.model} is a vision projector: name it in endpoint.mmproj, "
            "and here the model that it belongs to"
        )
    if projector.architecture == "clip" and projector.facts.get("clip.has_vision_encoder", True):
        return
    kind = projector.architecture if projector.architecture != "clip" else "for sound alone"
    raise _Refused(
        f"endpoint.mmproj: {orders.mmproj} is no vision projector ({kind or 'of no kind'}): it is "
        "published beside its model as mmproj-….gguf"
    )


def _params(xllamacpp: Any, orders: Orders, size: Fit) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path, params.mmproj.path = orders.model, orders.mmproj
    params.hostnames, params.port = ["127.0.0.1"], orders.port
    params.api_keys, params.model_alias = [orders.key], {orders.name}
    params.n_parallel, params.n_ctx = size.slots, size.slots * size.context
    params.ui = False
    # No two requests begin alike for longer than the prompt: kept states would only take memory.
    params.cache_ram_mib = 0
    return params


if __name__ == "__main__":
    sys.exit(main())
