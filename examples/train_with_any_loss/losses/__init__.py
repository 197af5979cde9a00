"""One small file for each loss of the literature.

Each is a module made from the embedding's size and the number of people, and called with
embeddings (n, size) of any length and labels (n,); it returns a scalar.
"""
