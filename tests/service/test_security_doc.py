"""Each proof that docs/security.md names is a test that there is."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text()
PROOF = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_proof_is_a_test() -> None:
    proofs = PROOF.findall(TEXT)
    assert len(proofs) > 40
    for file, name in proofs:
        names = {
            node.name
            for node in ast.walk(ast.parse((ROOT / file).read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in names, f"{file} has no {name}"
        assert name.startswith("test_")


def test_every_threat_has_a_proof() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| threat |")]
    assert len(rows) > 20
    assert [row for row in rows if not PROOF.search(row)] == []
