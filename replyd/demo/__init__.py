"""The local playground: doubles of Twilio and OpenAI, and the page."""
