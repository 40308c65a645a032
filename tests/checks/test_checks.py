"""Each check against captions in the words of real models' habits: precision and recall."""

from __future__ import annotations

from types import ModuleType

import pytest

from pipeline.captioning.prompt_format import pack_instruction
from pipeline.checks.checks import Checks
from pipeline.checks.settings import ChecksSettings, LanguageSettings
from tests.checks import holdout, languages, unseen
from tests.checks.examples import FALSE, GOOD, TRUE

PROMPT = "Describe this image in one or two sentences."
CHECKS = Checks(
    ChecksSettings(language=LanguageSettings(languages=["en"])),
    [PROMPT, pack_instruction(PROMPT, 8)],
)
ENGLISH = [caption for caption in GOOD if caption.isascii() and not caption.startswith("Un ")]


def measure(name: str, true: list[str], false: list[str], least: int = 20) -> None:
    """Print precision and recall of a check; AssertionError below 0.9."""
    caught = [caption for caption in true if name in CHECKS.of(caption)]
    wrong = [caption for caption in false if name in CHECKS.of(caption)]
    precision, recall = len(caught) / (len(caught) + len(wrong)), len(caught) / len(true)

    print(f"{name}: precision {precision:.3f}, recall {recall:.3f}, {len(true)} and {len(false)}")
    for caption in {*true} - {*caught}:
        print(f"  missed: {caption!r}")
    for caption in wrong:
        print(f"  wrongly: {caption!r}")
    assert len(true) >= least
    assert len(false) >= least
    assert precision >= 0.9
    assert recall >= 0.9


@pytest.mark.parametrize("name", CHECKS.table)
def test_precision_and_recall(name: str) -> None:
    """At least 0.9 each, over at least 20 captions that it is for and 20 that it must leave alone."""
    false = [*FALSE[name], *(ENGLISH if name == "language" else GOOD)]
    measure(name, TRUE[name], false)


@pytest.mark.parametrize("name", CHECKS.table)
@pytest.mark.parametrize("captions", [holdout, unseen], ids=["holdout", "unseen"])
def test_other_sets_of_captions(name: str, captions: ModuleType) -> None:
    """The same for words that the patterns were not made with."""
    good = [c for c in captions.GOOD if name != "language" or not c.startswith("Ein ")]
    measure(name, captions.TRUE[name], [*captions.FALSE[name], *good])


@pytest.mark.parametrize("name", unseen.LATER_TRUE)
@pytest.mark.parametrize("true", [unseen.LATER_TRUE, unseen.LAST_TRUE], ids=["later", "last"])
def test_captions_written_after_a_mend(name: str, true: dict[str, list[str]]) -> None:
    """The same for three checks whose patterns were mended by what was missed of the set before."""
    false = [*unseen.LATER_FALSE[name], *holdout.GOOD, *GOOD, *unseen.GOOD]
    measure(name, true[name], false)


@pytest.mark.parametrize("name", languages.TRUE)
def test_captions_in_other_languages(name: str) -> None:
    """How sentences end without blanks and full stops, and what is said to a reader."""
    whole = languages.GOOD if name != "language" else ENGLISH
    measure(name, languages.TRUE[name], whole, least=10)
