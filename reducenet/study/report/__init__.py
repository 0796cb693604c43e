"""From the store to a page: rows, what paired seeds allow to say, sentences, figures, published runs."""
