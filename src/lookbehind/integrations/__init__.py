"""What trainers of other libraries need to work with optimizers that take more than one gradient a step.

Each module needs its library and is imported by name, such as ``lookbehind.integrations.transformers``.
"""
