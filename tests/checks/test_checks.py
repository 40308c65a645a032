"""Each check against captions in the words of real models' habits: precision and recall."""

from __future__ import annotations

import pytest

from pipeline.captioning.prompt_format import pack_instruction
from pipeline.checks.checks import Checks
from pipeline.checks.settings import ChecksSettings, LanguageSettings
from tests.checks.examples import FALSE, GOOD, TRUE

PROMPT = "Describe this image in one or two sentences."
CHECKS = Checks(
    ChecksSettings(language=LanguageSettings(languages=["en"])),
    [PROMPT, pack_instruction(PROMPT, 8)],
)
ENGLISH = [caption for caption in GOOD if caption.isascii() and not caption.startswith("Un ")]


@pytest.mark.parametrize("name", CHECKS.table)
def test_precision_and_recall(name: str) -> None:
    """At least 0.9 each, over at least 20 captions that it is for and 20 that it must leave alone."""
    false = [*FALSE[name], *(ENGLISH if name == "language" else GOOD)]
    caught = [caption for caption in TRUE[name] if name in CHECKS.of(caption)]
    wrong = [caption for caption in false if name in CHECKS.of(caption)]
    precision, recall = len(caught) / (len(caught) + len(wrong)), len(caught) / len(TRUE[name])

    print(
        f"{name}: precision {precision:.3f}, recall {recall:.3f}, {len(TRUE[name])} and {len(false)}"
    )
    for caption in {*TRUE[name]} - {*caught}:
        print(f"  missed: {caption!r}")
    for caption in wrong:
        print(f"  wrongly: {caption!r}")
    assert len(TRUE[name]) >= 20
    assert len(false) >= 20
    assert precision >= 0.9
    assert recall >= 0.9
