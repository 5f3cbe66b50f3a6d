"""The text of an answer's content: a string, or a list of parts of which only some are text.

Reasoning models put what they thought beside the text (`reasoning`, `thinking`, `reasoning_text`); images, calls and
what comes next are no text either. So of parts only those count that are said to be text, and those that say nothing
of themselves but hold a text.
"""

from sae_auto_interp.clients.http.json_values import as_list, as_object, is_list

_TEXT = ("text", "output_text", None)


def text_in(content: object) -> str | None:
    """The text; empty where parts hold none, None where the content is neither text nor parts.

    >>> text_in([{"type": "reasoning", "text": "hm"}, {"type": "output_text", "text": "ye"}, {"text": "s"}])
    'yes'
    """
    if isinstance(content, str):
        return content
    if is_list(content):
        return "".join(map(_text_of, as_list(content)))
    part = as_object(content)
    return _text_of(part) if "text" in part else None


def refusal_in(content: object) -> str | None:
    """What a part says with which the model refuses, if there is one."""
    said = [as_object(part).get("refusal") for part in as_list(content)]
    return next((text for text in said if isinstance(text, str) and text), None)


def _text_of(part: object) -> str:
    if isinstance(part, str):
        return part
    fields = as_object(part)
    if fields.get("type") not in _TEXT:
        return ""
    text = fields.get("text")
    value = text if isinstance(text, str) else as_object(text).get("value")
    return value if isinstance(value, str) else ""
