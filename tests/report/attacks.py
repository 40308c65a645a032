"""Captions and addresses that try to be more than text."""

from __future__ import annotations

ATTACKS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style></title></textarea><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "{{ 7 * 7 }} {% include 'x' %} ${7*7}",
    "<!--",
    "-->",
    "]]>",
    "&lt;b&gt; &amp; &#0; &#x202e;",
    "\u202egnp.exe \u2066 \u200f שלום עולם مرحبا",
    "a\x00b\x1b[31m\x08\x7f\x85",
    "\ufeff\ufffe\U000e0001 \U0001f469\u200d\U0001f680",
    "<a href=https://evil.example>x</a> https://evil.example/\n\r\n\u2028x",
    '<meta http-equiv="refresh" content="0;url=https://evil.example">',
    "<base href=https://evil.example/><link rel=stylesheet href=//evil.example/x.css>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "Z" + "\u0301" * 500,
    "x" * 1_000_000,
]
