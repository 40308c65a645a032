#!/usr/bin/env bash
# LiteLLM 1.110.2: `token_counter(model=…)` counts a picture without looking at the model, and nearly
# for nothing when it stands there as a URL.
#
# One photograph of 4000 × 3000 pixels is 772 tokens for GPT-4o, GPT-4o mini, GPT-5 mini, Gemini,
# Claude and Pixtral alike when it is sent inline, and 92 when the same one is named by its URL, or is
# an AVIF. The same package's `estimate_image_tokens`, with which its proxy's rate limiter counts, knows
# better: GPT-4o mini's is 25,501, thirty-three times as much, and by URL it takes the upper bound. Who
# keeps tokens a minute, or estimates what a night costs, with `token_counter` is wrong by that.
#
# Seen: 772 inline, 92 by URL, 92 as AVIF for each of the six models; estimate_image_tokens: 765 for
# gpt-4o, 25,501 for gpt-4o-mini, by URL 48,169 for gpt-4o-mini.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'litellm==1.110.2' 'pillow==12.1.0'
LITELLM_LOCAL_MODEL_COST_MAP=True venv/bin/python -W ignore - <<'PYTHON'
import base64
import io
from importlib.metadata import version

import litellm
from litellm.litellm_core_utils.token_counter import estimate_image_tokens
from PIL import Image

MODELS = (
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-5-mini",
    "gemini/gemini-2.0-flash",
    "claude-sonnet-4-5",
    "mistral/pixtral-12b-2409",
)


def inline(form: str) -> str:
    memory = io.BytesIO()
    Image.new("RGB", (4000, 3000), "teal").save(memory, form)
    return f"data:image/{form.lower()};base64," + base64.b64encode(memory.getvalue()).decode()


def counted(model: str, url: str) -> int:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    return litellm.token_counter(model=model, messages=[{"role": "user", "content": content}])


PICTURES = (inline("JPEG"), "http://127.0.0.1:9/photo.jpg", inline("AVIF"))
print("litellm", version("litellm"))
for model in MODELS:
    tokens = [counted(model, url) for url in PICTURES]
    print(f"{model}: inline {tokens[0]}, by URL {tokens[1]}, AVIF {tokens[2]}")
    assert tokens == [772, 92, 92], tokens
proxy = {
    (model, url[:4]): estimate_image_tokens(model, url)
    for model in ("gpt-4o", "gpt-4o-mini")
    for url in PICTURES[:2]
}
print(proxy)
assert proxy["gpt-4o", "data"] == 765
assert proxy["gpt-4o-mini", "data"] == 25501
PYTHON
