"""Which frames of a camera are judged: all, one in an interval, those that are asked for, one for each part."""

from __future__ import annotations

from edgead.site.schema import EveryFrame, Gpio, Interval, PartInView, Software, TriggerSection
from edgead.triggers.contract import Trigger
from edgead.triggers.gpio import GpioTrigger
from edgead.triggers.part_in_view import PartInViewTrigger
from edgead.triggers.timing import EveryFrameTrigger, IntervalTrigger, SoftwareTrigger

__all__ = ["SoftwareTrigger", "Trigger", "open_trigger"]


def open_trigger(section: TriggerSection) -> Trigger:
    """Open the trigger that a section of the site file describes.

    Raises
    ------
    SettingsError
        Its line cannot be opened, or what it needs is not installed.
    """
    match section:
        case EveryFrame():
            return EveryFrameTrigger()
        case Interval():
            return IntervalTrigger(section.every_s)
        case Software():
            return SoftwareTrigger()
        case Gpio():
            return GpioTrigger(section)
        case PartInView():
            return PartInViewTrigger(section)
