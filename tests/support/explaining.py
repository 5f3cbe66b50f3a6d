"""Which requests ask for an explanation: those without a schema, or with the schema of one."""

import json

from sae_auto_interp.types import Request


def is_to_explain(request: Request) -> bool:
    return request.schema is None or "explanation" in json.loads(request.schema).get("properties", {})
