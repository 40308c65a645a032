"""What models do to a numbered list of captions."""

from __future__ import annotations

import json
import random
from typing import Any


def malformed(
    lie: str, listed: list[dict[str, Any]], rng: random.Random, cut_at: int | None
) -> str:
    """The reply's text with one lie in it; ValueError for a lie that there is not."""
    entries = [dict(entry) for entry in listed]
    whole = {"captions": entries}
    match lie:
        case "drop":
            entries.pop(rng.randrange(len(entries)))
        case "swap":
            first, second = (entries[at] for at in rng.sample(range(len(entries)), 2))
            first["image"], second["image"] = second["image"], first["image"]
            entries.sort(key=lambda entry: int(entry["image"]))
        case "repeat":
            # One number twice, with the caption of another image the second time.
            of, at = rng.sample(range(len(entries)), 2)
            entries.insert(at, {**entries[at], "image": entries[of]["image"]})
        case "zero_based":
            for entry in entries:
                entry["image"] -= 1
        case "shuffle":
            # Harmless for those who go by number.
            rng.shuffle(entries)
        case "extra":
            number = max(int(entry["image"]) for entry in entries) + 1
            entries.append({**entries[0], "image": number, "caption": "A picture nobody sent."})
        case "types":
            # Every typed field beside the captions is of another type.
            for entry in entries:
                for name in entry.keys() - {"image", "caption"}:
                    entry[name] = {"not": "this type"}
        case "cut":
            text = json.dumps(whole).encode()
            at = rng.randrange(len(text)) if cut_at is None else min(cut_at, len(text))
            return text[:at].decode(errors="ignore")
        case "prose":
            return f"Here are the captions:\n\n{json.dumps(whole)}\n\nI hope this helps!"
        case "one_object":
            return json.dumps({"caption": " ".join(str(entry["caption"]) for entry in entries)})
        case "fences":
            return f"```json\n{json.dumps(whole, indent=1)}\n```"
        case "comma":
            return json.dumps(whole)[:-2] + ",]}"
        case _:
            raise ValueError(lie)
    return json.dumps(whole)
