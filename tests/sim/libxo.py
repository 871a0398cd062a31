"""libxo(3): how its commands write JSON and XML, blanks and line ends included."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Json


def render(style: str, name: str, content: Json) -> str:
    if style.startswith("xml"):
        return f"<{name}>{''.join(xml(key, value) for key, value in content.items())}</{name}>\n"
    if "pretty" in style:
        return pretty({name: content}) + "\n"
    return '{"' + name + '": ' + compact(content) + "}\n"


def pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False).replace("{}", "{\n  }")


def compact(content: Json) -> str:
    """A blank goes before containers, one after the colon of containers and lists."""
    parts = []
    for key, value in content.items():
        if isinstance(value, dict):
            parts.append(f' "{key}": {compact(value)}')
        elif isinstance(value, list):
            parts.append(f'"{key}": [{", ".join(compact(item) for item in value)}]')
        else:
            parts.append(f'"{key}":{json.dumps(value, ensure_ascii=False)}')
    return "{" + ",".join(parts).strip() + "}"


def xml(name: str, value: object) -> str:
    if isinstance(value, list):
        return "".join(xml(name, item) for item in value)
    if isinstance(value, dict):
        return f"<{name}>{''.join(xml(key, item) for key, item in value.items())}</{name}>"
    text = str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<{name}>{text}</{name}>"
