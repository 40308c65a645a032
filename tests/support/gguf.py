"""Tiny models for llama.cpp, written anew for each test run: a few MB, no download.

`chain` is a Markov chain in the form of a Llama: attention and feed-forward are zero and the
embedding is one-hot, so that the output matrix alone says which token follows which. It speaks
sentences that are chosen here, and JSON where a grammar asks for it. `projector` is a vision
tower of two layers with random weights, 16 tokens a picture.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

EMBED, HEADS, FORWARD, CONTEXT = 512, 8, 64, 8192
_ALIGN = 32
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for p in m.content %}{{ p.text if p.type != 'image' else '<image>' }}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SENTENCE = "A quiet street, wet and grey."
#: Pieces of what is said first; and of JSON, where only that is allowed.
PLAIN = ("▁A", "▁quiet", "▁street,", "▁wet", "▁and", "▁grey.")
PACKED = (
    '{"captions":[',
    *(f'{{"image":{n},"caption":"picture▁{n}"}}{"," * (n < 4)}' for n in range(1, 5)),
    "]}",
)

Tensors = dict[str, np.ndarray[Any, Any]]


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: object) -> bytes:
    """A value with its type: bool, int and float (32 bits; signed in lists), text, or a list of one of these."""
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + _text(value)
        case list():
            signed = [isinstance(each, int) and not isinstance(each, bool) for each in value]
            entries = [
                struct.pack("<Ii", 5, each) if number else _value(each)
                for each, number in zip(value, signed, strict=True)
            ]
            inner = entries[0][:4]
            return (
                struct.pack("<I", 9)
                + inner
                + struct.pack("<Q", len(value))
                + b"".join(each[4:] for each in entries)
            )
    raise TypeError(value)


def write_gguf(path: Path, facts: Mapping[str, object], tensors: Tensors) -> Path:
    """A GGUF file of 32-bit floats."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(facts))
    head += b"".join(_text(name) + _value(value) for name, value in facts.items())
    data = b""
    for name, tensor in tensors.items():
        head += _text(name) + struct.pack("<I", tensor.ndim)
        head += struct.pack(f"<{tensor.ndim}Q", *reversed(tensor.shape)) + struct.pack(
            "<IQ", 0, len(data)
        )
        body = tensor.astype("<f4").tobytes()
        data += body + bytes(-len(body) % _ALIGN)
    path.write_bytes(head + bytes(-len(head) % _ALIGN) + data)
    return path


def chain(path: Path, *, space_prefix: bool = False, packed: bool = False) -> Path:
    """The model. space_prefix: as the tokenizers of Llama 2 and Vicuna, with which llama.cpp refuses
    every `response_format`. packed: it says JSON unasked."""
    tokens = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<image>"]
    kinds = [2, 3, 3, 3, 3, 3]  # unknown, control
    first_byte, end = len(tokens), tokens.index("<|im_end|>")
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    kinds += [6] * 256
    scores = np.zeros((EMBED, EMBED), np.float32)  # [next, current]
    for pieces, weight in ((PLAIN, 10.0), (PACKED, 20.0 if packed else 5.0)):
        ids = list(range(len(tokens), len(tokens) + len(pieces)))
        tokens += pieces
        kinds += [1] * len(pieces)
        scores[ids[0], first_byte + ord("\n")] = weight  # the template ends with a line break
        for this, following in zip(ids, [*ids[1:], end], strict=True):
            scores[following, this] = 20.0
    count, name = len(tokens), "llama"
    facts: dict[str, object] = {
        "general.architecture": name,
        "general.name": "tiny chain",
        f"{name}.context_length": CONTEXT,
        f"{name}.embedding_length": EMBED,
        f"{name}.block_count": 1,
        f"{name}.feed_forward_length": FORWARD,
        f"{name}.attention.head_count": HEADS,
        f"{name}.attention.head_count_kv": HEADS,
        f"{name}.attention.layer_norm_rms_epsilon": 1e-6,
        f"{name}.vocab_size": count,
        f"{name}.rope.dimension_count": EMBED // HEADS,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": list(tokens),
        "tokenizer.ggml.scores": [0.0] * count,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": end,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": space_prefix,
        "tokenizer.chat_template": _TEMPLATE,
    }
    zero = {
        **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (EMBED, EMBED)),
        "ffn_gate": (FORWARD, EMBED),
        "ffn_up": (FORWARD, EMBED),
        "ffn_down": (EMBED, FORWARD),
    }
    ones = np.ones(EMBED, np.float32)
    tensors: Tensors = {
        "token_embd.weight": np.eye(count, EMBED, dtype=np.float32),
        "output.weight": scores[:count] / np.sqrt(EMBED),
        "output_norm.weight": ones,
        **{f"blk.0.{part}.weight": np.zeros(shape, np.float32) for part, shape in zero.items()},
        **{f"blk.0.{part}.weight": ones for part in ("attn_norm", "ffn_norm")},
    }
    return write_gguf(path, facts, tensors)


def projector(path: Path, *, vision: bool = True) -> Path:
    """A LLaVA-like projector. vision: False: one for sound, by what its head says."""
    width, forward, size, patch, layers = 64, 128, 56, 14, 2
    rng = np.random.default_rng(3)
    facts: dict[str, object] = {
        "general.architecture": "clip",
        "clip.has_vision_encoder": vision,
        "clip.projector_type": "mlp",
        "clip.use_gelu": True,
        "clip.vision.image_size": size,
        "clip.vision.patch_size": patch,
        "clip.vision.embedding_length": width,
        "clip.vision.feed_forward_length": forward,
        "clip.vision.block_count": layers,
        "clip.vision.projection_dim": EMBED,
        "clip.vision.attention.head_count": 4,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.image_mean": [0.5] * 3,
        "clip.vision.image_std": [0.5] * 3,
    }
    shapes: dict[str, tuple[int, ...]] = {
        "v.patch_embd.weight": (width, 3, patch, patch),
        "v.class_embd": (width,),
        "v.position_embd.weight": ((size // patch) ** 2 + 1, width),
        **{
            f"v.{part}.{kind}": (width,)
            for part in ("pre_ln", "post_ln")
            for kind in ("weight", "bias")
        },
        "mm.0.weight": (EMBED, width),
        "mm.0.bias": (EMBED,),
        "mm.2.weight": (EMBED, EMBED),
        "mm.2.bias": (EMBED,),
    }
    for layer in range(layers):
        parts = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_out"), (width, width))
        for part, shape in {
            **parts,
            "ffn_up": (forward, width),
            "ffn_down": (width, forward),
        }.items():
            shapes[f"v.blk.{layer}.{part}.weight"] = shape
            shapes[f"v.blk.{layer}.{part}.bias"] = shape[:1]
        for part in ("ln1", "ln2"):
            shapes |= {f"v.blk.{layer}.{part}.{kind}": (width,) for kind in ("weight", "bias")}
    tensors = {
        name: np.ones(shape)
        if "ln" in name and name.endswith("weight")
        else rng.standard_normal(shape) * 0.05
        for name, shape in shapes.items()
    }
    return write_gguf(path, facts, tensors)
