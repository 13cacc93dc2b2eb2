"""What a client of the standard library meets under each fault: every name of ``FAULTS`` is in exactly one table."""

from __future__ import annotations

import http.client
import socket
import ssl

RAISES: dict[str, tuple[type[BaseException], ...]] = {
    "refused": (ConnectionRefusedError,),
    "dns_failure": (socket.gaierror,),
    "hang": (TimeoutError,),
    "hang_api": (TimeoutError,),
    "hang_cdn": (TimeoutError,),
    "syn_dropped": (TimeoutError,),
    "tls_to_plain": (ssl.SSLError,),
    "self_signed": (ssl.SSLCertVerificationError,),
    "corporate_ca": (ssl.SSLCertVerificationError,),
    "tls_hang": (TimeoutError,),
    "reset": (ConnectionResetError, BrokenPipeError),  # by whether the RST comes before or after the request
    "close": (http.client.RemoteDisconnected,),
    "proxy_hang": (TimeoutError,),
    "proxy_hang_http": (TimeoutError,),
    "proxy_down": (ConnectionRefusedError,),
    "proxy_down_http": (ConnectionRefusedError,),
    "reset_mid_body": (ConnectionResetError,),
    "truncated_body": (http.client.IncompleteRead,),
    "stall": (TimeoutError,),
}
STATUS = {
    **{f"status_{code}": code for code in (500, 502, 503, 504)},
    "rate_limited": 429,
    "rate_limited_retry_after": 429,
    "rate_limited_window": 429,
    "firewall_403_html": 403,
    "blocked_451_html": 451,
    "unauthorized_401": 401,
    "bad_token_401": 401,
    "gated": 403,
    "gone_repo": 404,
    "gone_revision": 404,
    "proxy_407_http": 407,
    "proxy_403_http": 403,
    "proxy_502_http": 502,
    "portal_200": 200,
    "portal_redirect": 302,
    "portal_get": 200,
    "redirect_loop": 302,
    "redirect_loop_absolute": 302,
    "cdn_503": 503,
}
MARKS = {
    "rate_limited_retry_after": {"retry-after": "30"},
    "rate_limited_window": {"ratelimit": '"api";r=0;t=30'},
    "firewall_403_html": {"content-type": "text/html; charset=utf-8"},
    "blocked_451_html": {"content-type": "text/html; charset=utf-8"},
    "unauthorized_401": {"x-error-code": "RepoNotFound", "x-error-message": "Invalid username or password."},
    "bad_token_401": {"x-error-message": "Invalid credentials in Authorization header"},
    "gated": {"x-error-code": "GatedRepo"},
    "gone_repo": {"x-error-code": "RepoNotFound"},
    "gone_revision": {"x-error-code": "RevisionNotFound"},
    "proxy_407_http": {"proxy-authenticate": 'Basic realm="proxy"'},
}
TOLD_BY_A_PROXY = {"proxy_407": "407", "proxy_403": "403", "proxy_502": "502"}
ONCE = {"reset_mid_body_once", "truncated_body_once", "stall_once", "fails_2_then_recovers"}
SLOW = {"slow_dns", "slow_headers", "drip", "drip_headers"}
