"""Rules about the hub: networks, names, access. Those of the wire speak only where a request was the hub's."""

from __future__ import annotations

from typing import Final

from .rule import Rule

# How the messages of requests, urllib3 and httpx begin: a network word elsewhere in a text is no error.
_WIRE: Final = (
    r"(?:\(MaxRetryError\(|HTTPS?ConnectionPool\(|HTTPS?Connection\(|\(ProtocolError\(|\('Connection|\(\"Connection"
    r"|\(ReadTimeoutError\(|\(ConnectTimeoutError\(|\[SSL: |\[Errno |<urlopen error |SSLError\(|Tunnel connection)"
)
_LOGIN: Final = "hf auth login, or token=..."
_HUB: Final = "transformers/utils/hub.py, 4.57.6 and 5.23.0"
_HTTP: Final = "huggingface_hub/utils/_http.py, 0.36.2 and 2.4.0"
_REQUESTS: Final = "requests 2.34.2 and httpx2 2.16.2, as huggingface_hub 0.36.2 and 2.4.0 raise them"

RULES: Final = (
    Rule(
        "ST-HUB-501",
        rf"(?={_WIRE}).*CERTIFICATE_VERIFY_FAILED(?:\] certificate verify failed: (?P<reason>[^('\"]+))?",
        "the TLS certificate of the hub is not trusted: {reason}",
        "probably a proxy of your organisation opens TLS and shows a certificate of its own, or HF_ENDPOINT is a "
        "mirror",
        "ask for the organisation's CA file, then REQUESTS_CA_BUNDLE=/path/ca.pem SSL_CERT_FILE=/path/ca.pem",
        of_hub=True,
        source=_REQUESTS,
    ),
    Rule(
        "ST-HUB-502",
        rf"(?={_WIRE}).*(?:Tunnel connection failed: (?P<status>\d{{3}} [\w ]+)|ProxyError\(\\?'(?P<reason>[^'\\]+))",
        "the proxy did not let the request through: {status}{reason}",
        "407 asks for a user name and password, 403 denies the host, 5xx means that the proxy itself cannot reach it",
        "HTTPS_PROXY=http://user:password@host:port; or NO_PROXY=huggingface.co where no proxy is needed",
        of_hub=True,
        source="urllib3 2.8.0, below requests 2.34.2",
    ),
    Rule(
        "ST-HUB-502",
        r"(?P<status>\d{3}) (?P<reason>[A-Z][\w ]+)$",
        "the proxy did not let the request through: {status} {reason}",
        "407 asks for a user name and password, 403 denies the host, 5xx means that the proxy itself cannot reach it",
        "HTTPS_PROXY=http://user:password@host:port; or NO_PROXY=huggingface.co where no proxy is needed",
        types=("ProxyError",),
        of_hub=True,
        source="httpx2 2.16.2",
    ),
    Rule(
        "ST-HUB-517",
        rf"(?={_WIRE}).*\[SSL: (?P<reason>[A-Z_0-9]+)\]",
        "the TLS handshake with the hub failed ({reason})",
        "probably something between here and the hub does not speak TLS: a proxy, a captive portal, or an http address "
        "written as https",
        "look at HF_ENDPOINT and HTTPS_PROXY: each address needs the scheme that its server speaks",
        of_hub=True,
        source=_REQUESTS,
    ),
    Rule(
        "ST-HUB-511",
        rf"(?={_WIRE}).*(?:NameResolutionError|Name or service not known|Temporary failure in name resolution"
        r"|nodename nor servname|getaddrinfo failed|No address associated with hostname)",
        "the hub's name cannot be resolved (DNS)",
        "probably there is no network, a firewall answers no DNS, or HF_ENDPOINT is misspelt",
        "HF_HUB_OFFLINE=1 where the files are cached; else name the proxy: HTTPS_PROXY=http://host:port",
        of_hub=True,
        source=_REQUESTS,
    ),
    Rule(
        "ST-HUB-507",
        r"(?:Client error ')?429 (?:Client Error: )?Too Many Requests",
        "the hub limits the rate of requests (429)",
        "the limit is for each address or account: many jobs behind one address share it, and a token has a higher one",
        f"{_LOGIN}; download once and start the jobs with HF_HUB_OFFLINE=1",
        of_hub=True,
        source=_HTTP,
    ),
    Rule(
        "ST-HUB-515",
        r"(?:Server error '(?P<status>5\d\d) [\w ]+'|(?P<old_status>5\d\d) Server Error)",
        "the hub, or a gateway before it, had an error of its own ({status}{old_status})",
        "nothing on this machine can mend that; status.huggingface.co tells of outages",
        "try again later; HF_HUB_OFFLINE=1 where the files are cached",
        of_hub=True,
        source=_HTTP,
    ),
    Rule(
        "ST-HUB-508",
        rf"(?:(?={_WIRE}).*(?:timed out|Timeout|ETIMEDOUT)|[\w ]*timed out$|$)",
        "the hub did not answer in time",
        "probably a firewall drops the packets, or the network is slow",
        "HF_HUB_DOWNLOAD_TIMEOUT=60 HF_HUB_ETAG_TIMEOUT=60; HF_HUB_OFFLINE=1 where the files are cached",
        types=(
            "ReadTimeout",
            "ConnectTimeout",
            "ReadTimeoutError",
            "ConnectTimeoutError",
            "PoolTimeout",
            "WriteTimeout",
            "MaxRetryError",
            "ConnectionError",
        ),
        of_hub=True,
        source=_REQUESTS,
    ),
    Rule(
        "ST-HUB-509",
        rf"(?:peer closed connection without sending complete message "
        rf"body|IncompleteRead\(|(?={_WIRE}).*(?:IncompleteRead"
        r"|Connection reset by peer|Connection broken|Connection aborted)|Server disconnected without sending)",
        "the connection to the hub was cut",
        "probably a proxy, a firewall or an unsteady network: what had arrived is kept, and the next try goes on "
        "from there",
        "run it again, or safetransformers prefetch REPO before the job",
        of_hub=True,
        source=_REQUESTS,
    ),
    Rule(
        "ST-HUB-510",
        rf"(?={_WIRE}).*(?:Connection refused|Network is unreachable|No route to host|actively refused)",
        "the hub, or the proxy before it, refused the connection",
        "nothing listens at that address: probably HF_ENDPOINT or HTTPS_PROXY names a wrong host or port, or a "
        "firewall "
        "rejects it",
        "curl -I https://huggingface.co; HF_HUB_OFFLINE=1 where the files are cached",
        types=(
            "ConnectionError",
            "ConnectError",
            "MaxRetryError",
            "NewConnectionError",
            "ConnectionRefusedError",
            "URLError",
            "ProxyError",
            "ClientConnectorError",
        ),
        of_hub=True,
        source=_REQUESTS,
    ),
    Rule(
        "ST-HUB-512",
        r"Cannot reach (?P<url>\S+): offline mode is enabled",
        "a request was made, and HF_HUB_OFFLINE forbids all requests",
        "the variable is set in this process, and the cache could not answer",
        "unset HF_HUB_OFFLINE; or fetch first, where the hub can be reached: safetransformers prefetch REPO",
        source=_HTTP,
    ),
    Rule(
        "ST-HUB-005",
        r"Cannot find (?:the requested files in the disk cache|an appropriate cached snapshot folder).* and outgoing "
        r"traffic "
        "has been disabled",
        "the files are not in the cache, and no request is allowed (local_files_only, or HF_HUB_OFFLINE)",
        "",
        "where the hub can be reached: safetransformers prefetch REPO; then carry the cache here (--to, --from)",
        source="huggingface_hub/file_download.py, 0.36.2 and 2.4.0",
    ),
    Rule(
        "ST-HUB-514",
        r"(?:.*\n){0,3}?Response from (?P<url>\S+) is missing the 'X-Repo-Commit' header",
        "something else answered in the hub's place",
        "the answer has no commit: probably a captive portal, a login page of a proxy, or an HF_ENDPOINT that is no "
        "hub",
        "open https://huggingface.co in a browser on this machine; look at HF_ENDPOINT",
        source="huggingface_hub/file_download.py, 2.4.0",
    ),
    Rule(
        "ST-HUB-514",
        r"Distant resource does not (?:seem to be on huggingface\.co|have an ETag)",
        "something else answered in the hub's place",
        "the answer lacks the hub's headers: probably a captive portal, a login page of a proxy, or an HF_ENDPOINT "
        "that is "
        "no hub",
        "open https://huggingface.co in a browser on this machine; look at HF_ENDPOINT",
        source="huggingface_hub/file_download.py, 0.36.2",
    ),
    Rule(
        "ST-HUB-514",
        r"Exceeded \d+ redirects",
        "the hub's address redirects in a circle",
        "probably a captive portal or a proxy sends every request to its own page",
        "open https://huggingface.co in a browser on this machine; look at HF_ENDPOINT",
        types=("TooManyRedirects",),
        of_hub=True,
        source="httpx2 2.16.2",
    ),
    Rule(
        "ST-HUB-514",
        r"403 Forbidden: None\.\s*Cannot access content at",
        "something denied the request (403) without the hub's own error message",
        "probably a firewall or proxy that blocks the host, or a token without the right to read this repository",
        f"ask whether huggingface.co and its file hosts are allowed here; {_LOGIN}",
        of_hub=True,
        source=_HTTP,
    ),
    Rule(
        "ST-HUB-513",
        r"(?:.*\n){0,9}?Invalid (?:credentials in Authorization header|user token)",
        "the hub does not accept the token",
        "it is expired, revoked or cut short; also a token in HF_TOKEN hides the one of `hf auth login`",
        "hf auth whoami; unset HF_TOKEN; hf auth login",
        of_hub=True,
        source=_HTTP,
    ),
    Rule(
        "ST-HUB-503",
        r"(?:You are trying to access a gated repo\.\s*Make sure to have access to it at "
        r"https?://[^/\s]+/(?P<repo>\S+?)\.?\n"
        r"|\d{3} Client Error\.\s*(?:\(Request ID: \S+\)\s*)?Cannot access gated repo for url \S+?/(?:api/models/)?"
        r"(?P<of_url>[\w.-]+/[\w.-]+)/)",
        "{repo}{of_url} is gated, and access was not granted to whoever asked",
        "its owner lets in those who accept the terms on its page; without a token the hub does not know who asks",
        f"accept the terms at https://huggingface.co/{{repo}}{{of_url}}, then {_LOGIN}",
        source=_HUB,
    ),
    Rule(
        "ST-HUB-504",
        r"(?P<repo>[\w./\\~:-]+) is not a local folder and is not a valid model identifier listed on",
        "the hub has no repository {repo}, or none that these credentials may see; nor is there such a folder",
        "the hub answers 401 or 404 alike for what is misspelt, private or deleted",
        f"look at the spelling (organisation/name); for a private repository {_LOGIN}; for a folder, the working "
        f"directory",
        source=_HUB,
    ),
    Rule(
        "ST-HUB-504",
        r"\d{3} Client Error\.\s*(?:\(Request ID: \S+\)\s*)?Repository Not Found for url: \S+?//[^/]+/(?:api/models/)?"
        r"(?P<repo>[\w.-]+/[\w.-]+)",
        "the hub has no repository {repo}, or none that these credentials may see",
        "the hub answers 401 or 404 alike for what is misspelt, private or deleted",
        f"look at the spelling (organisation/name); for a private repository {_LOGIN}",
        source=_HTTP,
    ),
    Rule(
        "ST-HUB-505",
        r"(?P<revision>\S+) is not a valid git identifier \(branch name, tag name or commit id\) that exists for "
        r"this model "
        r"name\. Check the model page at 'https?://[^/]+/(?P<repo>[^']+)'",
        "{repo} has no revision {revision}",
        "no branch, tag or commit of the repository goes by it",
        "https://huggingface.co/{repo}/commits/main lists them",
        source=_HUB,
    ),
    Rule(
        "ST-HUB-505",
        r"\d{3} Client Error\.\s*(?:\(Request ID: \S+\)\s*)?Revision Not Found for url: "
        r"\S+?//[^/]+/(?P<repo>[\w.-]+/[\w.-]+)"
        r"/resolve/(?P<revision>[^/]+)",
        "{repo} has no revision {revision}",
        "no branch, tag or commit of the repository goes by it",
        "https://huggingface.co/{repo}/commits/main lists them",
        source=_HTTP,
    ),
    Rule(
        "ST-HUB-516",
        r"(?:Repo id must (?:be in the form|use alphanumeric chars)[^:]*: |Incorrect path_or_model_id: "
        r")'(?P<repo>[^']*)'",
        "{repo!r} is no folder here, and cannot be the name of a repository",
        "a folder that does not exist is taken for a repository's name, which has one slash at most",
        "look at the path; a relative one starts at the working directory (os.getcwd())",
        source="huggingface_hub/utils/_validators.py, 0.36.2 and 2.4.0",
    ),
    Rule(
        "ST-HUB-005",
        r"(?:We couldn't connect to '(?P<host>[^']+)' to load the files, and couldn't find them in the cached files"
        r"|An error happened while trying to locate the file(?:s)? on the Hub and we cannot find the requested files "
        r"in the "
        "local cache)",
        "the hub did not answer, and the cache does not have the files",
        "probably a firewall or a proxy is in the way, or there is no network; the exceptions above say which",
        "where the hub can be reached: safetransformers prefetch REPO --to DIR; here: safetransformers prefetch "
        "--from DIR",
        is_generic=True,
        source=_HUB,
    ),
)
