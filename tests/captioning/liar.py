"""What models do to a numbered list of captions, and to its JSON."""

from __future__ import annotations

import json
import random
from typing import Any

from tests.captioning.made import packed


def lied(rng: random.Random, entries: list[dict[str, Any]], kind: str) -> str:
    """What models do to a list."""
    at, of = rng.sample(range(len(entries)), 2)
    match kind:
        case "drop":
            del entries[at]
        case "repeat":
            entries.insert(at, {**entries[at], "image": entries[of]["image"]})
        case "renumber":
            start = rng.choice([0, 2, 3, 50])
            entries = [{**entry, "image": n} for n, entry in enumerate(entries, start)]
        case "extra":
            entries.append({"image": len(entries) + 1, "caption": "A picture nobody sent."})
        case "shuffle":
            rng.shuffle(entries)
        case "blank":
            entries[at]["caption"] = rng.choice(["", " ", "…", "\u200b"])
        case "one object":
            return json.dumps({"caption": " ".join(entry["caption"] for entry in entries)})
        case "swap":
            entries[at]["caption"], entries[of]["caption"] = (
                entries[of]["caption"],
                entries[at]["caption"],
            )
    return packed(entries)


def dressed(rng: random.Random, text: str, kind: str) -> str:
    """What models do to JSON."""
    match kind:
        case "prose":
            return f"Here are the captions [as asked]:\n\n{text}\n\nI hope {{this}} helps!"
        case "fences":
            return f"```json\n{json.dumps(json.loads(text), indent=1)}\n```"
        case "comma":
            return text.replace("}]", "},]").replace('"}', '",}')
        case "cut":
            return text[: rng.randrange(len(text))]
    return text
