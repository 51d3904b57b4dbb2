"""The reasoning engine on a GPU: weights of the shape of Mistral 7B, made on the spot, and the table."""
