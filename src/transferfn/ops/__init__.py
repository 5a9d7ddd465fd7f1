"""Filtering signals."""

from __future__ import annotations

from transferfn.ops.filter import linear_filter as linear_filter
from transferfn.ops.filtfilt import filtfilt as filtfilt
from transferfn.ops.filtfilt import sosfiltfilt as sosfiltfilt
from transferfn.ops.lfilter import lfilter as lfilter
from transferfn.ops.lfilter import lfilter_zi as lfilter_zi
from transferfn.ops.lfilter import sosfilt as sosfilt
from transferfn.ops.lfilter import sosfilt_zi as sosfilt_zi
from transferfn.ops.lfilter import state_to_zi as state_to_zi
from transferfn.ops.lfilter import zi_to_state as zi_to_state
from transferfn.ops.state_space import state_space_filter as state_space_filter
