"""Whether Twilio signed a webhook.

The scheme: https://www.twilio.com/docs/usage/security#validating-requests. The signature is
base64(HMAC(token, URL + sorted names, each followed by its sorted distinct values)). The SDK
computes it, of a URL with the fields behind it already: they are the same for every token and
origin, and putting 200 in order takes longer than signing them. The SDK's own comparison is not
used: it is not constant in time, it cuts IPv6 hosts, and it raises when there is no signature.
"""

import hmac
import re
from collections.abc import Iterable, Sequence

from twilio.request_validator import RequestValidator, get_signature_algorithm

_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>\[[^\]]+\]|[^:/?#]+)(?::(?P<port>\d+))?", re.I)
_DEFAULT_PORTS = {"https": "443", "http": "80"}


def origins(public_url: str) -> tuple[str, ...]:
    """The origins that Twilio may have signed for: as configured, and with the port left out or,
    where there is none, the default one added, since Twilio does not always agree with itself.

    Empty when `public_url` is no origin, so that nothing can be authentic.
    """
    match = _ORIGIN.fullmatch(public_url)
    if match is None:
        return ()
    scheme, host, port = match["scheme"], match["host"], match["port"]
    if port:
        return public_url, f"{scheme}://{host}"
    return public_url, f"{public_url}:{_DEFAULT_PORTS[scheme.lower()]}"


def is_signed(
    tokens: Iterable[str],
    urls: Sequence[str],
    fields: Iterable[tuple[str, str]],
    signature: str,
    settings: str = "",
) -> bool:
    """Whether `signature` was made with one of `tokens` for one of `urls`. Never raises.

    `settings` is the header `X-Twilio-Webhooks-Signature-Settings`, which names the algorithm;
    one that the SDK does not know makes this false. Every pair is computed and compared, so that
    the time does not tell which one was close.
    """
    matched = False
    try:
        ordered = "".join(name + value for name, value in sorted(set(fields)))
        given = signature.encode("ascii")
        algorithm = get_signature_algorithm(settings)
        for token in tokens:
            validator = RequestValidator(token)
            for url in urls:
                computed: str = validator.compute_signature(url + ordered, None, algorithm)
                matched |= hmac.compare_digest(computed.encode("ascii"), given)
    except (AttributeError, TypeError, ValueError):
        # No signature, one that is not ASCII, text that is not Unicode, an unknown algorithm.
        return False
    return matched
