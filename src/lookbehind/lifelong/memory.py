"""The replay memory: a uniform sample of all that was pushed (reservoir sampling)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Minibatch = tuple[Tensor, Tensor]


class Reservoir:
    """R: keeps ``capacity`` of the images that were pushed, each pushed one with the same probability.

    Algorithm R of Vitter (1985): the n-th image pushed, n > capacity, takes the place of a random one with probability
    capacity / n. Images are kept as they are pushed: augmented and normalised, as Gupta et al. (2020) do.

    Args:
        capacity: how many images fit. 0: none are kept. Default 200.
        seed: decides what is kept and what is drawn. Default 0.
        replacement: draw with replacement, as the code of Gupta et al. does. False: as Chaudhry et al. (2019) do.
            Default True.
        published: accept the n-th with probability capacity / (n + 1), as the published code of Gupta et al. does,
            which prefers early images slightly. Default False.

    Raises:
        ValueError: if ``capacity`` is negative.

    Example:
        >>> import torch
        >>> memory = Reservoir(3)
        >>> memory.push(torch.arange(10.0), torch.arange(10))
        >>> len(memory), memory.seen
        (3, 10)
        >>> images, labels = memory.joined(torch.tensor([20.0]), torch.tensor([20]), 2)
        >>> len(images), labels[-1].item()
        (3, 20)

    """

    def __init__(
        self, capacity: int = 200, *, seed: int = 0, replacement: bool = True, published: bool = False
    ) -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 0:
            raise ValueError(f"capacity is {capacity!r}; a whole number of images from 0 on is needed")
        self.capacity, self.replacement, self.published = capacity, replacement, published
        self.seen = 0  # images pushed so far
        self._generator = torch.Generator().manual_seed(seed)
        self._images: Tensor | None = None  # with room for ``capacity``
        self._labels: Tensor | None = None

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def push(self, images: Tensor, labels: Tensor) -> None:
        """Show images to the memory, one after the other, which keeps them or not.

        Args:
            images: shape (n, ...).
            labels: shape (n,).

        Raises:
            ValueError: if they are not shaped like those that it holds.

        """
        if not self.capacity or not len(images):
            return
        kept_images, kept_labels = self._room(images, labels)
        for image, label in zip(images.detach(), labels, strict=True):
            place = self._place()
            if place is not None:
                kept_images[place] = image
                kept_labels[place] = label

    def _place(self) -> int | None:
        self.seen += 1
        if self.seen <= self.capacity:
            return self.seen - 1
        place = int(torch.randint(self.seen + self.published, (), generator=self._generator))
        return place if place < self.capacity else None

    def joined(self, images: Tensor, labels: Tensor, n: int) -> Minibatch:
        """Return b_m = Sample(R) ∪ b: ``n`` images of the memory, or all if it has fewer, before those of b.

        Args:
            images: of the minibatch b, shape (m, ...).
            labels: shape (m,).
            n: how many to draw.

        """
        n = min(n, len(self))
        if not n:
            return images, labels
        if self.replacement:
            index = torch.randint(len(self), (n,), generator=self._generator)
        else:
            index = torch.randperm(len(self), generator=self._generator)[:n]
        kept_images, kept_labels = self._room(images, labels)
        index = index.to(kept_images.device)
        return torch.cat([kept_images[index], images]), torch.cat([kept_labels[index], labels])

    def _room(self, images: Tensor, labels: Tensor) -> Minibatch:
        """Return the tensors that hold the memory, made or moved to where the images are."""
        if self._images is None or self._labels is None:
            self._images = images.new_empty((self.capacity, *images.shape[1:]))
            self._labels = labels.new_empty((self.capacity,))
        if self._images.shape[1:] != images.shape[1:]:
            held = tuple(self._images.shape[1:])
            raise ValueError(f"images have shape {tuple(images.shape[1:])}; the memory holds images of shape {held}")
        self._images, self._labels = self._images.to(images.device), self._labels.to(labels.device)
        return self._images, self._labels

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept, and the state of the random numbers."""
        state: dict[str, Any] = {"seen": self.seen, "generator": self._generator.get_state()}
        if self._images is not None and self._labels is not None:
            state |= {"images": self._images[: len(self)].clone(), "labels": self._labels[: len(self)].clone()}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what was kept.

        Raises:
            ValueError: if it is not what a memory of this capacity holds.

        """
        held = len(state["images"]) if "images" in state else 0
        if held != min(state["seen"], self.capacity):
            raise ValueError(
                f"the state holds {held} images after {state['seen']} pushed; a memory of capacity {self.capacity} "
                "holds another number: use the capacity that it was saved with"
            )
        self.seen, self._images, self._labels = state["seen"], None, None
        self._generator.set_state(state["generator"].cpu())
        if held:
            images, labels = self._room(state["images"], state["labels"])
            images[:held], labels[:held] = state["images"], state["labels"]
