"""What services are known to write, as the class that it is: a corpus of refusals in their own words.

A text stands for `{"error": {"message": text}}`; bytes are the whole body.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.captioning.form_refusals import images_allowed
from pipeline.captioning.parse_reply import caption_of
from pipeline.model import Reply
from pipeline.service.classify import classify, headers_kept
from pipeline.service.models import models_of, named
from pipeline.verdict import Kind

CORPUS: dict[Kind, list[tuple[int, Any]]] = {
    Kind.IMAGE_UNREACHABLE: [
        (422, {'error': {'message': 'Failed to fetch media from URL: HTTP 404 error (parameter=image_url, value=http://host/a.jpg)', 'type': 'UnprocessableEntityError', 'param': 'image_url', 'code': 422}}),
        (500, {'error': {'message': 'Failed to download image', 'type': 'server_error', 'code': 500}}),
        (500, {'error': {'message': 'error: cannot make GET request', 'type': 'server_error'}}),
        (500, {'error': {'message': 'litellm.InternalServerError: InternalServerError: OpenAIException - Failed to download image. Received Model Group=chain', 'type': None, 'code': '500'}}),
        (400, 'Error: failed to download image from url https://x'),
        (400, 'Unable to fetch the image from the URL'),
        (422, 'Input validation error: image_url must be https'),
        (400, 'image URLs are not supported, please use base64 encoded images'),
        (400, 'image_url must be base64 data'),
    ],
    Kind.IMAGE_REJECTED: [
        (400, 'messages.0.content.1.image.source.base64: image exceeds 5 MB maximum: 6291456 bytes > 5242880 bytes'),
        (400, {'object': 'error', 'message': 'Image could not be loaded from base64', 'type': 'invalid_request_file', 'code': '3310'}),
        (500, {'error': {'message': "the image can't be read"}}),
        (400, 'Could not process image'),
        (400, 'The image is a stop sign: it should be a valid picture; cannot decode image'),
        (400, {'error': {'message': 'Failed to load image: cannot identify image file <_io.BytesIO object>', 'type': 'BadRequestError'}}),
        (400, {'error': {'message': 'Failed to load image: image file is truncated (2 bytes not processed)', 'type': 'BadRequestError'}}),
        (400, {'error': {'message': 'Failed to load image or audio file', 'type': 'invalid_request_error', 'code': 400}}),
        (400, {'error': {'message': 'litellm.BadRequestError: OpenAIException - Failed to load image or audio file. Received Model Group=chain', 'code': '400'}}),
        (400, 'The image format is not supported by model m'),
        (400, 'Image too large: 12 MB exceeds the 5 MB limit'),
        (400, 'At least one of the image dimensions exceed max allowed size: 8000 pixels'),
        (400, 'invalid base64 image data'),
        (400, 'image size must be at least 28x28'),
        (400, 'Unable to decode the image'),
    ],
    Kind.TOO_LONG: [
        (400, {'error': {'message': "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input tokens", 'param': 'input_tokens'}}),
        (400, {'error': {'message': 'request (8436 tokens) exceeds the available context size (4096 tokens), try increasing it', 'type': 'exceed_context_size_error', 'code': 400, 'n_ctx': 4096}}),
        (400, {'error': {'message': 'litellm.ContextWindowExceededError: litellm.BadRequestError: ContextWindowExceededError: OpenAIException - request (8436 tokens) exceeds the available context size (4096 tokens), try increasing it', 'code': '400'}}),
        (400, 'prompt is too long: 210000 tokens > 200000 maximum'),
        (400, 'Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 8000 `inputs` tokens and 300 `max_new_tokens`'),
        (422, 'Input validation error: `inputs` must have less than 4096 tokens. Given: 9000'),
        (400, "The input (9000 tokens) is longer than the model's context length (4096 tokens)."),
        (400, "Requested token count exceeds the model's maximum context length of 4096 tokens."),
        (400, 'the request exceeds the available context size, try increasing it'),
        (400, 'input length 9000 exceeds maximum context'),
        (400, 'Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens'),
        (400, 'The number of tokens to keep from the initial prompt is greater than the context length'),
        (400, 'input is too long for requested model'),
        (400, 'Range of input length should be [1, 6000]'),
        (400, 'Prompt exceeds max length'),
        (400, 'The prompt is too long: 9000, model maximum context length: 4096'),
        (400, 'input token count (1200000) exceeds the maximum number of tokens allowed (1048576)'),
        (400, 'Please reduce the length of the messages or completion.'),
        (400, 'max_prompt_tokens exceeded'),
        (400, "This request would exceed the model's context window"),
        (400, 'input prompt is longer than the context window'),
    ],
    Kind.CONFIG_FATAL: [
        (403, {'message': "You don't have access to the model with the specified model ID."}),
        (400, {'message': 'Invocation of model ID x with on-demand throughput isn’t supported. Retry your request with the ID of an inference profile'}),
        (400, {'error': {'code': 'OperationNotSupported', 'message': 'The chatCompletion operation does not work with the specified model, x. Please choose different model and try again.'}}),
        (400, b'<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>'),
        (400, b'<html><head><title>400 No required SSL certificate was sent</title></head></html>'),
        (400, 'max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens'),
        (400, {'error': {'message': 'Unable to access non-serverless model x. Please create and start a dedicated endpoint', 'code': 'model_not_available'}}),
        (400, {'error': 'Model not supported by provider hf-inference'}),
        (400, 'Multimodal model is not enabled'),
        (400, '"x" does not support chat'),
        (400, {'error': {'message': 'litellm.BadRequestError: LLM Provider NOT provided. Pass in the LLM provider you are trying to call.', 'code': '400'}}),
        (400, 'Model Not Exist'),
        (400, {'message': 'The provided model identifier is invalid.'}),
        (400, {'message': 'Malformed input request: #: extraneous key [foo] is not permitted, please reformat your input and try again.'}),
        (404, {'error': {'message': 'The model `x` does not exist. Valid aliases: tiny.', 'type': 'NotFoundError'}}),
        (400, {'error': {'message': 'max_tokens=5000 cannot be greater than max_model_len=2048', 'type': 'BadRequestError', 'param': 'max_tokens'}}),
        (400, {'error': {'message': 'temperature must be non-negative, got -1.0.', 'type': 'BadRequestError', 'param': 'temperature'}}),
        (500, {'error': {'message': 'image input is not supported - hint: if this is unexpected, you may need to provide the mmproj', 'type': 'server_error', 'code': 500}}),
        (422, {'detail': "Unexpected fields in the request: {'foo'}"}),
        (400, {'detail': "Server is pinned to 'a'; requested 'b'."}),
        (400, 'This model does not support image inputs'),
        (404, 'No endpoints found that support image input'),
        (400, 'Invalid content type. image_url is only supported by certain models.'),
        (400, "model 'x' is not a multimodal model"),
        (400, 'At most 0 image(s) may be provided in one prompt.'),
        (500, 'this model is missing data required for image input'),
        (400, 'x does not support images'),
        (400, 'Image input not supported'),
        (400, 'messages[0].content must be a string'),
        (422, {'detail': [{'loc': ['body', 'messages', 0, 'content'], 'msg': 'Input should be a valid string', 'type': 'string_type'}]}),
        (400, 'The model does not have vision capabilities'),
        (400, 'vision is not enabled for this model'),
        (400, "Content type 'image_url' is not supported by this model"),
        (400, 'unknown content part type image_url'),
        (400, 'Unexpected item type in content.'),
        (500, 'Cannot read image: model lacks vision support'),
        (400, 'LLM does not accept image modality'),
        (400, "'image_url' content parts are not supported"),
        (400, 'This model only supports text input'),
        (400, 'Multimodal inputs are not supported by this model'),
        (400, 'unsupported content type: image_url'),
        (400, "Invalid value: 'image_url'. Supported values are: 'text'."),
        (400, 'Failed to deserialize the JSON body into the target type: messages[0]: unknown variant `image_url`, expected `text` at line 1 column 120'),
        (400, 'image_url is not supported'),
        (400, 'this model cannot process images'),
        (400, 'Model is text only'),
        (400, "The selected model doesn't support vision"),
        (400, 'No vision model loaded'),
        (400, 'mistral-7b is not a vision model'),
        (404, 'The model `m` does not exist or you do not have access to it.'),
        (404, "model 'm' not found, try pulling it first"),
        (400, 'Model not found'),
        (400, 'model m is not available'),
        (404, {'detail': 'Model not found'}),
        (400, "The requested model 'm' does not exist"),
        (400, 'Model m is not supported'),
        (404, 'Publisher Model m was not found or your project does not have access to it'),
        (400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."),
        (400, "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported."),
        (422, {'detail': [{'type': 'extra_forbidden', 'loc': ['body', 'foo'], 'msg': 'Extra inputs are not permitted', 'input': 1}]}),
        (400, "property 'foo' is unsupported"),
        (400, "Additional properties are not allowed ('foo' was unexpected)"),
        (400, 'Unrecognized request argument supplied: foo'),
        (400, 'unknown field "foo"'),
        (400, 'json: unknown field "foo"'),
        (400, 'max_tokens is too large: 5000. This model supports at most 4096 completion tokens'),
        (400, "Invalid 'max_tokens': integer above maximum value"),
        (400, 'Invalid max_tokens value, the valid range of max_tokens is [1, 8192]'),
        (422, {'detail': [{'loc': ['body', 'temperature'], 'msg': 'Input should be less than or equal to 2', 'type': 'less_than_equal'}]}),
        (400, 'temperature must be in [0, 2]'),
        (410, 'The model m has been deprecated'),
        (404, 'The model has been deprecated'),
        (400, 'The model `m` has been decommissioned and is no longer supported.'),
        (400, 'model is required'),
        (301, b''),
        (308, b''),
        (405, b''),
        (404, b''),
        (404, b'404 page not found'),
    ],
    Kind.ACCOUNT_DAY: [
        (403, {'statusCode': 403, 'message': 'Out of call volume quota. Quota will be replenished in 12:01:22.'}),
    ],
    Kind.TRANSIENT: [
        (429, {'message': 'Model is not ready for inference. Wait and try your request again.'}),
        (429, {'error': {'code': 'NoCapacity', 'message': 'The system is currently experiencing high demand and cannot process your request.'}}),
        (429, {'detail': 'Infrastructure is at maximum capacity, try again later'}),
        (504, b'An error occurred with your deployment\n\nFUNCTION_INVOCATION_TIMEOUT\n'),
        (503, b'no healthy upstream'),
        (530, b'error code: 1033'),
        (403, b'error code: 1020'),
        (200, {'error_code': 18, 'error_msg': 'Open api qps request limit reached'}),
        (400, {'message': 'Please load your model first'}),
        (500, {'error': {'message': 'EngineCore encountered an issue. See stack trace (above) for the root cause.', 'type': 'InternalServerError'}}),
        (503, {'error': {'message': 'Loading model', 'type': 'unavailable_error', 'code': 503}}),
        (500, {'error': {'message': 'The model produced output that does not match the expected peg-native format', 'type': 'server_error', 'code': 500}}),
        (500, {'error': {'message': 'litellm.InternalServerError: InternalServerError: OpenAIException - Connection error.. Received Model Group=dead', 'code': '500'}}),
        (500, b'Internal Server Error'),
        (503, 'Engine is overloaded'),
        (529, 'Overloaded'),
        (503, 'Service Unavailable'),
        (400, 'The server is busy, please try again later'),
        (500, 'CUDA out of memory'),
        (400, 'Model is loading'),
        (503, {'error': 'Model x is currently loading', 'estimated_time': 20.0}),
        (424, 'Failed dependency'),
        (408, 'Request timeout'),
        (499, 'client closed request'),
        (520, b''),
        (521, b''),
        (522, b''),
        (523, b''),
        (524, b''),
        (525, b''),
        (526, b''),
        (530, b''),
        (500, b''),
        (502, b'<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>'),
        (503, b'<html><body><h1>503 Service Unavailable</h1>No server is available to handle this request.</body></html>'),
        (504, b'<html><head><title>504 Gateway Time-out</title></head></html>'),
        (502, b'Bad Gateway'),
        (503, b'no available server'),
        (403, b'<!DOCTYPE html><html><head><title>Just a moment...</title></head></html>'),
        (403, b'error code: 1015'),
        (429, b'error code: 1015'),
        (503, b'upstream connect error or disconnect/reset before headers. reset reason: connection failure'),
        (500, b'no healthy upstream'),
        (503, b'no healthy upstream'),
        (502, {'message': 'An invalid response was received from the upstream server'}),
        (460, b''),
        (561, b''),
        (502, b'error code: 502'),
        (500, 'model runner has unexpectedly stopped, this may be due to resource limitations'),
        (500, 'llama runner process has terminated: exit status 2'),
        (500, 'llama runner process no longer running'),
        (503, 'server busy, please try again.  maximum pending requests exceeded'),
        (400, 'KV cache is full'),
        (400, 'failed to decode the batch: KV cache is full - try increasing it via the context size'),
        (503, 'All workers are busy'),
        (400, 'No slots available'),
        (503, 'slot unavailable'),
        (400, 'The operation was aborted'),
        (500, 'The operation was canceled.'),
        (424, {'error': 'Request failed during generation: Server error: CUDA error', 'error_type': 'generation'}),
        (503, 'The request exceeded the capacity of the server'),
        (400, 'Request was cancelled'),
    ],
    Kind.ACCOUNT_FATAL: [
        (429, {'error': {'message': 'You exceeded your current token quota: 0, please check your account balance', 'type': 'exceeded_current_quota_error'}}),
        (429, {'error': {'code': '1113', 'message': '余额不足或无可用资源包,请充值。'}}),
        (400, {'error': {'message': 'Organization has been restricted. Please reach out to support if you believe this was in error.', 'code': 'organization_restricted'}}),
        (412, {'error': {'message': 'Account x is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices.', 'code': 'PRECONDITION_FAILED'}}),
        (429, {'error': {'code': '1113', 'message': '您的账户已欠费，请充值后重试'}}),
        (429, {'error': {'message': 'Your account x is suspended, please check your plan and billing details', 'type': 'exceeded_current_quota_error'}}),
        (401, {'error': {'message': 'Invalid API Key', 'type': 'authentication_error', 'code': 401}}),
        (402, 'Insufficient Balance'),
        (429, {'error': {'message': 'You exceeded your current quota, please check your plan and billing details.', 'type': 'insufficient_quota', 'code': 'insufficient_quota'}}),
        (403, 'Your account balance is insufficient'),
        (429, {'error': {'message': 'Your account is not active, please check your billing details on our website.', 'type': 'billing_not_active', 'code': 'billing_not_active'}}),
        (400, 'Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing'),
        (429, {'error': {'message': 'Insufficient balance or no resource package. Please recharge.', 'code': '1113'}}),
        (400, {'error': {'message': 'Access denied, please make sure your account is in good standing. Arrearage', 'code': 'Arrearage'}}),
        (403, {'error': {'message': 'AllocationQuota.FreeTierOnly: The free tier of the model has been exhausted', 'code': 'AllocationQuota.FreeTierOnly'}}),
        (402, 'You have exceeded your monthly included credits for Inference Providers. Subscribe to PRO'),
        (401, {'detail': 'Unauthorized'}),
        (401, {'error': 'Unauthorized'}),
        (401, b''),
        (401, {'message': 'Invalid authentication credentials'}),
        (400, 'Invalid API key provided'),
        (400, 'Incorrect API key provided: sk-xx'),
        (400, 'invalid x-api-key'),
        (403, 'invalid api token'),
        (403, 'Forbidden'),
    ],
    Kind.SAFETY: [
        (400, {'error': {'code': '1301', 'message': '系统检测到输入或生成内容可能包含不安全或敏感内容'}}),
        (400, {'error': {'message': '图片内容违规', 'code': 'InvalidParameter'}}),
        (400, {'error': {'message': 'bad request: prompt pattern is blocked'}}),
        (400, {'type': 'error', 'error': {'type': 'invalid_request_error', 'message': 'Output blocked by content filtering policy'}}),
        (400, {'error': {'message': 'litellm.ContentPolicyViolationError: AzureException - The response was filtered', 'code': '400'}}),
        (400, "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."),
        (400, 'Your request was rejected as a result of our safety system.'),
        (400, 'Image may contain sensitive content'),
        (400, 'input image may contain inappropriate content'),
        (400, 'Input data may contain inappropriate content. DataInspectionFailed'),
        (400, 'data_inspection_failed'),
        (403, 'The request was blocked by content moderation'),
        (400, 'Content violates usage policies'),
        (400, 'system detected potentially unsafe or sensitive content in input'),
        (400, 'Content Exists Risk'),
        (400, 'The image you uploaded was flagged as potentially unsafe'),
        (451, 'Unavailable for legal reasons: content blocked'),
        (400, 'This content may violate our usage policies.'),
        (400, 'Prohibited content detected'),
        (400, 'The request was rejected because it was considered high risk'),
        (400, 'content_policy_violation'),
        (400, 'request blocked by guardrail'),
        (400, 'nsfw content detected'),
        (422, 'Unsafe content detected'),
        (400, 'responsible AI policy violation: ResponsibleAIPolicyViolation'),
        (400, 'Request contains unsafe content'),
        (400, 'risk_control: 1301'),
        (400, 'Input image was rejected by the moderation system'),
        (403, 'SafetyCheckError: image contains explicit content'),
    ],
    Kind.UPSTREAM: [
        (429, 'The model is currently overloaded. Please try again later.'),
        (429, 'Model is overloaded'),
        (429, {'error': 'Model is overloaded', 'error_type': 'overloaded'}),
        (429, 'Too many requests'),
        (429, [{'error': {'code': 429, 'message': 'You exceeded your current quota, please check your plan and billing details.', 'status': 'RESOURCE_EXHAUSTED'}}]),
    ],
    Kind.TOO_LARGE: [
        (413, b''),
        (413, b'<html><head><title>413 Request Entity Too Large</title></head></html>'),
        (413, 'Request too large'),
        (400, 'Request payload size exceeds the limit: 20971520 bytes.'),
        (400, 'request body too large'),
        (422, 'Payload Too Large'),
        (400, 'http: request body too large'),
        (413, {'detail': 'Request body too large'}),
        (400, 'Body exceeded 1mb limit'),
        (413, b'Payload reached size limit.'),
        (413, {'error': 'Request size (30MB) exceeds maximum'}),
        (500, {'message': 'request entity too large', 'type': 'entity.too.large'}),
        (400, 'Maximum request body size 4194304 exceeded, actual body size 5000000'),
    ],
    Kind.BAD_REQUEST: [
        (400, 'invalid request'),
        (422, {'detail': [{'loc': ['body', 'messages', 0, 'content', 1], 'msg': 'field required', 'type': 'value_error.missing'}]}),
        (400, "I can't help with that"),
    ],
}  # fmt: skip

#: Words, images in the request -> the most that the service takes; None: the words are about something else.
MANY: list[tuple[str, int, int | None]] = [
    ('You uploaded 16 images, but the maximum allowed is 5', 16, 5),
    ('Too many images in request: 16 (max 5)', 16, 5),
    ('Only one image is supported per request', 16, 1),
    ('This model does not support multiple images', 16, 1),
    ('multi-image input is not supported by this model', 16, 1),
    ('Number of images (16) exceeds the limit of 10', 16, 10),
    ('images: at most 10 items allowed, got 16', 16, 10),
    ('messages: image count exceeds maximum of 4 images per prompt', 16, 4),
    ('The number of image_url parts must be less than or equal to 8', 16, 8),
    ('num images 16 exceeds max_images 3', 16, 3),
    ('max 20 images', 32, 20),
    ('a maximum of 5 images is supported, you provided 16', 16, 5),
    ('This model supports up to 5 images per request. You sent 16.', 16, 5),
    ('Request contains 16 images, limit is 5', 16, 5),
    ('Expected at most 5 images, got 16', 16, 5),
    ('Please provide only one image at a time', 16, 1),
    ('limit_mm_per_prompt: at most 1 image', 16, 1),
    ('You may only send 4 images', 16, 4),
    ('cannot process more than 2 images', 16, 2),
    ('image 3 of 16 could not be decoded', 16, None),
    ('image at index 5 is larger than 5 MB', 16, None),
    ('the image exceeds the maximum size of 5 MB', 16, None),
    ('image dimensions exceed max allowed size: 8000 pixels', 16, None),
    ('images.3: image exceeds 5 MB maximum: 6291456 bytes > 5242880 bytes', 16, None),
    ('Sie haben 16 Bilder; images limit: 10', 16, 10),
    ('exceeded max number of images (6)', 16, 6),
    ('content: List should have at most 3 images', 16, 3),
    ('image_url count 16 > 9', 16, 9),
    ('Too many image attachments. Max: 5', 16, 5),
    ('The model accepts a maximum of two images.', 16, 2),
    ('at most ten images are allowed', 16, 10),
    ('This image cannot be processed. Only JPEG, PNG, GIF and WebP images up to 20 MB are supported', 16, None),
    ('image limit exceeded: 16/7', 16, 7),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [(kind, *case) for kind, cases in CORPUS.items() for case in cases],
)
def test_the_class_of_what_services_write(kind: Kind, status: int, said: Any) -> None:
    """Whatever the status says."""
    value = {"error": {"message": said}} if isinstance(said, str) else said
    body = said if isinstance(said, bytes) else json.dumps(value).encode()
    reply = Reply(status=status, headers={}, body=body, latency_ms=1, at=0)

    assert classify(reply, now=0.0)[0].kind is kind


@pytest.mark.parametrize(("said", "count", "limit"), MANY)
def test_how_many_images_a_request_may_hold(said: str, count: int, limit: int | None) -> None:
    """By the words alone."""
    assert images_allowed(said, count) == limit


@pytest.mark.parametrize(
    "said",
    [
        "max_tokens is too large: 4864. This model supports at most 4096 completion tokens",
        "max_tokens=4864 cannot be greater than max_model_len=4096",
        "Invalid max_tokens value, the valid range of max_tokens is [1, 4096]",
    ],
)
def test_a_pack_that_asks_for_too_long_an_answer_is_halved(said: str) -> None:
    """`max_tokens` of a pack is that of all its images."""
    assert images_allowed(said, 16) == 8


def whole(message: Any, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish, "message": message}
    return {"choices": [choice], **more}


_CAT = whole({"content": "A cat."})
_DONE = b"data: [DONE]\n\n"
#: Bodies under 200 that all say "A cat.".
BODIES: dict[str, Any] = {
    "parts": whole({"content": [{"type": "text", "text": "A cat."}]}),
    "a part": whole({"content": {"type": "text", "text": "A cat."}}),
    "texts": whole({"content": ["A cat."]}),
    "thinking part": whole({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "A cat."}]}),
    "text of a choice": {"choices": [{"finish_reason": "stop", "text": "A cat."}]},
    "delta of a choice": {"choices": [{"finish_reason": "stop", "delta": {"content": "A cat."}}]},
    "inside data": {"data": _CAT},
    "inside output": {"output": _CAT},
    "in a list": [_CAT],
    "Ollama's own": {"message": {"role": "assistant", "content": "A cat."}, "done": True, "done_reason": "stop"},
    "Cloudflare's own": {"result": {"response": "A cat."}, "success": True, "errors": []},
    "no error": {**_CAT, "error": None},
    "empty error": {**_CAT, "error": {}},
    "false error": {**_CAT, "error": False, "message": "ok"},
    "JSON in a text": json.dumps(json.dumps(_CAT)).encode(),
    "record separator": b"\x1e" + json.dumps(_CAT).encode(),
    "guarded": b")]}',\n" + json.dumps(_CAT).encode(),
    "UTF-16": json.dumps(_CAT).encode("utf-16"),
    "UTF-32": json.dumps(_CAT).encode("utf-32"),
    "stream with ids": b'id: 1\nevent: x\ndata: {"choices":[{"delta":{"content":"A cat."},"finish_reason":"stop"}]}\n\n' + _DONE,
    "stream with retry": b'retry: 3000\n\ndata: {"choices":[{"message":{"content":"A cat."},"finish_reason":"stop"}]}\n\n' + _DONE,
    "stream of the whole at its end": b'data: {"choices":[{"delta":{"content":"A cat."}}]}\n\ndata: {"choices":[{"message":{"content":"A cat."},"finish_reason":"stop"}]}\n\n',
    "stream of parts": b'data: {"choices":[{"delta":{"content":[{"type":"text","text":"A cat."}]},"finish_reason":"stop"}]}\n\n' + _DONE,
    "stream of texts": b'data: {"choices":[{"text":"A cat.","finish_reason":"stop"}]}\n\n' + _DONE,
    "stream of two answers": b'data: {"choices":[{"index":1,"delta":{"content":"A dog."}}]}\n\ndata: {"choices":[{"index":0,"delta":{"content":"A cat."},"finish_reason":"stop"}]}\n\n' + _DONE,
    "stream with data over lines": b'data: {"choices":[{"delta":\ndata: {"content":"A cat."},"finish_reason":"stop"}]}\n\n' + _DONE,
    "stream with pings": b'event: ping\ndata: {}\n\n: keep-alive\n\ndata: {"choices":[{"delta":{"content":"A cat."},"finish_reason":"stop"}]}\n\n' + _DONE,
    "stream with its usage last": b'data: {"choices":[{"delta":{"content":"A cat."},"finish_reason":"stop"}]}\n\ndata: {"choices":[],"usage":{}}\n\n' + _DONE,
    "words behind it": json.dumps(_CAT).encode() + b"\n\nOK",
    "a page behind it": json.dumps(_CAT).encode() + b"<script>x()</script>",
    "a script's call": b"callback(" + json.dumps(_CAT).encode() + b");",
    "Responses": {"object": "response", "output": [{"type": "reasoning", "summary": []}, {"type": "message", "content": [{"type": "output_text", "text": "A cat."}]}]},
    "Anthropic's own": {"type": "message", "content": [{"type": "text", "text": "A cat."}], "stop_reason": "end_turn"},
    "Gemini's own": {"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}, {"text": "A cat."}]}, "finishReason": "STOP"}]},
    "Bedrock's own": {"output": {"message": {"content": [{"text": "A cat."}]}}, "stopReason": "end_turn"},
    "Cohere's own": {"finish_reason": "COMPLETE", "message": {"content": [{"type": "text", "text": "A cat."}]}},
    "TGI's own": [{"generated_text": "A cat."}],
    "Replicate's own": {"status": "succeeded", "error": None, "output": ["A ", "cat."]},
    "llama.cpp's own": {"content": "A cat.", "stop": True, "stop_type": "eos"},
    "a text in an object": whole({"content": [{"type": "text", "text": {"value": "A cat."}}]}),
    "a finish word in an object": whole({"content": "A cat."}, {"type": "stop"}),
    "JSON lines": b'{"choices":[{"delta":{"content":"A "}}]}\n{"choices":[{"delta":{"content":"cat."},"finish_reason":"stop"}]}\n',
    "Ollama's lines": b'{"message":{"content":"A "},"done":false}\n{"message":{"content":"cat."},"done":true,"done_reason":"stop"}\n',
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_paid_answer_is_read_in_whatever_form(name: str) -> None:
    """Forms of gateways, of streams nobody asked for, of servers' own interfaces."""
    body = BODIES[name]
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = Reply(status=200, headers={}, body=data, latency_ms=1, at=0)

    verdict, completion = classify(reply, now=0.0)

    assert verdict.kind is Kind.OK
    assert not verdict.flags
    assert completion is not None
    assert completion.content == "A cat."


@pytest.mark.parametrize(
    "body",
    [
        b'{"message":{"content":"A "},"done":false}\n{"message":{"content":"ca',
        b'{"choices":[{"delta":{"content":"A "}}]}\n{"choices":[{"delta":{"content":"cat."}}]}\n',
        b'{\n"choices": [\n{"message": {"content": "A ca',
    ],
)
def test_lines_that_were_cut_are_no_answer(body: bytes) -> None:
    """Without an end nothing tells what is missing."""
    reply = Reply(status=200, headers={}, body=body, latency_ms=1, at=0)

    assert classify(reply, now=0.0)[0].kind is Kind.MALFORMED


#: What other interfaces say of half an answer, or of none.
UNFINISHED: dict[str, tuple[Kind, Any]] = {
    "Anthropic, cut": (Kind.TRUNCATED, {"type": "message", "content": [{"type": "text", "text": "A"}], "stop_reason": "max_tokens"}),
    "Anthropic, refused": (Kind.SAFETY, {"type": "message", "content": [], "stop_reason": "refusal"}),
    "Gemini, cut": (Kind.TRUNCATED, {"candidates": [{"content": {"parts": [{"text": "A"}]}, "finishReason": "MAX_TOKENS"}]}),
    "Gemini, safety": (Kind.SAFETY, {"candidates": [{"finishReason": "SAFETY"}]}),
    "Gemini, recitation": (Kind.SAFETY, {"candidates": [{"content": {}, "finishReason": "RECITATION"}]}),
    "Responses, cut": (Kind.TRUNCATED, {"output": [{"type": "message", "content": [{"type": "output_text", "text": "A"}]}], "incomplete_details": {"reason": "max_output_tokens"}}),
    "llama.cpp, cut": (Kind.TRUNCATED, {"content": "A", "stop": True, "stop_type": "limit"}),
    "a word in an object": (Kind.TRUNCATED, whole({"content": "A"}, {"type": "max_tokens"})),
    "a word by another name": (Kind.TRUNCATED, {"choices": [{"message": {"content": "A"}, "finish_details": {"type": "max_tokens"}}]}),
    "a refusal among the parts": (Kind.REFUSED, whole({"content": [{"type": "refusal", "refusal": "I cannot."}]})),
    "a refusal in pieces": (Kind.REFUSED, b'data: {"choices":[{"delta":{"refusal":"I cannot."},"finish_reason":"stop"}]}\n\n' + _DONE),
    "an error in the midst": (Kind.TRANSIENT, b'data: {"choices":[{"delta":{"content":"A "}}]}\n\nevent: error\ndata: {"message": "internal error"}\n\n'),
    "an error behind a piece": (Kind.TRANSIENT, b'data: {"choices":[{"delta":{"content":"A "}}]}\n\ndata: {"error": {"code": 502, "message": "disconnected"}}\n\n'),
    "a stream of thoughts": (Kind.NO_ROOM, b'data: {"choices":[{"delta":{"reasoning":"hm"},"finish_reason":"length"}]}\n\n' + _DONE),
    "another tool": (Kind.EMPTY, whole({"content": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"query": "cat"}'}}]}, "tool_calls")),
    "a crashed function": (Kind.TRANSIENT, {"errorType": "Runtime.ExitError", "errorMessage": "Runtime exited"}),
    "two answers": (Kind.MALFORMED, json.dumps(_CAT).encode() * 2),
    "lines without end": (Kind.MALFORMED, b"data: {\n" * 100_000),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFINISHED)
def test_half_an_answer_is_none_in_whatever_form(name: str) -> None:
    """Cut, refused, broken off, or not to be told from another."""
    kind, body = UNFINISHED[name]
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = Reply(status=200, headers={}, body=data, latency_ms=1, at=0)

    assert classify(reply, now=0.0)[0].kind is kind


def test_a_caption_that_was_given_to_a_tool_is_read() -> None:
    """Some models call one instead of answering."""
    call = {"function": {"name": "caption", "arguments": '{"caption": "A cat."}'}}
    body = whole({"content": None, "tool_calls": [call]}, "tool_calls")
    reply = Reply(status=200, headers={}, body=json.dumps(body).encode(), latency_ms=1, at=0)

    verdict, completion = classify(reply, now=0.0)

    assert verdict.kind is Kind.OK
    assert completion is not None
    assert caption_of(completion.content) == "A cat."


NOT_ANSWERED: list[tuple[Kind, dict[str, Any]]] = [
    (Kind.SAFETY, {"choices": [], "prompt_filter_results": [{"content_filter_results": {"hate": {"filtered": True}}}]}),
    (Kind.SAFETY, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
    (Kind.EMPTY, {"choices": [], "promptFeedback": {"safetyRatings": [{"filtered": False}]}}),
    (Kind.ACCOUNT_FATAL, {"base_resp": {"status_code": 1004, "status_msg": "login fail: please check api key"}, "choices": None}),
    (Kind.ACCOUNT_FATAL, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}, "choices": None}),
    (Kind.SAFETY, {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}, "choices": None}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body"), NOT_ANSWERED)
def test_a_200_without_an_answer_says_why(kind: Kind, body: dict[str, Any]) -> None:
    """Filters of Azure and Gemini, MiniMax's status."""
    reply = Reply(status=200, headers={}, body=json.dumps(body).encode(), latency_ms=1, at=0)

    assert classify(reply, now=0.0)[0].kind is kind


FINISHES = {
    Kind.OK: "eos_found stop_str done normal null None FINISH_REASON_STOP FinishReason.STOP",
    Kind.TRUNCATED: "FinishReason.MAX_TOKENS limit ERROR_LIMIT",
    Kind.SAFETY: "FinishReason.SAFETY ERROR_TOXIC refusal MODEL_ARMOR",
    Kind.TRANSIENT: "rate_limit ERROR USER_CANCEL engine_overloaded",
}


@pytest.mark.parametrize(
    ("kind", "word"), [(kind, word) for kind, text in FINISHES.items() for word in text.split()]
)
def test_finish_words_of_other_services(kind: Kind, word: str) -> None:
    """With enum prefixes and capitals."""
    body = json.dumps(whole({"content": "A cat."}, word)).encode()
    verdict, _ = classify(Reply(status=200, headers={}, body=body, latency_ms=1, at=0), now=0.0)

    assert (verdict.kind, verdict.flags) == (kind, ())


NOW = 1_800_000_000.0
WAITS: list[tuple[float | None, dict[str, str], Any]] = [
    (5, {"retry-after": "5s"}, None),
    (0.5, {"retry-after": "0.5"}, None),
    (120, {"retry-after": "Fri, 15 Jan 2027 08:02:00 GMT"}, None),
    (None, {"retry-after": "-1"}, None),
    (None, {"retry-after": "soon"}, None),
    (0.35, {"retry-after-ms": "350"}, None),
    (7, {"x-ratelimit-reset-after": "7"}, None),
    (60, {"x-ratelimit-reset-requests": "1m0s", "x-ratelimit-remaining-requests": "0"}, None),
    (30, {"x-ratelimit-reset-tokens": "30s", "x-ratelimit-remaining-tokens": "0"}, None),
    (None, {"x-ratelimit-reset-tokens": "30s", "x-ratelimit-remaining-tokens": "9"}, None),
    (20, {"ratelimit-reset": "20"}, None),
    (20, {"x-ratelimit-reset": "20"}, None),
    (42, {}, {"detail": "Rate limit exceeded. Try again in 42 seconds."}),
    (60, {}, "Please try again in 1 minute"),
    (432, {}, "Please try again in 7m12s."),
    (0.35, {}, "Please try again in 350ms."),
    (59, {}, {"message": "Expected available in 59 seconds."}),
    (5, {}, {"error": "Too many requests", "retry_after": 5}),
    (5, {}, {"error": {"message": "x", "retry_after": "5"}}),
    (30, {}, "Please wait 30 seconds before trying again"),
]


@pytest.mark.parametrize(("wait", "headers", "said"), WAITS)
def test_the_wait_that_is_told(wait: float | None, headers: dict[str, str], said: Any) -> None:
    """In headers and words of many services; nothing else is a wait."""
    value = {"error": {"message": said}} if isinstance(said, str) else said
    body = json.dumps(value or {"error": "slow down"}).encode()
    reply = Reply(
        status=429, headers=headers_kept(headers), body=body, latency_ms=1, at=int(NOW * 1e6)
    )

    assert classify(reply, now=NOW)[0].wait == wait


#: What `/models` says -> (name asked for, context, takes images).
LISTS: list[tuple[Any, str, int | None, bool]] = [
    ({"models": [{"name": "llava:7b", "model": "llava:7b"}]}, "llava:7b", None, True),
    ({"data": [{"id": "q", "max_context_length": 32768, "loaded_context_length": 4096}]}, "q", 4096, True),
    ({"data": [{"id": "q", "context_window": 8192}]}, "q", 8192, True),
    ({"data": [{"id": "p-2409", "aliases": ["p"], "capabilities": {"vision": True}}]}, "p", None, True),
    ({"data": [{"id": "q", "capabilities": {"vision": False}}]}, "q", None, False),
    ({"data": [{"id": "q", "input_modalities": ["text"]}]}, "q", None, False),
    ({"data": [{"id": "q", "supports_image_in": False}]}, "q", None, False),
    ({"data": [{"id": "q"}], "models": [{"name": "q", "capabilities": ["completion"]}]}, "q", None, False),
    ({"data": [{"id": "q"}], "models": [{"name": "q", "capabilities": ["completion", "multimodal"]}]}, "q", None, True),
    ({"models": [{"name": "models/g", "inputTokenLimit": 1048576}]}, "g", 1048576, True),
    ({"data": [{"id": "g"}]}, "models/g", None, True),
    (["q", "r"], "r", None, True),
    ({"data": {"q": {"id": "q"}}}, "q", None, True),
]  # fmt: skip


@pytest.mark.parametrize(("body", "name", "context", "sees"), LISTS)
def test_lists_of_models_of_many_servers(
    body: Any, name: str, context: int | None, sees: bool
) -> None:
    """Ollama's, LM Studio's, Groq's, Mistral's, llama.cpp's, Google's own."""
    model = named(models_of(body), name)

    assert model is not None
    assert (model.context, model.takes_images) == (context, sees)
