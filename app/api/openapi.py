"""The OpenAPI document, mended where the framework's own would not be true."""

from typing import Any

from fastapi import FastAPI

from app.api import problems


def created(description: str) -> dict[str, Any]:
    """The answer that tells where the new thing is."""
    location = {"description": "Its path.", "schema": {"type": "string"}}
    return {"description": description, "headers": {"Location": location}}


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
