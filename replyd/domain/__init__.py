"""Pure decisions: no asyncio, no clock, no randomness, no logging, no SDK."""
