"""Where another Twilio's media may come from: nowhere, until the settings say so."""

import pytest
from pydantic import ValidationError

from replyd.bootstrap.connections import twilio_media
from replyd.demo import samples
from replyd.demo.twilio_double import TwilioDouble
from replyd.domain.messages import Media
from replyd.errors import Permanent
from replyd.settings import Settings


async def fetched(double: TwilioDouble, *media_urls: str) -> bytes:
    settings = Settings.model_validate(
        {
            "twilio": {
                "base_url": double.base_url,
                "media_urls": media_urls,
                "accounts": {double.account_sid: [double.auth_token]},
            }
        }
    )
    url = double.add_media("image/png", samples.picture())
    async with twilio_media(settings, 1_000_000) as library:
        return (await library.fetch(Media(url, "image/png"), double.account_sid)).data


async def test_a_redirect_is_followed_below_these_urls_only() -> None:
    async with TwilioDouble() as double:
        cdn = double.media.cdn.base_url
        assert await fetched(double, cdn) == samples.picture()
        for media_urls in [(), (cdn[:-1],), (cdn + "/elsewhere",)]:
            with pytest.raises(Permanent) as refused:
                await fetched(double, *media_urls)
            assert refused.value.code == "redirect"
        assert double.media.cdn.served == 1


@pytest.mark.parametrize("url", ["", "*", "https://*.com", "https://", "ftp://a.example", "a/b"])
def test_what_would_open_more_than_it_says_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"twilio": {"media_urls": [url]}})
