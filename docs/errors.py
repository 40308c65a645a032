"""Make `docs/errors.md`: every error code of an image and every exit code, each with cause and cure.

    python docs/errors.py

A test holds the page against what this writes, and the codes against those of the program.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.commands.outcome import REMEDIES
from pipeline.errors import CODES, Exit

PAGE = Path(__file__).with_name("errors.md")
CAUSES = {
    "dns": "the image's host could not be found",
    "connect": "the image's host could not be reached, or broke off",
    "timeout": "the image's host was too slow",
    "http_4xx": "the image's host refuses it or has it no longer",
    "http_5xx": "the image's host is broken",
    "blocked_address": "a private or loopback address that `images.allow` does not name",
    "blocked_path": "a file outside of the folder that the manifest may read",
    "too_large": "more bytes than are fetched, or a 413 of the service for this image alone",
    "too_many_pixels": "more pixels than are decoded",
    "unsupported_format": "no picture, or of a kind that is not read (images.md)",
    "corrupt": "the file is empty, cut off or damaged",
    "noai": "its host says `X-Robots-Tag: noai`",
    "missing_file": "there is no such file, object or member",
    "bad_uri": "the cell names no place of an image",
    "refused": "the model will not, in its words too (\"I'm sorry, but I can't\"), or the service refused the request with a 4xx while it answered others",
    "safety": "a filter or moderation, before or after the model (`content_filter`, `…SAFETY`, `…RECITATION`, `sensitive`)",
    "image_rejected": "the service cannot read or fetch this image while it answers others",
    "empty": 'an answer without a caption, each time; "only reasoning came" when the server put all of it there',
    "malformed": "an answer that cannot be read, each time",
    "too_long": "the prompt is beyond the model's context, or the caption beyond `endpoint.max_reply`",
    "server_error": "the service failed each time (5xx, a broken connection, a finish word such as `abort`)",
    "timeout_service": "no answer within `endpoint.timeout`, or a 408, 504, 522, 524",
    "truncated": "`max_tokens` was used up before the first word, mostly by thinking",
    "doubted": "its answer came with more on the same connection and may be another image's",
    "check_failed": "its caption did not pass a check whose action is `fail`; the words are in `caption_raw` (captions.md)",
    "bad_row": "the manifest's row cannot be read",
}
ENDS = {
    Exit.DONE: (
        "every image has a caption, or no more than `run.max_failed` lack one; `--limit`, a pilot or a shard ended as asked",
        "",
    ),
    Exit.SOME_FAILED: (
        "images failed for good, or with the same 500 each time while others were answered",
        "`status JOB --failed` names them; the table above says what helps",
    ),
    Exit.USAGE: ("the command line", "`--help`"),
    Exit.MANIFEST: (
        "the manifest cannot be read, has no image column, or changed while it was read",
        "the line says which; run again",
    ),
    Exit.SERVICE: (
        "the service refuses its first ten requests, has no such model, or was out for longer than `endpoint.patience`",
        "`check JOB` and `models JOB`",
    ),
    Exit.BUG: ("a fault of this program", "the traceback is in `_state/logs`; please report it"),
    Exit.OUTPUT: (
        "the output cannot be written, is full, or is damaged",
        "make room, or `verify JOB --repair`",
    ),
    Exit.LATER: (
        "work is left for a reason that time cures: quota or cost cap spent, failures that pass",
        "run again after the instant that the line tells, or let `nightly` do it",
    ),
    Exit.HELD: ("another run holds this output", "wait for it"),
    Exit.KEY: (
        "the key is missing or refused, credit is gone, or a price where `endpoint.allow_paid` is false",
        "the line names the variable or the key to set",
    ),
    Exit.JOB: (
        "the job file is wrong, or the run would ask everything again",
        "the line names the key; `--yes` goes on",
    ),
    Exit.SIGHUP: ("SIGHUP, after what was in flight", "run again"),
    Exit.SIGINT: ("Ctrl-C, after what was in flight", "run again"),
    Exit.SIGTERM: ("SIGTERM, after what was in flight", "run again"),
}
HEAD = """\
# Errors

Made by `python docs/errors.py` from the codes of the program. Every image without a caption has a record in
`failures/` with one code of this list and the words that came with it. Those that pass are asked again by
the next run, the others only with `--retry CODE` or `--retry-failed`; a local file that was `corrupt` or of an
`unsupported_format` also once it is replaced (not where `images.identity` names a column).

| code | what happened | what helps | passes |
| --- | --- | --- | --- |
"""
FLAGS = """
No image fails for what the service does to all of them: see "Whose fault a refusal is" in services.md.
A caption whose answer ended with a finish word that is not known is kept and has the flag
`finish:WORD`; one that was cut at `max_tokens` has the flag `truncated`.

## Exit codes
The reason is the first part of the last line.

| code | what happened | what helps |
| --- | --- | --- |
"""


def page() -> str:
    """The page, in the order of the program's lists."""
    codes = [
        f"| `{code}` | {CAUSES[code]} | {REMEDIES[code]} |{'' if lasting else ' yes'} |"
        for code, lasting in CODES.items()
    ]
    ends = [f"| {int(code)} | {cause} | {cure} |" for code in Exit for cause, cure in [ENDS[code]]]
    return HEAD + "\n".join(codes) + "\n" + FLAGS + "\n".join(ends) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
