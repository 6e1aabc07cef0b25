"""What sharpness-aware training is for, measured: functions of (model, loss, data) that return a frozen result."""

from lookbehind.measure.noise import NoisyAccuracy, noisy_accuracy
from lookbehind.measure.sharpness import Sharpness, m_sharpness

__all__ = ["NoisyAccuracy", "Sharpness", "m_sharpness", "noisy_accuracy"]
