"""One thread for each process: on a small or busy machine more threads make small tensors slower, not faster."""

import torch

torch.set_num_threads(1)
