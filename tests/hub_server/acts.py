"""What goes wrong with one request: each act answers an exchange in its own bad way.

An act that returns True leaves the connection usable for the next request; otherwise the server closes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias
from urllib.parse import parse_qs, urlsplit

from .exchange import Exchange
from .messages import PORTAL_PAGE, Reply, html_reply

Act: TypeAlias = Callable[[Exchange], bool]

DRIP_INTERVAL_S = 0.3
# Long enough for the sent bytes to leave this machine's buffers before the RST, which discards what has not left.
_DRAIN_S = 0.1


def hang(exchange: Exchange) -> bool:
    """Never answer."""
    exchange.wait()
    return False


def close(exchange: Exchange) -> bool:
    """Hang up without an answer."""
    exchange.hang_up(_DRAIN_S)
    return False


def reset(exchange: Exchange) -> bool:
    """Hang up with RST."""
    exchange.reset()
    return False


def answer_with(reply: Reply) -> Act:
    """Answer every request with the same reply."""

    def act(exchange: Exchange) -> bool:
        exchange.send(reply)
        return True

    return act


def redirect_to_portal(exchange: Exchange) -> bool:
    """Send the client to the log-in page of a captive portal."""
    exchange.send(Reply(302, {"Location": f"{exchange.places.portal_url}/login", "Cache-Control": "no-store"}))
    return True


def redirect_in_circles(exchange: Exchange, *, absolute: bool) -> bool:
    """Send the client to the same address again, with a counter so that no client sees the very same address twice."""
    url = urlsplit(exchange.request.path)
    turn = int(parse_qs(url.query).get("turn", ["0"])[0]) + 1
    base = f"http://{exchange.request.headers['host']}" if absolute else ""
    exchange.send(Reply(302, {"Location": f"{base}{url.path}?turn={turn}"}))
    return True


def reset_mid_body(exchange: Exchange) -> bool:
    """Send half of the body, then RST."""
    exchange.send(exchange.reply, exchange.reply.length // 2)
    time.sleep(_DRAIN_S)
    exchange.reset()
    return False


def truncate_body(exchange: Exchange) -> bool:
    """Send half of the body, then close as if that had been all."""
    exchange.send(exchange.reply, exchange.reply.length // 2)
    return False


def stall(exchange: Exchange) -> bool:
    """Send half of the body, then nothing more, on an open connection."""
    exchange.send(exchange.reply, exchange.reply.length // 2)
    exchange.wait()
    return False


def drip(exchange: Exchange) -> bool:
    """Send the body byte by byte: each read succeeds, and the whole takes for ever."""
    exchange.send(exchange.reply, 0)
    for chunk in exchange.reply.chunks():
        for position in range(len(chunk)):
            exchange.connection.sendall(chunk[position : position + 1])
            if exchange.wait(DRIP_INTERVAL_S):
                return False
    return True


def drip_headers(exchange: Exchange) -> bool:
    """Send a header byte by byte, for ever: no time-out between two bytes ever strikes."""
    exchange.connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    while not exchange.wait(DRIP_INTERVAL_S):
        exchange.connection.sendall(b"d")
    return False


def answer_after(seconds: float) -> Act:
    """Answer rightly, but only after so many seconds."""

    def act(exchange: Exchange) -> bool:
        if exchange.wait(seconds):
            return False
        exchange.send(exchange.reply)
        return True

    return act


def lose_the_cdn(exchange: Exchange) -> bool:
    """Answer rightly, but send the client for the file to a port that refuses connections."""
    reply, places = exchange.reply, exchange.places
    location = reply.headers.get("Location", "")
    if location.startswith(places.cdn_url):
        headers = {**reply.headers, "Location": location.replace(places.cdn_url, places.dead_url, 1)}
        reply = replace(reply, headers=headers)
    exchange.send(reply)
    return True


def portal_page(exchange: Exchange) -> bool:
    """Answer with the log-in page of a captive portal and status 200."""
    exchange.send(html_reply(PORTAL_PAGE))
    return True
