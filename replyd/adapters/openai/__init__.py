"""OpenAI's APIs, and those of servers that speak them. Each module imports as much of the SDK as it
needs, which takes long: the types of the Assistants API alone half a second."""
