"""A model's Markdown, written in WhatsApp's own formatting, or without any.

The parser takes 50 ms to import, and nobody needs it before the first answer: it is imported when
it is asked, or by `prepare`."""


def prepare() -> None:
    """Import it now, so that nobody waits for it later."""
    from replyd.domain.formatting import blocks  # noqa: F401, PLC0415 - as said above


def whatsapp(text: str) -> str:
    """As `blocks.whatsapp` says."""
    from replyd.domain.formatting import blocks  # noqa: PLC0415 - as said above

    return blocks.whatsapp(text)


def plain(text: str) -> str:
    """As `blocks.plain` says."""
    from replyd.domain.formatting import blocks  # noqa: PLC0415 - as said above

    return blocks.plain(text)
