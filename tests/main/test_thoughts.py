"""Thoughts and wrappers that models put round an answer: the answer alone is the caption."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.captioning.answer import answer_of
from pipeline.captioning.caption_text import caption_of
from tests.support.command import RequestResult, pipeline
from tests.support.gateways import Gateway, gateway, images_in, reply
from tests.support.pictures import folder_of

CAPTION = "A boat on a lake."
WRAPPED = [
    f"<think>Water. A boat?\n</think>\n\n{CAPTION}",
    f"Water. A boat?\n</think>\n\n{CAPTION}",
    f"[THINK]Water.[/THINK]{CAPTION}",
    f"<thinking>Water.</thinking> {CAPTION}",
    f"<seed:think>Water.</seed:think>{CAPTION}",
    f"◁think▷Water.◁/think▷{CAPTION}",
    f"<|channel|>analysis<|message|>Water.<|end|><|start|>assistant<|channel|>final<|message|>{CAPTION}<|return|>",
    f"<|channel>thought\nWater.<channel|>{CAPTION}",
    f"<|START_THINKING|>Water.<|END_THINKING|><|START_RESPONSE|>{CAPTION}<|END_RESPONSE|>",
    f"<think></think>\n<|begin_of_box|>{CAPTION}<|end_of_box|>",
    f"<think>Water.</think><answer>{CAPTION}</answer>",
    f"{CAPTION}<|im_end|>",
    f"<|im_start|>assistant\n{CAPTION}<|im_end|>",
    f"{CAPTION}</s>",
    f"Sure! Here is a caption for the image:\n\n{CAPTION}",
    f"Here's a one-sentence description of the picture: {CAPTION}",
    f'<think>Water.</think>"{CAPTION}"',
    f"<think >Water.</think >{CAPTION}",
    f"<think>Water.</think>\n---\n{CAPTION}",
    f"<longcat_think>Water.</longcat_think>{CAPTION}",
    f"<mm:think>Water.</mm:think>{CAPTION}",
    f"<|thought|>Water.<|/thought|>{CAPTION}",
    f"<scratchpad>Water.</scratchpad>{CAPTION}",
    f'<details type="reasoning"><summary>Thought for 3 s</summary>Water.</details>{CAPTION}',
    f"analysisThe user wants a caption.assistantfinal{CAPTION}",
    f"<reasoning>Water.</reasoning><final_answer>{CAPTION}</final_answer>",
    f"<caption>\n{CAPTION}\n</caption>",
    f"{CAPTION}<|user|>",
    f"{CAPTION}[|endofturn|]",
    f"<|assistant|>\n{CAPTION}",
    f'<|channel|>final <|constrain|>json<|message|>{{"caption": "{CAPTION}"}}',
    f"<seed:cot_budget_reflect>Water.</seed:cot_budget_reflect>{CAPTION}",
    f'<think lang="en">Water.</think>{CAPTION}',
    f"<cot>Water.</cot>{CAPTION}",
    f"<visual_reasoning>Water.</visual_reasoning>\n{CAPTION}",
    f"<reasoning>Water.</reasoning><CONCLUSION>{CAPTION}</CONCLUSION>",
    f"<caption>\n{CAPTION}\n</caption>\n\nLet me know if you need more!",
    f"<result>{CAPTION}</result>",
    f"Thinking...\nWater.\n...done thinking.\n\n{CAPTION}",
    f"**Thinking**\n\nWater.\n\n**Answer**\n\n{CAPTION}",
    f"Reasoning: Water.\nCaption: {CAPTION}",
    f"&lt;think&gt;Water.&lt;/think&gt;{CAPTION}",
    f"<|begin_of_text|><|start_header_id|>assistant<|end_header_id|>\n\n{CAPTION}<|eot_id|>",
    f"{CAPTION}<|im_end|>\n<|im_start|>user\nWhat else?",
    f"{CAPTION}<pad><pad>",
    f"<｜Assistant｜>{CAPTION}<｜end▁of▁sentence｜>",
    f"<|vision_start|><|image_pad|><|vision_end|>{CAPTION}",
    f"<|start_of_role|>assistant<|end_of_role|>{CAPTION}<|end_of_text|>",
    f"[BOS]{CAPTION}[EOS]",
    f"/no_think\n{CAPTION}",
]
CAPTIONS = [
    'A sign that reads "</think>" on a door.',
    "Sure footing on a wet rock: a goat.",
    "Here is a sign: Keep out.",
    "Okay, a road sign, stands by a road.",
    "A diagram with <answer> and <b>bold</b> text, then a [1] mark.",
    "Of course!",
    "analysis of a painting on a wall",
    "analysis2024 is written on the assistantfinal",
    "A web page with <details> and <summary> in its source.",
    "A sign: <caption> missing.",
]


def run(folder: Path, content: str, images: int, packs: int, finish: str = "stop") -> Any:
    """The command's end, what was asked, and the rows of records."""

    def answer(to: socket.socket, body: bytes) -> None:
        choice = {"finish_reason": finish, "message": {"content": content}}
        to.sendall(reply("", choices=[choice]))

    manifest = folder_of(folder, images)
    with gateway(answer) as service:
        job = folder / "job.yaml"
        job.write_text(
            f"manifest: {{path: {manifest}}}\n"
            f"endpoint: {{profile: vllm, model: m, base_url: {service.base}}}\n"
            f"packing: {{images_per_request: {packs}}}\n"
            f"output: {{path: {folder}/out}}\nrun: {{min_free: 1MB}}\n"
        )
        ended = pipeline("run", job, "--json")
    rows = [
        row
        for part in (*folder.glob("out/captions/*.parquet"), *folder.glob("out/failures/*.parquet"))
        for row in pq.read_table(part).to_pylist()
    ]
    found: tuple[RequestResult, Gateway, list[dict[str, Any]]] = ended, service, rows
    return found


@pytest.mark.parametrize("content", WRAPPED)
def test_the_answer_is_what_remains(content: str) -> None:
    """Whatever stood around it."""
    answer = answer_of(content)

    assert caption_of(content) == CAPTION
    assert not answer.unfinished


@pytest.mark.parametrize("content", CAPTIONS)
def test_a_caption_that_only_resembles_a_wrapper_stays(content: str) -> None:
    """What a picture shows may look like a mark."""
    assert answer_of(content).text == content


def test_the_caption_is_the_answer_and_the_raw_text_stays(tmp_path: Path) -> None:
    """As a user finds it in the records."""
    ended, service, rows = run(tmp_path, WRAPPED[0], 1, 1)

    assert (ended.code, len(service.asked)) == (0, 1)
    assert rows[0]["caption"] == CAPTION
    assert rows[0]["caption_raw"] == WRAPPED[0]


@pytest.mark.parametrize("opening", ["<think>", "", "[THINK]"])
def test_a_pack_is_what_follows_the_draft(tmp_path: Path, opening: str) -> None:
    """The thought holds the form that was asked for as well, with other words."""
    draft, last = (
        json.dumps({"captions": [{"image": n, "caption": f"{word} {n}."} for n in (1, 2, 3)]})
        for word in ("Draft", "Boat")
    )
    closing = "[/THINK]" if opening == "[THINK]" else "</think>"
    ended, service, rows = run(
        tmp_path, f"{opening}Perhaps {draft}?{closing}\n```json\n{last}\n```", 3, 3
    )

    assert (ended.code, len(service.asked)) == (0, 1)
    assert {row["caption"] for row in rows} == {"Boat 1.", "Boat 2.", "Boat 3."}
    assert images_in(service.asked[0]) == 3


@pytest.mark.parametrize("finish", ["stop", "length"])
@pytest.mark.parametrize("content", ["<think>Water, and then", "<|channel|>analysis<|message|>Wat"])
def test_a_thought_without_an_end_is_no_caption(tmp_path: Path, content: str, finish: str) -> None:
    """One request, and the remedy."""
    ended, service, rows = run(tmp_path, content, 1, 1, finish)

    assert (ended.code, len(service.asked)) == (1, 1)
    assert rows[0]["caption"] is None
    assert rows[0]["error_code"] == "truncated"
    assert "max_tokens" in rows[0]["error"]
    assert rows[0]["caption_raw"] == content
