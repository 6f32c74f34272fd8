"""Keep keys and passwords out of files: every text that a run or a table writes passes through here.

Standard library only. What is looked for: the values of environment variables whose names say that they are secret,
values beside such names in the text itself, and the user part of addresses.
"""

from __future__ import annotations

import json
import os
import re

MASK = "***"
# Shorter values are words; to mask every "true" would ruin the file.
SHORTEST = 8
_VARIABLE = re.compile(
    r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|AUTH)(_|$)(?!.*(FILE|PATH|DIR|SOCK)$)"
)
# Not "token" or "key" alone: networks have tokens, and attention has keys.
_NAMED = re.compile(
    r"(?i)(?<![a-z0-9])((?:api_?key|access_?key|access_?token|auth_?token|bearer|secret(?:_?key)?|password|passwd"
    r"|passphrase|credentials?)[\"']?\s*[:=]\s*)(\"[^\"\n]*\"|'[^'\n]*'|[^\s\"',\]}]+)"
)
_ADDRESS = re.compile(r"(?<=://)[^\s/@\"']+@")


def redact(text: str) -> str:
    """Return the text with every secret replaced by `***`."""
    for value in _secrets():
        text = text.replace(value, MASK)
    return _ADDRESS.sub(f"{MASK}@", _NAMED.sub(_mask, text))


def _mask(found: re.Match[str]) -> str:
    name, value = found[1], found[2]
    quote = value[0] if value[0] in "\"'" else '"' if '"' in name else ""  # what was JSON or YAML stays it
    return f"{name}{quote}{MASK}{quote}"


def _secrets() -> list[str]:
    """Return the secret values of the environment, also as JSON writes them, the longest first."""
    plain = {value for name, value in os.environ.items() if _VARIABLE.search(name.upper()) and len(value) >= SHORTEST}
    return sorted(plain | {json.dumps(value)[1:-1] for value in plain}, key=len, reverse=True)
