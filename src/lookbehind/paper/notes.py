"""Notes that several items share: what the paper leaves unsaid, or that the small scales change."""

SELECTED = (
    "As in the paper, a cell is the setting of the best mean test accuracy over seeds, and of each run its best epoch "
    "on the test images. The table selected on validation images chooses both on held-out images, and so do those at "
    "equal budget. The paper holds no images out, so scale paper has no such table and chooses on test images."
)
BATCH_NORM = "Batch-norm statistics follow every forward pass, perturbed ones too, as in the published code."
DECAY = "Weight decay at scale paper is the paper's 1e-4; the published script's default is 5e-4."
ADAPTIVE = "α* is taken over all weights together, as eq. 6-7 say; the published code takes it for each tensor."
SMALL = (
    "At scale cpu tables have k = 2, five seeds, α ∈ {0.5, 0.8} on the digits, and α = 0.8 and one ρ on Fashion-MNIST: "
    "with ten minutes to spend, more seeds tell methods apart, and a larger grid does not. Figures have three of the "
    "seeds and larger k. The values of ρ are the paper's for CIFAR-100. Noisy labels, and no more than 500 images of "
    "Fashion-MNIST, let small nets overfit within few epochs: before that there is nothing for SAM to prevent."
)
THIN = "At scale cpu the grid on the digits is k ∈ {2, 5}, α ∈ {0.5, 0.8}, with three seeds."
