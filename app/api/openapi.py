"""The OpenAPI document, mended where the framework's own would not be true."""

from typing import Any

from fastapi import FastAPI

from app.api import problems

# Of an answer that may have waited.
PREFERENCE_APPLIED = {
    "Preference-Applied": {
        "description": "There if the service waited as preferred, with the most that it would.",
        "schema": {"type": "string"},
    }
}


def created(description: str) -> dict[str, Any]:
    """The answer that tells where the new thing is."""
    headers = {
        "Location": {"description": "Its path.", "schema": {"type": "string"}},
        "Idempotency-Replayed": {
            "description": "There if the request was carried out before.",
            "schema": {"const": "true"},
        },
    }
    return {"description": description, "headers": headers}


class DocumentedApi(FastAPI):
    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        for path in document["paths"].values():
            for operation in path.values():
                for status, response in operation["responses"].items():
                    if status >= "400":
                        # The framework would put every model under application/json.
                        response["content"] = {problems.MEDIA_TYPE: {"schema": PROBLEM}}
        return document


PROBLEM = {"$ref": f"#/components/schemas/{problems.Problem.__name__}"}
