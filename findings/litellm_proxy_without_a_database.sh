#!/usr/bin/env bash
# LiteLLM 1.108.7, proxy with a master key and no database: a missing key is 500, a wrong one is 400.
#
# Neither is a 401, so a client that retries 5xx waits out an "outage" when only a key is missing.
# The cost of an answer stands in a header alone; `usage` of a `mock_response` is 10 + 20 tokens,
# whatever was asked and answered.
#
# Seen: no key: 500 'Internal Server Error'; wrong key: 400 'No connected db.'; right key: 200,
# x-litellm-response-cost 1.35e-05, no cost in the body, usage 10 + 20 for one word.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'litellm[proxy]==1.108.7' requests
venv/bin/python -W ignore - <<'PYTHON'
import socket
import subprocess
import sys
import time
from importlib.metadata import version

import requests

with open("config.yaml", "w") as config:
    config.write("""
model_list:
  - model_name: m
    litellm_params: {model: gpt-4o-mini, api_key: none, mock_response: word}
general_settings: {master_key: sk-1234567890}
""")
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
log = open("log", "w")
proxy = subprocess.Popen(["venv/bin/litellm", "--config", "config.yaml", "--host", "127.0.0.1",
                          "--port", str(port)], stdout=log, stderr=log)
base = f"http://127.0.0.1:{port}"
try:
    for _ in range(240):
        try:
            requests.get(f"{base}/health/liveliness", timeout=5)
            break
        except requests.ConnectionError:
            time.sleep(0.5)

    def ask(key: str | None) -> requests.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        body = {"model": "m", "messages": [{"role": "user", "content": "hello " * 50}]}
        return requests.post(f"{base}/v1/chat/completions", json=body, headers=headers, timeout=60)

    missing, wrong, right = ask(None), ask("sk-wrong"), ask("sk-1234567890")
finally:
    proxy.terminate()
usage = right.json()["usage"]
cost = right.headers.get("x-litellm-response-cost")
print(f"litellm {version('litellm')}: no key {missing.status_code} {missing.text[:60]!r}")
print(f"wrong key {wrong.status_code} {wrong.text[:80]!r}")
print(f"right key {right.status_code}, header {cost}, usage {usage}")
assert (missing.status_code, wrong.status_code, right.status_code) == (500, 400, 200)
assert cost and "cost" not in right.text
assert (usage["prompt_tokens"], usage["completion_tokens"]) == (10, 20)
PYTHON
