"""Every alert fires when it should, is silent when it should not, and says what to do."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docker" / "prometheus" / "alerts.yml"
CASES = Path(__file__).with_name("alerts.test.yml")

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="Debian's prometheus is not installed")


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def promtool(*arguments: str | Path) -> str:
    result = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@needs_promtool
def test_the_rules_can_be_read() -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "rules", "--lint-fatal", RULES)


@needs_promtool
@pytest.mark.slow
def test_the_cases_hold() -> None:
    promtool("test", "rules", CASES)


def test_each_alert_has_a_case_of_either_kind() -> None:
    cases: dict[str, set[bool]] = {}
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        (expected,) = case["alert_rule_test"]
        fires = bool(expected["exp_alerts"])
        assert case["name"].startswith(f"{expected['alertname']} {'fires' if fires else 'is silent'}: ")
        cases.setdefault(expected["alertname"], set()).add(fires)
    assert cases == {alert["alert"]: {True, False} for alert in alerts()}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_what_it_means_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"].keys() == {"summary", "description", "runbook"}
    assert alert["annotations"]["runbook"] == f"docs/operations.md#{alert['alert'].lower()}"
    guides = "".join(page.read_text() for page in sorted((ROOT / "docs").glob("operations*.md")))
    (section,) = re.findall(rf"^### {alert['alert']}\n+(.*?)(?=^#|\Z)", guides, re.MULTILINE | re.DOTALL)
    assert len(section.split()) > 20
