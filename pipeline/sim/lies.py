"""What models do to a numbered list of captions."""

from __future__ import annotations

import json
import random
from typing import Any


def told(lie: str, listed: list[dict[str, Any]], rng: random.Random) -> str:
    """The reply's text with one lie in it."""
    entries = [dict(entry) for entry in listed]
    whole = {"captions": entries}
    match lie:
        case "drop":
            entries.pop(rng.randrange(len(entries)))
        case "swap":
            one, two = rng.sample(range(len(entries)), 2)
            first, second = entries[one]["caption"], entries[two]["caption"]
            entries[one]["caption"], entries[two]["caption"] = second, first
        case "repeat":
            entries.append({"image": entries[0]["image"], "caption": entries[-1]["caption"]})
        case "zero_based":
            for entry in entries:
                entry["image"] -= 1
        case "cut":
            text = json.dumps(whole)
            return text[: rng.randrange(len(text))]
        case "prose":
            return f"Here are the captions:\n\n{json.dumps(whole)}\n\nI hope this helps!"
        case "one_object":
            return json.dumps(entries[0])
        case "fences":
            return f"```json\n{json.dumps(whole, indent=1)}\n```"
        case "comma":
            return json.dumps(whole).replace("}]", "},]")
        case _:
            raise ValueError(lie)
    return json.dumps(whole)
