"""What sharpness-aware training is for, measured: functions of (model, loss, data) that return a frozen result."""

from lookbehind.measure.alpha import AlphaTrace, alpha_trace
from lookbehind.measure.noise import NoisyAccuracy, noisy_accuracy
from lookbehind.measure.rho import RhoRange, suggest_rho
from lookbehind.measure.sharpness import Sharpness, m_sharpness

__all__ = [
    "AlphaTrace",
    "NoisyAccuracy",
    "RhoRange",
    "Sharpness",
    "alpha_trace",
    "m_sharpness",
    "noisy_accuracy",
    "suggest_rho",
]
