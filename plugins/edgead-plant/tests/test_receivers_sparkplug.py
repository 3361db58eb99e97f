"""A broker that sends hostile packets to the Sparkplug sink: no thread ends, and once it is decent all arrives."""

from __future__ import annotations

import pytest

pytest.importorskip("paho.mqtt", reason="SPARKPLUG NOT TESTED: pip install 'edgead-plant[sparkplug]'")
pytest.importorskip("google.protobuf", reason="SPARKPLUG NOT TESTED: pip install 'edgead-plant[sparkplug]'")
from hostile.mqtt_broker import BREAKS, KINDS
from hostile.test_receivers_mqtt import attacked

from edgead_plant.sinks.sparkplug import SparkplugOptions


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, *BREAKS])
def test_a_broker_that_means_harm(kind, caplog):
    attacked(kind, caplog, options=SparkplugOptions, kind="sparkplug", group="plant", node="line7")
