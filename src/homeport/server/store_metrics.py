"""Metrics of what is remembered: written, dropped, waiting."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from homeport.store.recorder import Recorder


class StoreMetrics(Collector):
    """Looks at the recorder when somebody asks."""

    def __init__(self, recorder: Recorder, registry: CollectorRegistry) -> None:
        self._recorder = recorder
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        recorder = self._recorder
        yield CounterMetricFamily(
            "homeport_usage_written_total",
            "Records of requests that the database has taken",
            recorder.written,
        )
        dropped = CounterMetricFamily(
            "homeport_usage_dropped_total",
            "Records and captures that are lost, by why",
            labels=("why",),
        )
        for why, count in recorder.dropped.items():
            dropped.add_metric([why], count)
        yield dropped
        yield GaugeMetricFamily(
            "homeport_usage_queued", "Records that wait in memory", recorder.queued
        )
        yield GaugeMetricFamily(
            "homeport_usage_spooled_bytes",
            "Records that wait on disk because the database did not take them",
            recorder.spooled_bytes,
        )
        yield GaugeMetricFamily(
            "homeport_store_up", "1 while the database takes records", recorder.is_up
        )
