"""The demo as a visitor meets it: the real process, in headless Chromium."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from replyd.demo import samples
from tests.demo.running import Demo, running_demo

try:
    from playwright.async_api import Locator, Page, Route, async_playwright, expect
except ImportError:
    pytest.skip("playwright is missing: pip install 'replyd[dev]'", allow_module_level=True)

CHROMIUM = os.environ.get("REPLYD_TEST_CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
LEE, ANA, MAYA = "+447700900001", "+447700900002", "US.MILLLANE8F3K2"
PICTURE = Path(__file__).parents[2] / "docs" / "demo.png"
# A window and an answer take 5 s; a busy machine takes longer.
PATIENCE_MS = 20_000

pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists(),
    reason=f"no Chromium at {CHROMIUM}: install one, or name it in REPLYD_TEST_CHROMIUM",
)


@asynccontextmanager
async def slow_to_hand_over(page: Page) -> AsyncIterator[None]:
    """What asks for a handover or for its end inside is let through at the end."""
    end = asyncio.Event()

    async def hold(route: Route) -> None:
        await end.wait()
        await route.continue_()

    await page.route("**/api/handoff", hold)
    yield
    end.set()
    await page.unroute_all(behavior="wait")


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """One for all tests here, which use a customer each. Ctrl-C ends it without a word."""
    with running_demo() as demo:
        yield demo
        assert demo.end(signal.SIGINT) == (0, "")


@asynccontextmanager
async def opened(
    url: str, *, width: int = 1280, height: int = 900, scale: float = 1, logs: Sequence[str] = ()
) -> AsyncIterator[Page]:
    """The page, live. At the end it has logged `logs`, no errors otherwise, and has asked nobody
    but the demo."""
    problems: list[str] = []
    asked: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = await browser.new_page(
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            color_scheme="light",
        )
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        page.on("console", lambda m: problems.append(m.text) if m.type != "log" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(url)
        await expect(page.locator("#link-text")).to_have_text("live")
        yield page
        await browser.close()
    assert problems == list(logs)
    assert f"{url}events" in asked
    assert [u for u in asked if not u.startswith((url, "data:"))] == []


def phone(page: Page, address: str) -> Locator:
    return page.get_by_test_id(f"phone-{address}")


def replies(page: Page, address: str) -> Locator:
    """Without the message that opened the conversation."""
    return phone(page, address).get_by_test_id("bubble-out").and_(page.locator("li + li"))


def journeys(page: Page, name: str) -> Locator:
    """Newest first."""
    return page.get_by_test_id("journey").filter(has=page.get_by_role("heading", name=name))


async def send(page: Page, address: str, *texts: str) -> None:
    box = phone(page, address).get_by_test_id("input")
    for number, text in enumerate(texts, await sent(page, address).count() + 1):
        await box.fill(text)
        await box.press("Enter")
        # Like a person, who sees it in the conversation before writing on.
        await expect(sent(page, address)).to_have_count(number)


def sent(page: Page, address: str) -> Locator:
    return phone(page, address).get_by_test_id("bubble-in")


async def has_happened(step: Locator) -> None:
    await expect(step).to_have_attribute("data-state", "done")


async def test_a_burst_gets_one_reply(demo: Demo) -> None:
    burst = ("Hi there!", "Are you open on Sunday?", "And is there parking nearby?")
    async with opened(demo.url) as page:
        await send(page, LEE, *burst)
        journey = journeys(page, "Lee")
        window = journey.get_by_test_id("journey-step-window")
        await expect(window).to_have_attribute("data-state", "active")
        for name in ("accepted", "window", "claimed", "model", "sent", "recorded"):
            await has_happened(journey.get_by_test_id(f"journey-step-{name}"))
        await expect(journey.locator(".burst .text")).to_have_text(burst)
        await expect(journey.locator(".state")).to_have_text("Replied")
        # The one turn has taken all there was: no other reply can follow.
        await expect(journey).to_have_count(1)
        reply = replies(page, LEE)
        await expect(reply).to_have_count(1)
        await expect(reply.locator(".text")).to_contain_text("On Sundays we are open")
        await expect(reply.locator(".text")).to_contain_text("parking behind it")
        await expect(reply).to_have_attribute("data-state", "read")


async def test_handing_over_silences_the_ai_until_handed_back(demo: Demo) -> None:
    async with opened(demo.url) as page:
        switch = phone(page, ANA).get_by_test_id("handoff-switch")
        await switch.click()
        await expect(switch).to_have_attribute("aria-checked", "true")
        await expect(phone(page, ANA)).to_contain_text("The AI stays silent")
        await send(page, ANA, "Can somebody call me?")
        waiting = page.get_by_test_id("handoff-item")
        await expect(waiting).to_have_count(1)
        await expect(waiting).to_contain_text("Can somebody call me?")
        await expect(waiting).to_contain_text("With a person")
        await has_happened(journeys(page, "Ana").get_by_test_id("journey-step-handed_over"))
        await expect(replies(page, ANA)).to_have_count(0)

        await switch.click()
        await expect(switch).to_have_attribute("aria-checked", "false")
        await send(page, ANA, "How much is a croissant?")
        await has_happened(journeys(page, "Ana").first.get_by_test_id("journey-step-recorded"))
        await expect(replies(page, ANA)).to_have_count(1)
        await expect(replies(page, ANA)).to_contain_text("£2.10")
        await expect(waiting).to_have_count(1)


async def test_a_voice_note_a_picture_a_tool_and_a_handover_by_the_ai() -> None:
    with running_demo() as demo:
        async with opened(demo.url) as page:
            await phone(page, LEE).get_by_test_id("voice").click()
            await phone(page, ANA).get_by_test_id("image").click()
            await phone(page, MAYA).get_by_test_id("order").click()

            await expect(replies(page, LEE)).to_contain_text("Two sourdough")
            await expect(journeys(page, "Lee").get_by_test_id("read")).to_contain_text(
                "[voice note] Hello, I would like to order two sourdough loaves"
            )
            await expect(replies(page, ANA)).to_contain_text("I see your picture")
            photo = sent(page, ANA).get_by_role("img", name="A birthday cake")
            assert await photo.evaluate("image => image.decode().then(() => image.naturalWidth)")
            await expect(replies(page, MAYA)).to_contain_text(
                "Your order 1042, two sourdough loaves"
            )
            await expect(journeys(page, "Maya")).to_contain_text("Called order_status")

            await phone(page, LEE).get_by_test_id("person").click()
            waiting = page.get_by_test_id("handoff-item")
            await expect(waiting).to_have_count(1)
            await expect(waiting).to_contain_text("The AI handed over")
            await expect(waiting.get_by_test_id("summary")).to_contain_text(
                "The customer asks for a person."
            )
            await expect(replies(page, LEE)).to_have_count(2)
            await expect(replies(page, LEE).last).to_contain_text("a colleague takes over")
            switch = phone(page, LEE).get_by_test_id("handoff-switch")
            await expect(switch).to_have_attribute("aria-checked", "true")

            await send(page, LEE, "Hello?")
            await expect(waiting).to_have_count(2)
            await expect(replies(page, LEE)).to_have_count(2)
            await switch.click()
            await expect(switch).to_have_attribute("aria-checked", "false")
            await send(page, LEE, "How much is a croissant?")
            await expect(replies(page, LEE)).to_have_count(3)
            await expect(replies(page, LEE).last).to_contain_text("£2.10")
        assert demo.end(signal.SIGINT) == (0, "")


async def test_the_voice_note_can_be_played(demo: Demo) -> None:
    async with opened(demo.url) as page:
        seconds = await page.evaluate(
            """async (bytes) => {
              const context = new OfflineAudioContext(1, 48000, 48000);
              return (await context.decodeAudioData(new Uint8Array(bytes).buffer)).duration;
            }""",
            list(samples.voice_note()),
        )
    assert seconds == pytest.approx(1, abs=0.03)


async def test_a_person_answers_and_hands_back() -> None:
    with running_demo() as demo:
        async with opened(demo.url) as page:
            await phone(page, LEE).get_by_test_id("person").click()
            waits = page.get_by_test_id("waiting-item")
            await expect(waits).to_have_count(1)
            await expect(waits.locator(".reason")).to_have_text("The AI handed over")
            await expect(waits.locator(".summary")).to_contain_text("The customer asks for a")
            await expect(waits.locator(".text")).to_have_text("I want to talk to a person")

            box = page.get_by_role("textbox", name="Answer Lee as a person")
            await box.fill("This is the bakery's Ann: how can I help?")
            await page.get_by_role("button", name="Send the answer to Lee").click()
            said = replies(page, LEE).last
            await expect(said.locator(".text")).to_have_text(
                "This is the bakery's Ann: how can I help?"
            )
            await expect(said.get_by_test_id("by")).to_have_text("Person: You")
            await expect(said).to_have_attribute("data-state", "read")
            await expect(box).to_have_value("")
            await expect(waits.locator("time")).to_have_text("answered")

            # The AI stays silent, and what is half typed survives what happens meanwhile.
            await box.fill("Let me see")
            await send(page, LEE, "How much is a croissant?")
            await box.focus()
            silent = journeys(page, "Lee").first
            await has_happened(silent.get_by_test_id("journey-step-handed_over"))
            await expect(waits.locator(".text")).to_have_text("How much is a croissant?")
            await expect(replies(page, LEE)).to_have_count(2)
            await expect(box).to_have_value("Let me see")
            await expect(box).to_be_focused()

            await page.get_by_role("button", name="Hand back to the AI").click()
            await expect(waits).to_have_count(0)
            await expect(page.get_by_test_id("waiting").get_by_role("region")).to_be_focused()
            switch = phone(page, LEE).get_by_test_id("handoff-switch")
            await expect(switch).to_have_attribute("aria-checked", "false")
            await send(page, LEE, "And how much is a croissant?")
            await expect(replies(page, LEE)).to_have_count(3)
            await expect(replies(page, LEE).last).to_contain_text("£2.10")
            await expect(replies(page, LEE).last.get_by_test_id("by")).to_be_hidden()
        assert demo.end(signal.SIGINT) == (0, "")


async def test_whoever_types_on_while_a_handover_is_asked_for_keeps_the_keyboard() -> None:
    with running_demo() as demo:
        async with opened(demo.url) as page:
            switch = phone(page, LEE).get_by_test_id("handoff-switch")
            box = phone(page, LEE).get_by_test_id("input")
            async with slow_to_hand_over(page):
                await switch.click()
                await box.fill("Hello")
            await expect(switch).to_have_attribute("aria-checked", "true")
            await expect(switch).not_to_have_attribute("aria-disabled", "true")
            await expect(box).to_be_focused()
            await page.keyboard.press("Enter")
            await expect(sent(page, LEE).locator(".text")).to_have_text("Hello")
            waits = page.get_by_test_id("waiting-item")
            # Its lines move the button, which would miss half of the click.
            await expect(waits.locator(".text")).to_have_text("Hello")
            async with slow_to_hand_over(page):
                await page.get_by_role("button", name="Hand back to the AI").click()
                await box.focus()
            await expect(waits).to_have_count(0)
            await expect(switch).to_have_attribute("aria-checked", "false")
            await expect(box).to_be_focused()


async def test_a_refused_answer_stays_to_be_read_and_changed() -> None:
    # Browsers log each answer that is an error.
    conflict = "Failed to load resource: the server responded with a status of 409 (Conflict)"
    with running_demo() as demo:
        async with opened(demo.url, logs=[conflict]) as page:
            await phone(page, LEE).get_by_test_id("handoff-switch").click()
            waits = page.get_by_test_id("waiting-item")
            await send(page, LEE, "STOP")
            await expect(phone(page, LEE)).to_contain_text("Opted out with STOP")
            box = page.get_by_role("textbox", name="Answer Lee as a person")
            await box.fill("Are you sure?")
            await box.press("Enter")
            await expect(waits.get_by_role("alert")).to_have_text(
                "the customer has opted out: nobody may write to them until they say START"
            )
            await expect(box).to_have_value("Are you sure?")


async def test_on_a_phones_width(demo: Demo) -> None:
    async with opened(demo.url, width=360, height=780) as page:
        await phone(page, MAYA).scroll_into_view_if_needed()
        await phone(page, MAYA).get_by_test_id("voice").click()
        await expect(sent(page, MAYA).locator(".text")).to_have_text("Voice note")
        await expect(replies(page, MAYA)).to_have_count(1)
        views = page.get_by_role("navigation", name="Views")
        for name, shown in (
            ("Journeys", journeys(page, "Maya")),
            ("People", page.get_by_test_id("handoff-queue")),
            ("Phones", phone(page, MAYA)),
        ):
            await views.get_by_role("button", name=name).click()
            await expect(shown).to_be_visible()
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width == 360, name
        switch = phone(page, MAYA).get_by_test_id("handoff-switch")
        await switch.click()
        await views.get_by_role("button", name="People 1").click()
        waits = page.get_by_test_id("waiting-item")
        await expect(waits.locator(".reason")).to_have_text("Taken over by You")
        box = page.get_by_role("textbox", name="Answer Maya as a person")
        await box.fill("Ann here")
        await box.press("Enter")
        await expect(waits.get_by_role("status")).to_have_text("Sent")
        assert await page.evaluate("document.documentElement.scrollWidth") == 360
        await waits.get_by_role("button", name="Hand back to the AI").click()
        await expect(page.get_by_text("Nobody is waiting for a person.")).to_be_visible()


async def test_the_picture(tmp_path: Path) -> None:
    """A burst with a voice note, a picture, a tool, a handover by the AI, a person's answer, and a
    window that counts down. Replaces the picture in the documentation only when asked to: tests
    leave no changes."""
    wanted = os.environ.get("REPLYD_TEST_PICTURE") == "1"
    picture = PICTURE if wanted else tmp_path / PICTURE.name
    with running_demo() as demo:
        async with opened(demo.url, height=900, scale=1.5) as page:
            await phone(page, MAYA).get_by_test_id("order").click()
            await expect(replies(page, MAYA)).to_have_count(1)
            await phone(page, ANA).get_by_test_id("input").fill("I would love one like this")
            await phone(page, ANA).get_by_test_id("image").click()
            await send(page, LEE, "Hi there!")
            await phone(page, LEE).get_by_test_id("voice").click()
            await expect(replies(page, ANA)).to_have_count(1)
            await expect(replies(page, LEE)).to_have_count(1)
            await phone(page, ANA).get_by_test_id("person").click()
            await expect(page.get_by_test_id("handoff-item")).to_have_count(1)
            await expect(replies(page, ANA).last).to_have_attribute("data-state", "read")
            box = page.get_by_role("textbox", name="Answer Ana as a person")
            await box.fill("Hello Ana, this is Tom. What shall the cake say?")
            await box.press("Enter")
            await expect(replies(page, ANA).last).to_have_attribute("data-state", "read")
            await expect(page.get_by_test_id("waiting-item").locator("time")).to_have_text(
                "answered"
            )
            await phone(page, MAYA).get_by_test_id("burst").click()
            await page.mouse.move(0, 0)
            newest = journeys(page, "Maya").first
            await expect(newest.locator(".burst .text")).to_have_count(3)
            window = newest.get_by_test_id("journey-step-window")
            await expect(window.locator(".value")).to_have_text(re.compile(r"[1-3]\.\d s"))
            await page.screenshot(path=picture, animations="disabled")
    image = picture.read_bytes()
    assert image.startswith(b"\x89PNG")
    assert int.from_bytes(image[16:20]) == 1280 * 1.5
    assert 50_000 < len(image) < 500_000
