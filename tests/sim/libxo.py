"""libxo(3): how its commands write JSON and XML, blanks and line ends included."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Json


# What RFC 8259 wants written in another way.
ESCAPES = {number: f"\\u{number:04x}" for number in range(32)}
ESCAPES.update({ord(letter): f"\\{short}" for letter, short in zip('"\\\b\t\n\f\r', '"\\btnfr')})


def render(style: str, name: str, content: Json) -> str:
    if style.startswith("xml"):
        return f"<{name}>{''.join(xml(key, value) for key, value in content.items())}</{name}>\n"
    if "pretty" in style:
        return pretty({name: content}) + "\n"
    return '{"' + name + '": ' + compact(content) + "}\n"


def pretty(value: object) -> str:
    import json

    return json.dumps(value, indent=2, ensure_ascii=False).replace("{}", "{\n  }")


def leaf(value: str | int) -> str:
    """Write a value that holds no others; one line of JSON is not worth the import of json."""
    return f'"{value.translate(ESCAPES)}"' if isinstance(value, str) else str(value)


def compact(content: Json) -> str:
    """Write a container or list: a blank before containers, and one after the colon of both."""
    parts = []
    for key, value in content.items():
        if isinstance(value, dict):
            parts.append(f' "{key}": {compact(value)}')
        elif isinstance(value, list):
            parts.append(f'"{key}": [{", ".join(compact(item) for item in value)}]')
        else:
            parts.append(f'"{key}":{leaf(value)}')
    return "{" + ",".join(parts).strip() + "}"


def xml(name: str, value: object) -> str:
    if isinstance(value, list):
        return "".join(xml(name, item) for item in value)
    if isinstance(value, dict):
        return f"<{name}>{''.join(xml(key, item) for key, item in value.items())}</{name}>"
    text = str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<{name}>{text}</{name}>"
