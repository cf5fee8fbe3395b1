"""The alerts rest on what processes really show: every metric, label and value that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from elicense.access.alarms import Alarm
from registry.quarantine_model import Kind
from tests.support.served import pair

ALERTS = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "alerts.yml"
OF_PROMETHEUS = {"up"}
_WORDS = re.compile(r'"[^"]*"|\[[^\]]*\]|\b(?:by|without) \([^)]*\)')
_NAME = re.compile(r"(?<![\w$])[a-z_][a-z0-9_]*(?![\w]| *\()")
_SELECTOR = re.compile(r"([a-z_][a-z0-9_]*)\{([^}]*)\}")
_VALUES: dict[tuple[str, str], set[str]] = {
    ("elicense_access_alarms_total", "kind"): {alarm.value for alarm in Alarm},
    ("elicense_conflicts", "state"): {"open", "overdue", "decided"},
    ("elicense_quarantined", "kind"): {kind.name for kind in Kind},
}


def expressions() -> list[str]:
    """The expressions of all rules."""
    text = re.sub(r">-\n\s+", "", ALERTS.read_text(encoding="utf-8"))
    found = re.findall(r"^ +expr: (.+)$", text, re.MULTILINE)
    assert len(found) == text.count("- alert: ") > 10
    return found


def names_of(expression: str) -> set[str]:
    """The metrics that an expression names."""
    bare = re.sub(r"\{[^}]*\}", "", _WORDS.sub("", expression))
    return set(_NAME.findall(bare)) - {"or", "and", "unless"}


def test_the_names_of_an_expression_are_its_metrics_alone() -> None:
    assert names_of('sum by (a, b) (rate(first_total{c=~"x|y"}[5m])) > 0 or min(second) < 1') == {
        "first_total",
        "second",
    }


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Everything that a registry and a city show, a process each."""
    with pair(tmp_path_factory.mktemp("served"), workers=1) as served:
        return "\n".join(node.metrics(0, served.police) for node in (served.registry, served.city))


def test_every_metric_of_an_alert_is_shown_by_a_process(shown: str) -> None:
    families = dict(re.findall(r"^# TYPE (\S+) (\S+)$", shown, re.MULTILINE))
    known = {name for name, kind in families.items() if kind != "histogram"}
    known |= {f"{name}_{part}" for name, kind in families.items() if kind == "histogram" for part in ("bucket", "sum")}
    named = set().union(*map(names_of, expressions()))
    assert "elicense_conflicts" in named
    assert named - known == OF_PROMETHEUS


def test_every_label_of_an_alert_takes_the_values_that_it_asks_for(shown: str) -> None:
    for metric, selector in (found for expression in expressions() for found in _SELECTOR.findall(expression)):
        for label, value in re.findall(r'(\w+)=~?"([^"]*)"', selector):
            if (metric, label) in _VALUES:
                assert set(value.split("|")) <= _VALUES[metric, label]
            else:
                assert re.search(rf'^{metric}\{{[^}}]*\b{label}="', shown, re.MULTILINE), (metric, label)


def test_a_node_that_serves_says_so_for_each_service(shown: str) -> None:
    assert shown.count('elicense_serving{service="node"} 1.0') == 2
    assert 'elicense_serving{service="elicense.v1.IssuanceService"} 1.0' in shown
    assert not re.search(r"^elicense_serving\S+ 0", shown, re.MULTILINE)
    assert re.search(r'^elicense_access_shipped_age_seconds\{node="city-320500"\} \d', shown, re.MULTILINE)
