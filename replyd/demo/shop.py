"""The bakery's order book: what the demo's tool looks orders up in."""

# What the model is told of it; `[tools.order_status]` of a real installation looks the same.
ORDER_STATUS = {
    "description": "Looks up the state of an order by its number, which has four digits.",
    "parameters": {
        "type": "object",
        "properties": {"number": {"type": "string", "description": "Such as 1042."}},
        "required": ["number"],
        "additionalProperties": False,
    },
    "python": "replyd.demo.shop:order_status",
    "timeout_seconds": 5,
}

_ORDERS = {
    "1041": ("a birthday cake for eight", "being decorated, and ready on Friday at 15:00"),
    "1042": ("two sourdough loaves", "baked, and ready to collect"),
    "1043": ("twelve croissants", "out for delivery"),
}


async def order_status(number: str) -> dict[str, str]:
    """The order of that number, or that there is none."""
    if number not in _ORDERS:
        return {"number": number, "state": "unknown"}
    items, state = _ORDERS[number]
    return {"number": number, "items": items, "state": state}
