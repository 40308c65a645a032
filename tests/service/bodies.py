"""Response bodies as the services send them: name -> (status, headers, body, kind, scope, wait).

From the public documentation of OpenRouter, Google, LiteLLM, vLLM and Ollama, and from captures
in public issue threads; composed anew, with the services' own message texts.
"""

from __future__ import annotations

import json
from typing import Any

from pipeline.verdict import Kind, Scope

#: 2026-08-02 08:08:30 UTC: half a minute before the reset instant in the captures.
NOW = 1785658110.0

Case = tuple[int, dict[str, str], Any, Kind, Scope, float | None]


def error(code: Any, message: str, **metadata: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "metadata": metadata}, "user_id": "u"}


def chat(content: Any = "A cat.", finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": None, **more.pop("message", {})}
    choice = {"index": 0, "finish_reason": finish, "message": message, **more.pop("choice", {})}
    usage = {"prompt_tokens": 272, "completion_tokens": 11, "cost": 0}
    return {
        "id": "gen-1",
        "provider": "P",
        "model": "m",
        "choices": [choice],
        "usage": usage,
        **more,
    }


RATE = {
    "X-RateLimit-Limit": "20",
    "X-RateLimit-Remaining": "0",
    "X-RateLimit-Reset": "1785658140000",
}
DAY = {**RATE, "X-RateLimit-Limit": "50", "X-RateLimit-Reset": "1785715200000"}


def google(quota: str, delay: str | None = "57s", value: str = "15") -> dict[str, Any]:
    details: list[dict[str, Any]] = [
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaMetric": "g/requests", "quotaId": quota, "quotaValue": value}],
        }
    ]
    if delay:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return {
        "error": {
            "code": 429,
            "status": "RESOURCE_EXHAUSTED",
            "message": "You exceeded your current quota. Please retry in 57.2s.",
            "details": details,
        }
    }


MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
NO, ITEM, MODEL, ACCOUNT = Scope.NONE, Scope.ITEM, Scope.MODEL, Scope.ACCOUNT
UPSTREAM_TEXT = "m is temporarily rate-limited upstream. Please retry shortly"

CASES: dict[str, Case] = {
    # successes, and what looks like one
    "ok": (200, {}, chat(), Kind.OK, NO, None),
    "ok padded": (200, {}, b"\n \n" * 50 + json.dumps(chat()).encode(), Kind.OK, NO, None),
    "ok parts": (200, {}, chat([{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "A cat."}]), Kind.OK, NO, None),
    "ok no usage": (200, {}, {k: v for k, v in chat().items() if k != "usage"}, Kind.OK, NO, None),
    "ok nested in provider": (200, {}, {"id": None, "choices": None, "provider": chat()}, Kind.OK, NO, None),
    "ok no finish": (200, {}, chat(finish=None), Kind.OK, NO, None),
    "cut": (200, {}, chat("A ca", "length"), Kind.TRUNCATED, NO, None),
    "cut by native": (200, {}, chat("A ca", None, choice={"native_finish_reason": "MAX_TOKENS"}), Kind.TRUNCATED, NO, None),
    "empty string": (200, {}, chat(""), Kind.EMPTY, ITEM, None),
    "empty null": (200, {}, chat(None, None), Kind.EMPTY, ITEM, None),
    "no choices": (200, {}, {**chat(), "choices": []}, Kind.EMPTY, ITEM, None),
    "null choices": (200, {}, {**chat(), "choices": None}, Kind.EMPTY, ITEM, None),
    "error at top of 200": (200, {}, error(502, "Upstream error from Nvidia: Service temporarily overloaded"), Kind.TRANSIENT, ITEM, None),
    "error in choice": (200, {}, chat("A red bi", "error", choice={"error": {"code": 502, "message": "Provider disconnected mid-stream", "metadata": {"error_type": "provider_unavailable"}}}), Kind.TRANSIENT, ITEM, None),
    "null fields and error": (200, {}, {**dict.fromkeys(chat()), **error(503, "No instances available")}, Kind.TRANSIENT, ITEM, None),
    "blank": (200, {}, b"\n\n   \n", Kind.MALFORMED, ITEM, None),
    "cut json": (200, {}, json.dumps(chat()).encode()[:60], Kind.MALFORMED, ITEM, None),
    "page in 200": (200, {}, b"<html>hello</html>", Kind.MALFORMED, ITEM, None),
    "number": (200, {}, b"42", Kind.MALFORMED, ITEM, None),
    # safety and refusal
    "content filter": (200, {}, chat(None, "content_filter", choice={"native_finish_reason": "SAFETY"}), Kind.SAFETY, ITEM, None),
    "recitation": (200, {}, chat("A", "stop", choice={"native_finish_reason": "RECITATION"}), Kind.SAFETY, ITEM, None),
    "error with native safety": (200, {}, chat(None, "error", choice={"native_finish_reason": "SAFETY"}), Kind.SAFETY, ITEM, None),
    "refusal": (200, {}, chat("", "stop", message={"refusal": "I cannot."}), Kind.REFUSED, ITEM, None),
    "moderation": (403, {}, error(403, 'x/y requires moderation on OpenInference. Your input was flagged for "violence". No credits were charged.', reasons=["violence"], flagged_input="a … b", provider_name="OpenInference", model_slug="x/y"), Kind.SAFETY, ITEM, None),
    "policy violation": (400, {}, error(400, "Provider returned error", error_type="content_policy_violation"), Kind.SAFETY, ITEM, None),
    # the four kinds of 429
    "A": (429, {}, error(429, "Rate limit exceeded: free-models-per-min. ", headers=RATE, limit_source="openrouter_free_tier_per_minute", provider_name=None), Kind.ACCOUNT_MINUTE, ACCOUNT, None),
    "B": (429, {}, error(429, "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day", headers=DAY, limit_source="openrouter_free_tier_daily"), Kind.ACCOUNT_DAY, ACCOUNT, None),
    "B high balance": (429, {}, error(429, "Rate limit exceeded: free-models-per-day-high-balance. ", headers=DAY), Kind.ACCOUNT_DAY, ACCOUNT, None),
    "C day": (429, {}, error(429, "Rate limit exceeded: limit_rpd/google/gemini-2.0-flash-thinking-exp-01-21/54276bca-aaaa", headers={**DAY, "X-RateLimit-Limit": "80"}, provider_name="Google AI Studio"), Kind.MODEL_DAY, MODEL, None),
    "C minute": (429, {}, error(429, "Rate limit exceeded: limit_rpm/x/54276bca. High demand for x on OpenRouter - limited to 4 requests per minute. Please retry shortly."), Kind.MODEL_MINUTE, MODEL, None),
    "D": (429, {}, error(429, "Provider returned error", raw=UPSTREAM_TEXT, provider_name="Google AI Studio", is_byok=False, provider_error_code="429", limit_source="upstream_provider_shared_pool"), Kind.UPSTREAM, MODEL, None),
    "D with wait": (429, {}, error(429, "Provider returned error", raw=UPSTREAM_TEXT, retry_after_seconds=29, retry_after_seconds_raw=28.181, headers={"Retry-After": "29"}), Kind.UPSTREAM, MODEL, 29.0),
    "D in a 200": (200, {}, error("429", "Provider returned error", raw=UPSTREAM_TEXT), Kind.UPSTREAM, MODEL, None),
    "Google minute in raw": (429, {}, error(429, "Provider returned error", raw=json.dumps(google(MINUTE))), Kind.MODEL_MINUTE, MODEL, 57.0),
    "Google day beats its delay": (429, {}, error(429, "Provider returned error", raw=json.dumps(google(PER_DAY))), Kind.MODEL_DAY, MODEL, 57.0),
    "Google limit 0": (429, {}, error(429, "Provider returned error", raw=json.dumps(google(PER_DAY, value="0"))), Kind.CONFIG_FATAL, MODEL, 57.0),
    "Google array minute": (429, {}, [google(MINUTE)], Kind.MODEL_MINUTE, MODEL, 57.0),
    "Google array day": (429, {}, [google(PER_DAY, None)], Kind.MODEL_DAY, MODEL, 57.2),
    "Google short": (429, {}, [{"error": {"code": 429, "message": "Resource has been exhausted (e.g. check quota).", "status": "RESOURCE_EXHAUSTED"}}], Kind.UPSTREAM, MODEL, None),
    "429 plain": (429, {"retry-after": "7"}, b"Too Many Requests", Kind.UPSTREAM, MODEL, 7.0),
    "429 page": (429, {}, b"<html><title>Just a moment...</title></html>", Kind.TRANSIENT, ITEM, None),
    # account and key
    "401": (401, {}, error(401, "No auth credentials found"), Kind.ACCOUNT_FATAL, ACCOUNT, None),
    "401 user": (401, {}, error(401, "User not found."), Kind.ACCOUNT_FATAL, ACCOUNT, None),
    "402": (402, {}, error(402, "Insufficient credits. Add more using https://openrouter.ai/credits"), Kind.ACCOUNT_FATAL, ACCOUNT, None),
    "402 afford": (402, {}, error(402, "This request requires more credits, or fewer max_tokens. You requested up to 8000 tokens, but can only afford 12", provider_name=None), Kind.ACCOUNT_FATAL, ACCOUNT, None),
    "402 in flight": (402, {"retry-after": "3"}, error(402, "Too much in flight", limit_source="openrouter_in_flight_budget"), Kind.TRANSIENT, ITEM, 3.0),
    "403 key limit": (403, {}, error(403, "Key limit exceeded (total limit). Manage it using the settings"), Kind.ACCOUNT_FATAL, ACCOUNT, None),
    "403 budget": (403, {}, error(403, "Budget exceeded", limit_source="openrouter_key_limit", scope="key", limit_usd=1, spend_usd=1, resets_at="2026-08-03T00:00:00Z"), Kind.BUDGET, ACCOUNT, None),
    "403 page": (403, {}, b"<!DOCTYPE html><title>Attention Required! | Cloudflare</title>", Kind.TRANSIENT, ITEM, None),
    # model and request
    "400 model": (400, {}, error(400, "google/gemini-flash-1.5-8b-exp is not a valid model ID"), Kind.CONFIG_FATAL, MODEL, None),
    "404 endpoints": (404, {}, error(404, "No endpoints found for google/gemini-flash-1.5-8b."), Kind.CONFIG_FATAL, MODEL, None),
    "404 image input": (404, {}, error(404, "No endpoints found that support image input"), Kind.CONFIG_FATAL, MODEL, None),
    "404 policy": (404, {}, error(404, "No endpoints found matching your data policy (Free model publication)"), Kind.CONFIG_FATAL, MODEL, None),
    "404 not free": (404, {}, error(404, "This model is unavailable for free. The paid version is available now - use this slug instead: x"), Kind.CONFIG_FATAL, MODEL, None),
    "400 models": (400, {}, error(400, "'models' array must have 3 items or fewer."), Kind.CONFIG_FATAL, MODEL, None),
    "400 bad": (400, {}, error(400, "temperature: too large"), Kind.CONFIG_FATAL, MODEL, None),
    "400 context": (400, {}, error(400, "This endpoint's maximum context length is 32768 tokens. However, you requested about 40000 tokens"), Kind.TOO_LONG, ITEM, None),
    "413": (413, {}, error(413, "Request Entity Too Large"), Kind.TOO_LARGE, ITEM, None),
    "422": (422, {}, error(422, "Unprocessable"), Kind.BAD_REQUEST, ITEM, None),
    "307": (307, {"location": "https://elsewhere.example"}, b"", Kind.CONFIG_FATAL, MODEL, None),
    # images
    "extract": (400, {}, error(400, "Failed to extract 1 image(s)."), Kind.IMAGE_UNREACHABLE, ITEM, None),
    "extract in raw": (400, {}, error(400, "Provider returned error", raw="Failed to extract 1 image(s)."), Kind.IMAGE_UNREACHABLE, ITEM, None),
    "download failed": (400, {}, error(400, "Could not download", error_type="image_download_failed"), Kind.IMAGE_UNREACHABLE, ITEM, None),
    "file uri": (400, {}, [{"error": {"code": 400, "message": "Invalid or unsupported file uri: https://a.example/b.jpg", "status": "INVALID_ARGUMENT"}}], Kind.IMAGE_UNREACHABLE, ITEM, None),
    "process": (400, {}, error(400, "Provider returned error", raw=json.dumps({"error": {"code": 400, "message": "Unable to process input image. Please retry or report in https://developers.example/troubleshooting", "status": "INVALID_ARGUMENT"}})), Kind.IMAGE_REJECTED, ITEM, None),
    "base64": (400, {}, error(400, "Provider returned error", raw="Invalid value at 'contents[0].parts[1].inline_data.data' (TYPE_BYTES), Base64 decoding failed for x"), Kind.IMAGE_REJECTED, ITEM, None),
    "mime": (400, {}, error(400, "Provider returned error", raw="Unsupported MIME type: image/gif"), Kind.IMAGE_REJECTED, ITEM, None),
    "location": (400, {}, error(400, "Provider returned error", raw=json.dumps({"error": {"code": 400, "message": "User location is not supported for the API use.", "status": "FAILED_PRECONDITION"}})), Kind.TRANSIENT, ITEM, None),
    # transient
    "408": (408, {}, error(408, "Request timed out"), Kind.TRANSIENT, ITEM, None),
    "500": (500, {}, error(500, "Internal Server Error", error_type="server"), Kind.TRANSIENT, ITEM, None),
    "502": (502, {}, error(502, "Provider returned error"), Kind.TRANSIENT, ITEM, None),
    "503 with wait": (503, {"retry-after": "12"}, error(503, "Overloaded"), Kind.TRANSIENT, ITEM, 12.0),
    "524 page": (524, {}, b"<!DOCTYPE html><title>524: A timeout occurred</title>", Kind.TRANSIENT, ITEM, None),
    "529": (529, {}, error(529, "Provider overloaded"), Kind.TRANSIENT, ITEM, None),
    "503 Google": (503, {}, [{"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}], Kind.TRANSIENT, ITEM, None),
    "500 text": (500, {}, b"upstream connect error", Kind.TRANSIENT, ITEM, None),
    "retryable by availability": (404, {}, {"error": {"code": 404, "message": "Nothing free now", "availability": {"code": "capacity_exhausted", "retryable": True}}}, Kind.TRANSIENT, ITEM, None),
    # other services
    "litellm limit": (429, {}, {"error": {"message": "litellm.RateLimitError: Rate limit exceeded for api_key: x. Limit type: requests", "type": "throttling_error", "param": None, "code": "429"}}, Kind.ACCOUNT_MINUTE, ACCOUNT, None),
    "litellm image": (400, {}, {"error": {"message": "litellm.ImageFetchError: could not fetch", "type": None, "param": None, "code": "400"}}, Kind.IMAGE_UNREACHABLE, ITEM, None),
    "vllm": (400, {}, {"error": {"message": "bad value", "type": "BadRequestError", "param": None, "code": 400}}, Kind.BAD_REQUEST, ITEM, None),
    "vllm flat": (400, {}, {"object": "error", "message": "This model's maximum context length is 4096 tokens", "type": "BadRequestError", "code": 400}, Kind.TOO_LONG, ITEM, None),
    "ollama image": (400, {}, {"error": {"message": "invalid image input", "type": "invalid_request_error", "param": None, "code": None}}, Kind.IMAGE_REJECTED, ITEM, None),
    "ollama busy": (503, {}, {"error": {"message": "server busy, please try again.  maximum pending requests exceeded", "type": "api_error", "param": None, "code": None}}, Kind.TRANSIENT, ITEM, None),
    "error as text": (400, {}, {"error": "something is wrong"}, Kind.BAD_REQUEST, ITEM, None),
    "detail": (404, {}, {"detail": "Not Found"}, Kind.CONFIG_FATAL, MODEL, None),
    "Google unknown field": (400, {}, [{"error": {"code": 400, "message": 'Invalid JSON payload received. Unknown name "provider": Cannot find field.', "status": "INVALID_ARGUMENT"}}], Kind.CONFIG_FATAL, MODEL, None),
    "Google key": (400, {}, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT", "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]}}], Kind.ACCOUNT_FATAL, ACCOUNT, None),
    # captured from LiteLLM's proxy 1.106
    "litellm model limit": (429, {"llm_provider-retry-after": "60"}, {"error": {"message": "litellm.RateLimitError: Model rate limit exceeded. RPM limit=2, current usage=3\n\nLiteLLM: model group 'limited' failed with the error above. No fallback was attempted.", "type": "throttling_error", "param": None, "code": "429"}}, Kind.MODEL_MINUTE, MODEL, 60.0),
    "litellm no such model": (400, {}, {"error": {"message": "/chat/completions: Invalid model name passed in model=nope. Call `/v1/models` to view available models for your key.", "type": "invalid_request_error", "param": None, "code": "400"}}, Kind.CONFIG_FATAL, MODEL, None),
    "litellm wrong key": (400, {}, {"error": {"message": "No connected db.", "type": "no_db_connection", "param": None, "code": "400"}}, Kind.ACCOUNT_FATAL, ACCOUNT, None),
    "litellm budget": (400, {}, {"error": {"message": "Budget has been exceeded! Current cost: 1.2, Max budget: 1.0", "type": "budget_exceeded", "param": None, "code": "400"}}, Kind.ACCOUNT_FATAL, ACCOUNT, None),
    "litellm context": (400, {}, {"error": {"message": "litellm.ContextWindowExceededError: litellm.BadRequestError: this is a mock context window exceeded error\nmodel=long.", "type": "invalid_request_error", "param": None, "code": "400"}}, Kind.TOO_LONG, ITEM, None),
    "litellm 500": (500, {}, {"error": {"message": "litellm.InternalServerError: this is a mock internal server error", "type": "internal_server_error", "param": None, "code": "500"}}, Kind.TRANSIENT, ITEM, None),
    # OpenAI
    "OpenAI minute": (429, {}, {"error": {"message": "Rate limit reached for gpt-4o-mini in organization org-x on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s.", "type": "requests", "param": None, "code": "rate_limit_exceeded"}}, Kind.MODEL_MINUTE, MODEL, 20.0),
    "OpenAI tokens": (429, {"retry-after-ms": "350"}, {"error": {"message": "Rate limit reached for gpt-4o-mini on tokens per min (TPM): Limit 60000. Please try again in 351ms.", "type": "tokens", "param": None, "code": "rate_limit_exceeded"}}, Kind.MODEL_MINUTE, MODEL, 0.35),
    "OpenAI day": (429, {}, {"error": {"message": "Rate limit reached for gpt-4o-mini on requests per day (RPD): Limit 200, Used 200, Requested 1. Please try again in 7m12s.", "type": "requests", "param": None, "code": "rate_limit_exceeded"}}, Kind.MODEL_DAY, MODEL, 432.0),
    "OpenAI credit": (429, {}, {"error": {"message": "You exceeded your current quota, please check your plan and billing details.", "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}}, Kind.ACCOUNT_FATAL, ACCOUNT, None),
    "provider's credit at OpenRouter": (429, {}, error(429, "Provider returned error", raw="insufficient_quota", provider_error_code="insufficient_quota"), Kind.UPSTREAM, MODEL, None),
    "OpenAI safety": (400, {}, {"error": {"message": "Your request was rejected by the safety system.", "type": "invalid_request_error", "param": None, "code": "moderation_blocked"}}, Kind.SAFETY, ITEM, None),
    "Azure filter": (400, {}, {"error": {"message": "The response was filtered due to the prompt triggering the content management policy.", "type": None, "param": "prompt", "code": "content_filter"}}, Kind.SAFETY, ITEM, None),
    "ollama odd image": (500, {}, {"error": {"message": "Failed to create new sequence: failed to process inputs", "type": "api_error", "param": None, "code": None}}, Kind.IMAGE_REJECTED, ITEM, None),
    "OpenAI parameter": (400, {}, {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "type": "invalid_request_error", "param": "max_tokens", "code": "unsupported_parameter"}}, Kind.CONFIG_FATAL, MODEL, None),
    "OpenAI value": (400, {}, {"error": {"message": "Unsupported value: 'temperature' does not support 0.2 with this model.", "type": "invalid_request_error", "param": "temperature", "code": "unsupported_value"}}, Kind.CONFIG_FATAL, MODEL, None),
    "OpenAI context": (400, {}, {"error": {"message": "Your input is too long.", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}}, Kind.TOO_LONG, ITEM, None),
    "OpenAI download": (400, {}, {"error": {"message": "Timeout while downloading https://a.example/b.jpg.", "type": "invalid_request_error", "param": None, "code": "invalid_image_url"}}, Kind.IMAGE_UNREACHABLE, ITEM, None),
    "OpenAI format": (400, {}, {"error": {"message": "You uploaded an unsupported image.", "type": "invalid_request_error", "param": None, "code": "invalid_image_format"}}, Kind.IMAGE_REJECTED, ITEM, None),
    "OpenAI blind": (400, {}, {"error": {"message": "Invalid content type. image_url is only supported by certain models.", "type": "invalid_request_error", "param": "messages.[0].content.[1].type", "code": None}}, Kind.CONFIG_FATAL, MODEL, None),
    "vllm blind": (400, {}, {"error": {"message": "meta/text is not a multimodal model None", "type": "BadRequestError", "param": None, "code": 400}}, Kind.CONFIG_FATAL, MODEL, None),
    "OpenAI field": (400, {}, {"error": {"message": "Unrecognized request argument supplied: provider", "type": "invalid_request_error", "param": None, "code": None}}, Kind.CONFIG_FATAL, MODEL, None),
    # The services of one pool, own values in their shapes
    "Google minute with its value": (429, {}, google("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "31s", "7"), Kind.MODEL_MINUTE, MODEL, 31.0),
    "Google limit 0 in words": (429, {}, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota exceeded for metric: g/free_tier_requests, limit: 0\nPlease retry in 12s."}}, Kind.CONFIG_FATAL, MODEL, 12.0),
    "Google list": (429, {}, [google(PER_DAY, "9s", "20")], Kind.MODEL_DAY, MODEL, 9.0),
    "Google as a text inside message": (429, {}, {"error": {"message": json.dumps(google(PER_DAY, "9s", "20")), "code": 429}}, Kind.MODEL_DAY, MODEL, 9.0),
    "Google list as a text inside message": (429, {}, {"error": {"message": json.dumps([google(PER_DAY, "9s", "20")]), "code": 429}}, Kind.MODEL_DAY, MODEL, 9.0),
    "Groq tokens of the day": (429, {}, {"error": {"message": "Rate limit reached for model `m` in organization `o` service tier `on_demand` on tokens per day (TPD): Limit 90, Used 88, Requested 5. Please try again in 48m0s.", "type": "tokens", "code": "rate_limit_exceeded"}}, Kind.MODEL_DAY, MODEL, 2880.0),
    "Groq requests of the minute": (429, {"retry-after": "3"}, {"error": {"message": "Rate limit reached for model `m` in organization `o` on requests per minute (RPM): Limit 30, Used 30, Requested 1. Please try again in 2s.", "type": "requests", "code": "rate_limit_exceeded"}}, Kind.MODEL_MINUTE, MODEL, 3.0),
    "Groq flex is full": (498, {}, {"error": {"message": "Flex tier capacity exceeded.", "type": "capacity_exceeded", "code": "capacity_exceeded"}}, Kind.TRANSIENT, ITEM, None),
    "Mistral": (429, {}, {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "param": None, "code": "1300", "raw_status_code": 429}, Kind.MODEL_MINUTE, MODEL, None),
    "Mistral, older": (429, {}, {"message": "Requests rate limit exceeded"}, Kind.MODEL_MINUTE, MODEL, None),
    "Mistral is full": (429, {}, {"object": "error", "message": "Service tier capacity exceeded for this model.", "type": "invalid_request_error", "code": "3505"}, Kind.TRANSIENT, ITEM, None),
    "Mistral is full, 503": (503, {}, {"message": "Service tier capacity exceeded for this model."}, Kind.TRANSIENT, ITEM, None),
    "Cerebras minute": (429, {"x-ratelimit-remaining-requests-minute": "0", "x-ratelimit-reset-requests-minute": "26.5"}, {"message": "Requests per minute limit exceeded - too many requests sent.", "type": "too_many_requests_error", "param": "quota", "code": "request_quota_exceeded"}, Kind.MODEL_MINUTE, MODEL, 26.5),
    "Cerebras day": (429, {}, {"message": "Tokens per day limit exceeded - too many tokens processed.", "type": "too_many_tokens_error", "param": "quota", "code": "token_quota_exceeded"}, Kind.MODEL_DAY, MODEL, None),
    "Cerebras queue": (429, {}, {"message": "We're experiencing high traffic right now! Please try again soon.", "type": "too_many_requests_error", "param": "queue", "code": "queue_exceeded"}, Kind.TRANSIENT, ITEM, None),
    "NVIDIA": (429, {}, {"status": 429, "title": "Too Many Requests"}, Kind.UPSTREAM, MODEL, None),
    "Together": (429, {}, {"error": {"message": "You have reached the rate limit.", "type": "rate_limit", "error_type": "dynamic_request_limited"}, "error_type": "dynamic_request_limited"}, Kind.MODEL_MINUTE, MODEL, None),
    "Hugging Face": (402, {}, {"error": "You have exceeded your monthly included credits for Inference Providers."}, Kind.ACCOUNT_FATAL, ACCOUNT, None),
    "Cloudflare's day": (429, {}, {"success": False, "errors": [{"code": 4006, "message": "you have used up your daily free allocation of 10,000 neurons"}]}, Kind.MODEL_DAY, MODEL, None),
    "Ollama Cloud session": (429, {}, {"error": "you've reached your session usage limit"}, Kind.MODEL_DAY, MODEL, None),
    "Ollama Cloud week": (429, {}, {"error": "you've reached your weekly usage limit"}, Kind.MODEL_DAY, MODEL, None),
    "Z.AI": (429, {}, {"error": {"code": "1302", "message": "High concurrency usage of this API, please reduce concurrency"}}, Kind.UPSTREAM, MODEL, None),
    "Alibaba tokens": (429, {}, {"error": {"message": "Allocated quota exceeded, please increase your quota limit.", "type": "limit_requests", "code": "limit_requests"}}, Kind.MODEL_MINUTE, MODEL, None),
    "Alibaba ramp": (429, {}, {"error": {"message": "Request rate increased too quickly.", "code": "limit_burst_rate"}}, Kind.MODEL_MINUTE, MODEL, None),
    "OpenAI flex": (429, {}, {"error": {"message": "Flex processing is not available right now.", "type": "resource_unavailable", "code": "resource_unavailable"}}, Kind.TRANSIENT, ITEM, None),
}  # fmt: skip


def raw(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()
