"""Adapters by which trainers of other libraries work with optimizers that take several gradients a step.

Each module needs its library and is imported by name, such as ``lookbehind.integrations.transformers``.
"""
