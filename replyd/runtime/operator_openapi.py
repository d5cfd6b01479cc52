"""The operator API's description, OpenAPI 3.1, by which requests are checked: `docs/openapi.json`.

`python -m replyd.runtime.operator_openapi` writes the file.
"""

import json
from pathlib import Path
from typing import Any, Final

PREFIX: Final = "/operator"
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
KEY_PATTERN: Final = r"[A-Za-z0-9_-]{1,64}"
# Five or six messages of Twilio's 1600 characters.
MAX_TEXT: Final = 8_000

_AUTHOR = {
    "type": "string",
    "minLength": 1,
    "maxLength": 100,
    "pattern": r"^[^\u0000-\u001f\u007f]+$",
    "description": "Who acts, as the team calls them. In the history, and in replyd's log.",
}
# The bodies of requests. Every property is a text.
BODIES: Final[dict[str, dict[str, Any]]] = {
    "Reply": {
        "type": "object",
        "properties": {
            "text": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_TEXT,
                "pattern": r"\S",
                "description": "Sent in parts of at most 1600 characters.",
            },
            "author": _AUTHOR,
            "account_sid": {
                "type": "string",
                "minLength": 34,
                "maxLength": 34,
                "pattern": "^AC[0-9a-f]{32}$",
                "description": "Twilio account, where the conversation does not tell which.",
            },
        },
        "required": ["text", "author"],
        "additionalProperties": False,
    },
    "Handoff": {
        "type": "object",
        "properties": {
            "author": _AUTHOR,
            "reason": {
                "type": "string",
                "minLength": 0,
                "maxLength": 500,
                "description": "Kept in the record, not logged.",
            },
        },
        "required": ["author"],
        "additionalProperties": False,
    },
    "Release": {
        "type": "object",
        "properties": {"author": _AUTHOR},
        "required": ["author"],
        "additionalProperties": False,
    },
}
_TEXT: Final = {"type": "string"}
_OPTIONAL_TEXT: Final = {"type": ["string", "null"]}
_ERROR: Final = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {**_TEXT, "description": "A fixed word."},
                "message": {**_TEXT, "description": "What is wrong, and what to do."},
                "vendor_code": {**_TEXT, "description": "Twilio's, such as 63016."},
            },
            "required": ["code", "message"],
        }
    },
    "required": ["error"],
}
_ANSWER: Final = {
    "type": "object",
    "properties": {
        "turn_id": _TEXT,
        "delivery": {"enum": ["accepted", "partly_sent", "not_delivered", "unknown"]},
        "again": {
            "type": "boolean",
            "description": "An earlier request with this key sent it; this one sent nothing.",
        },
        "why": {**_OPTIONAL_TEXT, "description": "What stopped it, if anything did."},
        "parts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "message_id": _OPTIONAL_TEXT,
                    "delivery": _TEXT,
                    "delivery_error": _OPTIONAL_TEXT,
                },
                "required": ["message_id", "delivery", "delivery_error"],
            },
        },
    },
    "required": ["turn_id", "delivery", "again", "why", "parts"],
}
_ROW: Final = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("recipient_tel", "conversation_id", "company_tel"), _TEXT),
        "handoff_to_human": {"type": "boolean"},
        "waiting": {"type": "boolean", "description": "The customer waits for a person."},
        "pending": {"type": "integer", "minimum": 0},
        "conversation_status": {},
        "opted_out_since": {},
        "last_message_at": {},
        "last_role": _OPTIONAL_TEXT,
        "updated_at": {},
    },
    "required": [
        *("recipient_tel", "conversation_id", "company_tel", "handoff_to_human", "waiting"),
        *("pending", "conversation_status", "opted_out_since", "last_message_at", "last_role"),
        "updated_at",
    ],
}
_PAGE: Final = {
    "type": "object",
    "properties": {
        "conversations": {"type": "array", "items": {"$ref": "#/components/schemas/Row"}},
        "more": {"type": "boolean"},
        "next_cursor": _OPTIONAL_TEXT,
        "items_read": {"type": "integer", "description": "Items of the table, of any kind."},
    },
    "required": ["conversations", "more", "next_cursor", "items_read"],
}
_FLAG: Final = {
    "type": "object",
    "properties": {"handoff_to_human": {"type": "boolean"}},
    "required": ["handoff_to_human"],
}
_CONVERSATION: Final = {
    "type": "object",
    "description": "As `replyd conversation show --json --bodies` prints a record.",
    "required": ["key", "conversation_id", "handoff_to_human", "next", "pending", "history"],
}


def document() -> dict[str, Any]:
    """The whole of it."""
    one = f"{PREFIX}/conversations/{{recipient_tel}}/{{conversation_id}}"
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "replyd, for people's tools",
            "version": "1",
            "description": "Served on the operations port where `ops.token` is set.",
        },
        "security": [{"token": []}],
        "paths": {
            f"{PREFIX}/openapi.json": {
                "get": _operation("This document", "200", {"type": "object"})
            },
            f"{PREFIX}/conversations": {"get": _list()},
            one: {
                "parameters": _which(),
                "get": _operation("A conversation, with texts", "200", _ref("Conversation"), "404"),
            },
            f"{one}/reply": {"parameters": _which(), "post": _reply()},
            f"{one}/handoff": {
                "parameters": _which(),
                "post": _posting("Take the conversation from the AI", "Handoff"),
            },
            f"{one}/release": {
                "parameters": _which(),
                "post": _posting("Give it back: the AI answers what comes next", "Release"),
            },
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                **BODIES,
                "Answer": _ANSWER,
                "Conversation": _CONVERSATION,
                "Error": _ERROR,
                "Flag": _FLAG,
                "Page": _PAGE,
                "Row": _ROW,
            },
        },
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Any) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _operation(summary: str, status: str, schema: Any, *errors: str) -> dict[str, Any]:
    refusals = {code: _WORDS[code] for code in ("401", "503", *errors)}
    return {
        "summary": summary,
        "responses": {
            status: {"description": "Done", **_json(schema)},
            **{
                code: {"description": words, **_json(_ref("Error"))}
                for code, words in sorted(refusals.items())
            },
        },
    }


_WORDS: Final = {
    "400": "The request is not as described here; `message` says where",
    "401": "No token, or another one",
    "404": "No such conversation",
    "408": "The body came too slowly",
    "409": "Not now, or not here: the AI is at work on it (`busy`), the customer has opted out "
    "(`opted_out`), the record names no business number (`no_business_number`), the account is "
    "not known (`unknown_account`), or WhatsApp takes no free text any more and no template can "
    "carry it (`window_closed`)",
    "413": "More than 64 KiB",
    "415": "No JSON",
    "422": "Twilio refuses it for good (`not_sent`, with its code), or the key has sent another "
    "text (`key_used`)",
    "501": "replyd may not read the whole table (`not_allowed`): `message` says what allows it",
    "503": "Not for now: ask again, with the same key",
}
_BODY_ERRORS: Final = ("400", "404", "408", "413", "415")


def _list() -> dict[str, Any]:
    operation = _operation("A page of conversations", "200", _ref("Page"), "400", "501")
    operation["description"] = (
        "In no order, read from the table itself: a page costs up to 1,000 items, and may have "
        "fewer conversations than `limit`, even none, while `more` is true."
    )
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
    operation["parameters"] = [
        _in_query("waiting", {"type": "boolean", "default": False}, "only whose customer waits"),
        _in_query("limit", limit, "how many"),
        _in_query("cursor", _TEXT, "`next_cursor` of the page before"),
    ]
    return operation


def _in_query(name: str, schema: Any, text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": text}


def _which() -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _TEXT, "description": text}
        for name, text in (
            ("recipient_tel", "the customer's address: +447700900001, or US.ABC123"),
            ("conversation_id", "of one of their records"),
        )
    ]


def _posting(summary: str, body: str, answer: str = "Flag", *errors: str) -> dict[str, Any]:
    operation = _operation(summary, "200", _ref(answer), *_BODY_ERRORS, *errors)
    operation["requestBody"] = {"required": True, **_json(_ref(body))}
    return operation


def _reply() -> dict[str, Any]:
    summary = "Answer as a person, and take the conversation from the AI"
    operation = _posting(summary, "Reply", "Answer", "409", "422")
    operation["description"] = (
        "Takes up to 60 s: it waits up to 20 s for the AI to end its turn. WhatsApp takes no "
        "free text more than 24 hours after the customer's last message: then the template of the "
        "settings goes out, or nothing (409 `window_closed`). Where that time is not known, Twilio "
        "tells: 63016, mostly as `delivery_error`, some seconds later."
    )
    operation["parameters"] = [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": True,
            "schema": {"type": "string", "pattern": f"^{KEY_PATTERN}$"},
            "description": "The same one when you ask again: it tells what became of the answer "
            "and sends nothing, for as long as the record has it (history.keep_messages).",
        }
    ]
    unsure = {"description": "It may have been sent: do not send it again", **_json(_ref("Answer"))}
    operation["responses"]["202"] = unsure
    return operation


if __name__ == "__main__":
    path = Path(__file__).parents[2] / "docs" / "openapi.json"
    path.write_text(json.dumps(document(), indent=2) + "\n", "utf-8")
