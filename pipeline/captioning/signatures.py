"""The query parameters that sign a URL, service by service.

From the services' own documents: Amazon S3 "Authenticating Requests: Using Query Parameters"
(version 4) and "query string request authentication alternative" (version 2), Google Cloud
Storage "Signed URLs" (V4 and V2), Azure Storage "Create a service / account / user delegation
SAS", CloudFront "signed URLs using a canned / custom policy". Names are case-sensitive there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to sign a URL."""

    #: Without any one of these the URL is not signed this way.
    proof: frozenset[str]
    #: These and the proof go together.
    others: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        return self.proof | self.others


def _signature(proof: str, others: str = "") -> Signature:
    return Signature(frozenset(proof.split()), frozenset(others.split()))


#: A SAS may leave its permissions to a stored policy (`si`), and an account SAS has no `sr`.
_AZURE = "se si sp sr ss srt st spr sip skoid sktid skt ske sks skv saoid suoid scid sdd ses"

SIGNATURES: tuple[Signature, ...] = (
    _signature(
        "X-Amz-Algorithm X-Amz-Credential X-Amz-Date X-Amz-Expires X-Amz-SignedHeaders "
        "X-Amz-Signature",
        "X-Amz-Security-Token",
    ),
    _signature("AWSAccessKeyId Signature Expires", "x-amz-security-token"),
    _signature(
        "X-Goog-Algorithm X-Goog-Credential X-Goog-Date X-Goog-Expires X-Goog-SignedHeaders "
        "X-Goog-Signature"
    ),
    _signature("GoogleAccessId Signature Expires"),
    _signature("sv sig se", _AZURE),
    _signature("sv sig si", _AZURE),
    _signature("Key-Pair-Id Signature Expires"),
    _signature("Key-Pair-Id Signature Policy"),
)
#: One of these stands in every signed query: the quick look before the exact one.
PROOFS = ("X-Amz-Signature=", "X-Goog-Signature=", "Signature=", "sig=")
