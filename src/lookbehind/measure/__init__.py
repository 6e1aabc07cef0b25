"""Measurements: functions of (model, loss, data) that return a frozen result."""

from lookbehind.measure.alpha import AlphaTrace, alpha_trace
from lookbehind.measure.density import SpectralDensity, spectral_density
from lookbehind.measure.landscape import LossSlice, loss_slice
from lookbehind.measure.noise import NoisyAccuracy, noisy_accuracy
from lookbehind.measure.quantisation import QuantisedAccuracy, quantised_accuracy
from lookbehind.measure.rho import RhoRange, suggest_rho
from lookbehind.measure.sharpness import Sharpness, m_sharpness
from lookbehind.measure.spectrum import HessianTrace, TopEigenvalues, hessian_trace, top_eigenvalues

__all__ = [
    "AlphaTrace",
    "HessianTrace",
    "LossSlice",
    "NoisyAccuracy",
    "QuantisedAccuracy",
    "RhoRange",
    "Sharpness",
    "SpectralDensity",
    "TopEigenvalues",
    "alpha_trace",
    "hessian_trace",
    "loss_slice",
    "m_sharpness",
    "noisy_accuracy",
    "quantised_accuracy",
    "spectral_density",
    "suggest_rho",
    "top_eigenvalues",
]
