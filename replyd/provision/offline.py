"""`replyd check --offline`: what can be said of settings without asking anybody."""

from replyd.provision.ai_checks import (
    OpenTools,
    about_models_unasked,
    about_prices,
    about_tools,
    about_voice,
)
from replyd.provision.checks import about_addresses
from replyd.provision.results import CheckResult, settings_result
from replyd.settings import Unserved


async def check_offline(found: Unserved, *, open_tools: OpenTools) -> list[CheckResult]:
    """Opens no connection, unless a module of a tool does so when it is imported."""
    settings = found.settings
    rows = [settings_result(), *_about_secrets(found), *about_addresses(settings)]
    if settings.server.role != "webhook":
        rows += about_models_unasked(settings)
        rows += about_voice(settings)
        rows.append(await about_tools(settings, open_tools))
        rows += about_prices(settings)
    return rows


def _about_secrets(found: Unserved) -> list[CheckResult]:
    names = ", ".join(found.referring)
    told = f"not looked up, only the form of references is checked: {names}"
    rows = [CheckResult("secrets", True, told if names else "no setting refers to one")]
    if found.lacking:
        mend = "set them where replyd runs; here they are not needed"
        rows.append(CheckResult("credentials", True, "\n".join(found.lacking), mend))
    return rows
