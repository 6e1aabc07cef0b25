"""Translation from German to English: data, tokens, minibatches by tokens, loss, learning rates, search, BLEU."""
